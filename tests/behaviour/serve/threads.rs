//! Several threads with one runner.

use std::sync::Arc;

use tch::nn::ModuleT;

use crate::common::{config, forward, images, network, off};

#[test]
fn four_threads_run_and_compile_side_by_side() {
    let net = network();
    let runner = config().shapes(3).runner(&net, &images(&[1, 3, 8, 8], 0), forward).unwrap();
    let runner = Arc::new(runner);
    // More batches than are kept, so that shapes go while others are run.
    let cases: Vec<Vec<_>> = (0..4)
        .map(|thread| {
            let case = |round: i64| {
                let input = images(&[1 + (thread + round) % 5, 3, 8, 8], 7 * thread + round);
                let expected = tch::no_grad(|| net.forward_t(&input, false));
                (input, expected)
            };
            (0..10).map(case).collect()
        })
        .collect();
    let threads: Vec<_> = cases
        .into_iter()
        .map(|cases| {
            let runner = Arc::clone(&runner);
            std::thread::spawn(move || {
                let rounds = (0..20).flat_map(|_| &cases);
                rounds
                    .map(|(input, expected)| off(&runner.run(input).unwrap(), expected))
                    .fold(0., f64::max)
            })
        })
        .collect();
    for thread in threads {
        let worst = thread.join().unwrap();
        assert!(worst < 1e-5, "{worst}");
    }
    assert_eq!(runner.shapes().len(), 3);
}

#[test]
fn a_runner_may_be_shared_and_sent() {
    fn is<T: Send + Sync + 'static>() {}
    is::<slim_serve::Runner>();
    is::<slim_serve::Error>();
}
