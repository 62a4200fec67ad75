//! Forward passes of the same slimmed network, by PyTorch and by slim.

use anyhow::{Context, Result};
use slim_cli::network::Net;
use slim_runtime::{Prunable, Slimming, checkpoint, deploy};
use tch::Tensor;
use tch::nn::ModuleT;

use super::Setup;
use crate::agreement::same_output;
use crate::network::Network;
use crate::peer::{Input, Model, Request};
use crate::report::{Measure, Row};
use crate::subject::{RATIO, Subject};
use crate::timing::{Contender, in_turn, passes, timed};

const BATCHES: [i64; 2] = [1, 8];
/// The tolerance of outputs, as a share of the largest: rounding of single precision over a hundred
/// layers.
const TOLERANCE: f64 = 1e-3;

const OVER_EAGER: f64 = 1.5;
const OF_OPTIMIZED: f64 = 1.1;
const OVER_DENSE: f64 = 2.8;

pub(super) fn rows(setup: &Setup, network: Network) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, slimming) in
        [("", Slimming::ratio(RATIO)), (", in 16s", Slimming::ratio(RATIO).round_to(16))]
    {
        for batch in BATCHES {
            let contest = Contest::new(setup, network, &slimming, batch)?;
            contest.agree().with_context(|| format!("{network}{name}, {batch} images"))?;
            rows.extend(contest.rows(&format!("{network}{name}, batch {batch}"))?);
        }
    }
    Ok(rows)
}

/// One slimmed network, on both sides.
struct Contest<'s> {
    setup: &'s Setup<'s>,
    slimmed: Subject,
    deployed: Subject,
    images: Tensor,
    batch: i64,
}

impl<'s> Contest<'s> {
    fn new(setup: &'s Setup, network: Network, slimming: &Slimming, batch: i64) -> Result<Self> {
        let slim = |subject: &mut Subject| subject.net.apply(&subject.net.plan(slimming)?);
        let (dense, narrow) = (setup.file("dense.safetensors"), setup.file("slimmed.safetensors"));
        let mut slimmed = Subject::new(network, setup.options.device)?;
        slimmed.save(&dense)?;
        slim(&mut slimmed)?;
        slimmed.save(&narrow)?;
        let images = slimmed.images(batch);
        let mut deployed = Subject::new(network, setup.options.device)?;
        slim(&mut deployed)?;
        deploy(&mut deployed.net, &images, |net, images| net.forward_t(images, false))?;

        setup.show(&images)?;
        setup.load(Model::Dense, network, &dense)?;
        setup.load(Model::Slimmed, network, &narrow)?;
        setup.ask(&Request::Optimize {
            model: Model::Optimized,
            of: Model::Slimmed,
            input: Input::Images,
        })?;
        Ok(Self { setup, slimmed, deployed, images, batch })
    }

    /// Checks that all contenders compute the same output.
    fn agree(&self) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let expected = self.output(Model::Slimmed)?;
        same_output("PyTorch optimised", &expected, &self.output(Model::Optimized)?, TOLERANCE)?;
        same_output(
            "slim",
            &expected,
            &self.slimmed.net.forward_t(&self.images, false),
            TOLERANCE,
        )?;
        same_output(
            "slim deployed",
            &expected,
            &self.deployed.net.forward_t(&self.images, false),
            TOLERANCE,
        )
    }

    fn output(&self, model: Model) -> Result<Tensor> {
        let file = self.setup.file("output.safetensors");
        self.setup.ask(&Request::Output { model, input: Input::Images, file: file.clone() })?;
        checkpoint::tensors(&file)?.remove("output").context("PyTorch's side has written no output")
    }

    fn rows(&self, name: &str) -> Result<Vec<Row>> {
        let [dense, eager, optimized] =
            [Model::Dense, Model::Slimmed, Model::Optimized].map(|model| {
                self.setup.theirs(move |passes| Request::Forward {
                    model,
                    input: Input::Images,
                    passes,
                })
            });
        let contenders = vec![
            dense,
            eager,
            optimized,
            self.ours(&self.slimmed.net),
            self.ours(&self.deployed.net),
        ];
        let turns = in_turn(self.setup.options.rounds, contenders)?;
        let [dense, eager, optimized, slimmed, deployed] =
            [0, 1, 2, 3, 4].map(|index| turns[index].as_slice());
        let over_dense =
            (self.slimmed.network == Network::Resnet50 && self.batch == 1).then_some(OVER_DENSE);
        let what = format!("deployed {name}");
        Ok(vec![
            Row::new(format!("slimmed {name}"), slimmed, Measure::Speed, "PyTorch", eager),
            Row::new(&what, deployed, Measure::Speed, "PyTorch", eager).target(OVER_EAGER),
            Row::new(&what, deployed, Measure::Time, "PyTorch optimised", optimized)
                .target(OF_OPTIMIZED),
            Row::new(&what, deployed, Measure::Speed, "PyTorch, dense", dense).target(over_dense),
        ])
    }

    fn ours<'c>(&'c self, net: &'c Net) -> Contender<'c> {
        passes(|| {
            let _no_grad = tch::no_grad_guard();
            Ok(timed(self.setup.options.device, || Ok(net.forward_t(&self.images, false)))?.1)
        })
    }
}
