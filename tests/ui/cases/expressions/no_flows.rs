use slim_runtime::Prunable;
use tch::nn::{BatchNorm, Conv2D};

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = [])]
struct Empty(Conv2D);

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = self.conv)]
struct SelfField {
    conv: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = -conv)]
struct Negated {
    conv: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = crate::conv)]
struct Path {
    conv: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output = conv.left)]
struct NamedPart {
    conv: Conv2D,
}

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output)]
struct Bare(Conv2D);

#[derive(Prunable)]
#[prune(sequential)]
#[prune(output(bn))]
struct List {
    conv: Conv2D,
    bn: BatchNorm,
}

fn main() {}
