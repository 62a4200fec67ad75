//! Shared parts of the networks for 32×32 images: layers initialised as in the reference
//! implementation of Network Slimming, and widths that a file of the reference gives.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use slim_runtime::nn::{BatchNorm, ChannelSelect, Conv2D, batch_norm2d, channel_select, conv2d};
use slim_runtime::{Cfg, KeepList, Stage};
use tch::nn;

/// A `kernel`×`kernel` convolution with padding: only its stride changes the size of the image.
pub(super) fn conv(p: nn::Path, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Conv2D {
    let stdev = (2. / (kernel * kernel * outputs) as f64).sqrt();
    let ws_init = nn::Init::Randn { mean: 0., stdev };
    conv2d(
        p,
        inputs,
        outputs,
        kernel,
        nn::ConvConfig { stride, padding: kernel / 2, bias: false, ws_init, ..Default::default() },
    )
}

/// A batch norm whose γ all start at one value, so that the ranking is learned and not drawn.
pub(super) fn batch_norm(p: nn::Path, width: i64) -> BatchNorm {
    batch_norm2d(
        p,
        width,
        nn::BatchNormConfig { ws_init: nn::Init::Const(0.5), ..Default::default() },
    )
}

/// The channels that the selections of a narrow network pick from their streams, by field path:
/// `layer1.0.select`.
pub type Selections = BTreeMap<String, KeepList>;

/// The widths of a network, taken one after the other while the network is built.
pub(super) struct Widths<'w> {
    cfg: &'w Cfg,
    taken: usize,
    /// `None` if every selection picks all channels of its stream.
    selections: Option<&'w Selections>,
    selected: usize,
}

impl<'w> Widths<'w> {
    /// Widths of a dense network, whose selections pick all channels.
    pub(super) fn dense(cfg: &'w Cfg) -> Self {
        Self { cfg, taken: 0, selections: None, selected: 0 }
    }

    pub(super) fn narrow(cfg: &'w Cfg, selections: &'w Selections) -> Self {
        Self { selections: Some(selections), ..Self::dense(cfg) }
    }

    /// The width of the next batch norm, inside a block; at most `most`.
    pub(super) fn next(&mut self, most: i64) -> Result<i64> {
        let position = self.taken;
        self.taken += 1;
        match self.cfg.stages().get(position) {
            Some(&Stage::Channels(width)) if (1..=most).contains(&width) => Ok(width),
            Some(stage) => bail!(
                "the cfg has {stage} in place {}, where the network has 1 to {most} channels",
                position + 1
            ),
            None => {
                bail!("the cfg ends after {position} widths, and the network has more batch norms")
            }
        }
    }

    /// The next selection from a stream, and the number of channels that it picks, which is the
    /// width of the batch norm after it.
    pub(super) fn select(&mut self, p: &nn::Path, stream: i64) -> Result<(ChannelSelect, i64)> {
        let (width, all) = (self.next(stream)?, channel_select(stream));
        let Some(selections) = self.selections else { return Ok((all, width)) };
        let path = p.components().chain(["select"]).collect::<Vec<_>>().join(".");
        let kept =
            selections.get(&path).with_context(|| format!("nothing says what `{path}` selects"))?;
        self.selected += 1;
        let end = kept.last().map_or(0, |last| last + 1);
        ensure!(
            end as i64 <= stream,
            "`{path}` selects channel {} of a stream of {stream}",
            end.saturating_sub(1)
        );
        ensure!(
            kept.len() as i64 == width,
            "`{path}` selects {} channels, and the cfg says {width}",
            kept.len()
        );
        Ok((all.with_kept(kept.iter().map(|position| position as i64).collect::<Vec<_>>())?, width))
    }

    /// Checks that all widths and all selections are used.
    pub(super) fn end(&self) -> Result<()> {
        let widths = self.cfg.stages().len();
        ensure!(
            self.taken == widths,
            "the cfg has {widths} widths, and the network has {} batch norms",
            self.taken
        );
        let selections = self.selections.map_or(0, Selections::len);
        ensure!(
            self.selected == selections,
            "there are {selections} selections, and the network has {}",
            self.selected
        );
        Ok(())
    }
}
