use slim_runtime::Prunable;
use tch::nn::{Conv2D, Func, LSTM, Sequential};

#[derive(Prunable)]
#[prune(sequential)]
struct Net<'a> {
    conv: Conv2D,
    body: Sequential,
    lstm: LSTM,
    func: Func<'a>,
}

fn main() {}
