//! Serves a slimmed ResNet-18 from several threads, and prints what was compiled.

use std::thread;
use std::time::Instant;

use anyhow::Result;
use slim_cli::model::Model;
use slim_cli::network::{Arch, Net, Spec};
use slim_runtime::Prunable;
use slim_serve::RunnerConfig;
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};

const THREADS: i32 = 2;

fn main() -> Result<()> {
    tch::manual_seed(0);
    let mut model = Model::new(Spec::new(Arch::Resnet18, None, None, 10)?, Device::Cpu)?;
    model.draw_scales();
    println!("{}", model.net.slim(0.5)?);

    // Each serving thread computes on its share of the cores.
    let cores = i32::try_from(thread::available_parallelism()?.get())?;
    tch::set_num_threads((cores / THREADS).max(1));
    let images = |batch: i64| Tensor::f_rand([batch, 3, 64, 64], (Kind::Float, Device::Cpu));
    let forward = |net: &Net, images: &Tensor| net.forward_t(images, false);
    let config = RunnerConfig::new().batches([1, 4]).shapes(4);
    let runner = config.runner(&model.net, &images(1)?, forward)?;

    let requests = (0..THREADS).map(|_| images(4)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    let served = thread::scope(|scope| {
        let serve = |images: Tensor| {
            let runner = &runner;
            scope.spawn(move || (0..50).try_for_each(|_| runner.run(&images).map(drop)))
        };
        let threads: Vec<_> = requests.into_iter().map(serve).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for done in served {
        done.map_err(|_| anyhow::anyhow!("a serving thread has panicked"))??;
    }
    let images_served = 4. * 50. * f64::from(THREADS);
    println!("{:.0} images a second", images_served / begun.elapsed().as_secs_f64());

    // A batch that was not asked for is compiled when it comes.
    println!("{:?}", runner.run(&images(3)?)?.size());
    println!("{}", runner.report());
    Ok(())
}
