//! slim against PyTorch and Torch-Pruning, on the same weights, threads and inputs, in turn.

mod copy;
mod forward;
mod prune;
mod sparsity;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use tch::{Device, Tensor};
use tempfile::TempDir;

use crate::network::Network;
use crate::peer::{Done, Input, Model, Peer, Request, Seconds};
use crate::report::Report;
use crate::timing::Contender;

/// A part of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Trace, plan and surgery, against Torch-Pruning
    Prune,
    /// The same, against copying what stays
    Copy,
    /// The sparsity step, as a share of a training step
    Sparsity,
    /// Forward passes of slimmed networks, against PyTorch
    Forward,
}

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Python with torch, torchvision, torch-pruning and safetensors.
    pub python: PathBuf,
    /// Where both sides compute.
    pub device: Device,
    /// Threads of both sides.
    pub threads: i32,
    /// Rounds in turn.
    pub rounds: usize,
    /// Which parts.
    pub parts: Vec<Part>,
    /// Which networks, of those that a part is about.
    pub networks: Vec<Network>,
}

/// Both sides, ready.
struct Setup<'o> {
    options: &'o Options,
    /// Contenders of one contest share it.
    peer: RefCell<Peer>,
    /// Files that go from one side to the other.
    folder: TempDir,
}

/// Makes all comparisons; `say` is told what is at work.
///
/// # Errors
/// The sides do not agree on what they leave or compute, by layer; one of them fails.
pub fn run(options: &Options, mut say: impl FnMut(&str)) -> Result<Report> {
    tch::set_num_threads(options.threads);
    let (peer, greeting) = Peer::start(&options.python, options.threads, options.device)?;
    ensure!(
        greeting.threads == options.threads,
        "PyTorch computes with {} threads instead of {}",
        greeting.threads,
        options.threads
    );
    let setup = Setup { options, peer: peer.into(), folder: tempfile::tempdir()? };
    let mut rows = Vec::new();
    for &part in &options.parts {
        for network in
            part.networks().iter().copied().filter(|network| options.networks.contains(network))
        {
            say(&format!("{}: {network}", part.about()));
            rows.extend(match part {
                Part::Prune => prune::rows(&setup, network)?,
                Part::Copy => copy::rows(&setup, network)?,
                Part::Sparsity => sparsity::rows(&setup, network)?,
                Part::Forward => forward::rows(&setup, network)?,
            });
            setup.ask(&Request::Forget)?;
        }
    }
    let notes =
        options.parts.iter().flat_map(|part| part.notes()).map(|&note| note.to_owned()).collect();
    let device = match options.device {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".to_owned(),
    };
    Ok(Report {
        device,
        threads: options.threads,
        rounds: options.rounds,
        versions: greeting.versions,
        rows,
        notes,
    })
}

impl Part {
    fn networks(self) -> &'static [Network] {
        match self {
            Part::Prune => &prune::NETWORKS,
            Part::Copy | Part::Forward => &[Network::Resnet50, Network::Vgg19],
            Part::Sparsity => &[Network::Vgg19],
        }
    }

    fn about(self) -> &'static str {
        match self {
            Part::Prune => "pruning, against Torch-Pruning",
            Part::Copy => "slimming, against copying what stays",
            Part::Sparsity => "the sparsity step, in a training step",
            Part::Forward => "forward passes, against PyTorch",
        }
    }

    /// What has to be known to read its rows.
    fn notes(self) -> &'static [&'static str] {
        match self {
            Part::Prune => &prune::NOTES,
            Part::Copy => &[
                "copying what stays: new tensors of the narrow shapes, filled from ones of the same shapes",
            ],
            Part::Sparsity => &[],
            Part::Forward => &[
                "PyTorch optimised: `torch.jit.optimize_for_inference` of a frozen trace, batch norms folded",
            ],
        }
    }
}

impl Setup<'_> {
    /// Has something done by PyTorch's side.
    fn ask(&self, request: &Request) -> Result<()> {
        self.peer.borrow_mut().ask::<Done>(request).map(|Done {}| ())
    }

    /// A contender on PyTorch's side, given what it runs by the number of passes.
    fn theirs<'c>(&'c self, request: impl Fn(usize) -> Request + 'c) -> Contender<'c> {
        Box::new(move |passes| Ok(self.peer.borrow_mut().ask::<Seconds>(&request(passes))?.seconds))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives PyTorch's side a network with the weights of a file.
    fn load(&self, model: Model, network: Network, weights: &Path) -> Result<()> {
        self.ask(&Request::Load {
            model,
            network: network.to_string(),
            classes: network.classes(),
            weights: weights.to_owned(),
        })
    }

    /// Gives PyTorch's side images.
    fn show(&self, images: &Tensor) -> Result<()> {
        let file = self.file("images.safetensors");
        Tensor::write_safetensors(&[("input", images.to_device(Device::Cpu))], &file)?;
        self.ask(&Request::Input { input: Input::Images, file })
    }
}
