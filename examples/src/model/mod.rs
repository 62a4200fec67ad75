//! A network with its weights, and where they come from and go to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use slim_runtime::checkpoint::{self, Writer};
use slim_runtime::{Cfg, Slimmed};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::network::{Arch, Net, Spec};

/// The key of the metadata under which a file says its [`Spec`].
const SPEC: &str = "network";

/// A network of the zoo with its weights, dense or slimmed.
#[derive(Debug)]
pub struct Model {
    /// The dense network that it is, or was.
    pub spec: Spec,
    /// The network.
    pub net: Net,
    /// Its variables.
    pub vs: VarStore,
    /// All that was removed of the dense network.
    pub slimmed: Option<Slimmed>,
    /// What a file has beside the network's variables and the network does not use, such as PyTorch's `num_batches_tracked`: carried through.
    pub beside: BTreeMap<String, Tensor>,
}

/// What a user says of the network in a file. What is left out, the file says, or the reference's default is taken.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Which network.
    pub arch: Option<Arch>,
    /// How deep.
    pub depth: Option<u32>,
    /// Widths of a VGG that are not those of its depth.
    pub cfg: Option<Cfg>,
    /// How many classes.
    pub classes: Option<i64>,
}

impl Model {
    /// A dense network with starting values. Its γ are all equal, as the reference's are.
    ///
    /// # Errors
    /// Those of [`Spec::build`].
    pub fn new(spec: Spec, device: Device) -> Result<Self> {
        let vs = VarStore::new(device);
        let net = spec.build(&vs.root())?;
        Ok(Self { spec, net, vs, slimmed: None, beside: BTreeMap::new() })
    }

    /// The network in a file.
    ///
    /// # Errors
    /// A file that is none of a network, or of another than the one that is wanted.
    pub fn read(path: &Path, wanted: &Wanted, device: Device) -> Result<Self> {
        let said = checkpoint::metadata(path, SPEC)?;
        let said: Option<Spec> = said.map(|text| serde_json::from_str(&text)).transpose().context("network")?;
        let spec = match said {
            Some(spec) => spec,
            None => {
                let arch = wanted.arch.context("which network is it? say --arch")?;
                Spec::new(arch, wanted.depth, wanted.cfg.clone(), wanted.classes.unwrap_or(10))?
            }
        };
        let mut model = Self::new(spec, device)?;
        if checkpoint::metadata(path, "plan")?.is_some() {
            model.slimmed = Some(checkpoint::load(path, &mut model.vs, &mut model.net)?);
        } else {
            checkpoint::load_weights(path, &mut model.vs)?;
        }
        Ok(model)
    }

    /// A writer of the network: its variables, what was removed of it, what it carries, and its [`Spec`].
    ///
    /// # Errors
    /// None that is known: a spec has a place in JSON.
    pub fn writer(&self) -> Result<Writer<'_>> {
        let spec = serde_json::to_string(&self.spec)?;
        let writer =
            Writer::new(&self.vs).tensors(self.beside.iter().map(|(name, tensor)| (name, tensor.shallow_clone()))).metadata(SPEC, spec);
        Ok(self.slimmed.iter().fold(writer, Writer::slimmed))
    }

    /// Draws γ from U(0, 1), so that something ranks the channels of a network that nobody has trained.
    pub fn draw_scales(&self) {
        let _no_grad = tch::no_grad_guard();
        for (name, mut variable) in self.vs.variables().into_iter().collect::<BTreeMap<_, _>>() {
            if name.ends_with("weight") && variable.dim() == 1 {
                let _ = variable.uniform_(0., 1.);
            }
        }
    }
}
