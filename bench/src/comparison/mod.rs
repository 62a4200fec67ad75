//! Compares slim with PyTorch and Torch-Pruning, in turn, on the same weights, threads and inputs.

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

/// The options of a comparison.
#[derive(Debug, Clone)]
pub struct Options {
    /// Python with torch, torchvision, torch-pruning and safetensors.
    pub python: PathBuf,
    /// The device on which both sides compute.
    pub device: Device,
    /// The number of threads of each side.
    pub threads: i32,
    /// The number of rounds; in each, all contenders take a turn.
    pub rounds: usize,
    /// The parts of the comparison that are run.
    pub parts: Vec<Part>,
    /// The networks that are compared. A part skips those that it does not cover.
    pub networks: Vec<Network>,
}

/// What all parts of a comparison share.
struct Setup<'o> {
    options: &'o Options,
    /// The process of PyTorch's side, which the contenders of one contest share.
    peer: RefCell<Peer>,
    /// The folder of the files that one side writes for the other.
    folder: TempDir,
}

/// Runs all comparisons. Calls `say` with a description of each before it starts.
///
/// # Errors
/// The sides do not leave the same weights, or do not compute the same outputs; the error names the
/// layers. Or one of the sides fails.
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

    /// The notes that explain the rows of this part.
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
    /// Sends a request to PyTorch's side, and waits until it is done.
    fn ask(&self, request: &Request) -> Result<()> {
        self.peer.borrow_mut().ask::<Done>(request).map(|Done {}| ())
    }

    /// A contender on PyTorch's side. `request` makes its request from the number of passes.
    fn theirs<'c>(&'c self, request: impl Fn(usize) -> Request + 'c) -> Contender<'c> {
        Box::new(move |passes| Ok(self.peer.borrow_mut().ask::<Seconds>(&request(passes))?.seconds))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has PyTorch's side load a network with the weights of a file.
    fn load(&self, model: Model, network: Network, weights: &Path) -> Result<()> {
        self.ask(&Request::Load {
            model,
            network: network.to_string(),
            classes: network.classes(),
            weights: weights.to_owned(),
        })
    }

    /// Has PyTorch's side read these images.
    fn show(&self, images: &Tensor) -> Result<()> {
        let file = self.file("images.safetensors");
        Tensor::write_safetensors(&[("input", images.to_device(Device::Cpu))], &file)?;
        self.ask(&Request::Input { input: Input::Images, file })
    }
}
