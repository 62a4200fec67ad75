//! Exact absorption into 1×1 convolutions, unpadded convolutions and linear layers, behind every
//! operation that channels can pass through.

use slim_runtime::{Prunable, model, nn};
use tch::Tensor;

use super::{assert_exact, half, lines};

/// A chain with the given activation, which absorbs into a running mean, a convolution's bias and a
/// linear layer's bias.
macro_rules! chains {
    ($($name:ident: $activation:ident $model:ident),+) => {$(
        model! {
            #[derive(Debug)]
            struct $model {
                conv1 = conv2d(3 => 16, kernel = 3, padding = 1, bias = false);
                bn1 = batch_norm(16);
                $activation;
                max_pool(2);
                conv2 = conv2d(16 => 12, kernel = 3, bias = false);
                bn2 = batch_norm(12);
                $activation;
                dropout(0.5);
                conv3 = conv2d(12 => 8, kernel = 1);
                bn3 = batch_norm(8);
                $activation;
                adaptive_avg_pool(1);
                flatten;
                fc = linear(8 => 5);
            }
        }

        #[test]
        fn $name() {
            assert_exact(|vs| $model::new(vs.root()), half(), &[2, 3, 8, 8]);
        }
    )+};
}

chains! {
    relu: relu Relu, relu6: relu6 Relu6, leaky_relu: leaky_relu LeakyRelu, elu: elu Elu, silu: silu Silu, gelu: gelu Gelu, mish: mish Mish,
    hardswish: hardswish Hardswish, tanh: tanh Tanh
}

model! {
    #[derive(Debug)]
    struct NoActivation {
        conv1 = conv1d(3 => 16, kernel = 3);
        bn1 = batch_norm1d(16);
        conv2 = conv1d(16 => 12, kernel = 3, stride = 2, dilation = 2, bias = false);
        bn2 = batch_norm1d(12);
        conv3 = conv1d(12 => 3, kernel = 1);
    }
}

#[test]
fn no_activation_strides_and_dilations() {
    let slimmed = assert_exact(|vs| NoActivation::new(vs.root()), half(), &[2, 3, 20]);
    insta::assert_snapshot!(lines(&slimmed), @"
    `conv2`: 7 channels into `bn2.running_mean`, exact
    `conv3`: 8 channels into `conv3.bias`, exact
    ");
}

model! {
    #[derive(Debug)]
    struct Residual {
        conv1 = conv2d(3 => 12, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(12);
        a = relu;
        conv2 = conv2d(12 => 12, kernel = 1, bias = false);
        bn2 = batch_norm(12);
        b = bn2 + a;
        c = b.silu();
        conv3 = conv2d(12 => 12, kernel = 1, bias = false);
        bn3 = batch_norm(12);
        d = bn3.tanh() + c;
        e = d * bn3;
        conv4 = d.conv2d(12 => 6, kernel = 1);
        conv5 = e.conv2d(12 => 6, kernel = 1);
        last = conv4 + conv5;
    }
}

#[test]
fn sums_and_products() {
    assert_exact(|vs| Residual::new(vs.root()), half(), &[2, 3, 6, 6]);
}

model! {
    #[derive(Debug)]
    struct Concatenation {
        left = conv2d(3 => 8, kernel = 3);
        left_bn = batch_norm(8);
        right = input.conv2d(3 => 4, kernel = 3);
        right_bn = batch_norm(4);
        both = [left_bn.relu(), right_bn.gelu()];
        half = both.chunk(2, 1);
        halved = conv2d(6 => 4, kernel = 2);
        shuffled = both.shuffle(2);
        conv = conv2d(12 => 4, kernel = 2, bias = false);
        bn = batch_norm(4);
        sum = bn + halved;
    }
}

#[test]
fn concatenations_parts_and_shuffles() {
    assert_exact(|vs| Concatenation::new(vs.root()), half(), &[2, 3, 6, 6]);
}

model! {
    #[derive(Debug)]
    struct Grouped {
        conv1 = conv2d(3 => 24, kernel = 3);
        bn1 = batch_norm(24);
        relu;
        grouped = conv2d(24 => 12, kernel = 3, groups = 4, bias = false);
        bn2 = batch_norm(12);
        silu;
        up = conv_transpose2d(12 => 8, kernel = 3, padding = 2, groups = 2);
        bn3 = batch_norm(8);
        elu;
        back = conv_transpose2d(8 => 6, kernel = 1, bias = false);
        bn4 = batch_norm(6);
        mish;
        last = conv2d(6 => 2, kernel = 1);
    }
}

#[test]
fn grouped_and_transposed() {
    let slimmed = assert_exact(|vs| Grouped::new(vs.root()), half(), &[2, 3, 9, 9]);
    assert_eq!(slimmed.absorbed().len(), 4);
}

model! {
    #[derive(Debug)]
    struct Depthwise {
        expand = conv2d(3 => 24, kernel = 1, bias = false);
        bn1 = batch_norm(24);
        relu6;
        depthwise = conv2d(24 => 24, kernel = 3, padding = 1, groups = 24, bias = false);
        bn2 = batch_norm(24);
        relu6;
        project = conv2d(24 => 8, kernel = 1, bias = false);
        bn3 = batch_norm(8);
        last = conv2d(8 => 2, kernel = 1);
    }
}

#[test]
fn a_depthwise_convolution_with_a_batch_norm_of_its_own() {
    assert_exact(|vs| Depthwise::new(vs.root()), half(), &[2, 3, 6, 6]);
}

model! {
    #[derive(Debug)]
    struct Mirrored {
        conv1 = conv3d(3 => 12, kernel = 3, padding = 1);
        bn1 = batch_norm3d(12);
        relu;
        conv2 = conv3d(12 => 8, kernel = 3, padding = 1, padding_mode = nn::PaddingMode::Replicate, bias = false);
        bn2 = batch_norm3d(8);
        relu;
        conv3 = conv3d(8 => 4, kernel = 3, padding = 1, padding_mode = nn::PaddingMode::Circular);
    }
}

#[test]
fn padding_that_is_made_of_the_image() {
    assert_exact(|vs| Mirrored::new(vs.root()), half(), &[2, 3, 4, 4, 4]);
}

model! {
    #[derive(Debug)]
    struct Flattened {
        conv1 = conv2d(3 => 12, kernel = 3);
        bn1 = batch_norm(12);
        relu;
        flatten;
        fc1 = linear(12 * 16 => 10, bias = false);
        bn2 = batch_norm1d(10);
        gelu;
        fc2 = linear(10 => 4);
    }
}

#[test]
fn linear_layers_behind_a_flatten() {
    let slimmed = assert_exact(|vs| Flattened::new(vs.root()), half(), &[3, 3, 6, 6]);
    insta::assert_snapshot!(lines(&slimmed), @"
    `fc1`: 32 channels into `bn2.running_mean`, exact
    `fc2`: 7 channels into `fc2.bias`, exact
    ");
}

model! {
    #[derive(Debug)]
    struct Block(width: i64) {
        conv1 = conv2d(width => width, kernel = 1, bias = false);
        bn1 = batch_norm(width);
        relu;
        conv2 = conv2d(width => width, kernel = 1, bias = false);
        bn2 = batch_norm(width);
        sum = bn2 + input;
        relu;
    }
}

model! {
    #[derive(Debug)]
    struct Nested {
        conv = conv2d(3 => 12, kernel = 3, bias = false);
        bn = batch_norm(12);
        relu;
        blocks = repeat(2, Block(12));
        last = conv2d(12 => 2, kernel = 3);
    }
}

#[test]
fn models_in_models() {
    assert_exact(|vs| Nested::new(vs.root()), half(), &[2, 3, 6, 6]);
}

/// A block with a split and a shuffle, which store sizes and order.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Unit {
    conv1: nn::Conv2D,
    #[prune(act = relu)]
    bn1: nn::BatchNorm,
    split: nn::Split,
    #[prune(from = split.1)]
    conv2: nn::Conv2D,
    #[prune(act = tanh)]
    bn2: nn::BatchNorm,
    #[prune(from = [split.0, bn2])]
    shuffle: nn::Shuffle,
    last: nn::Conv2D,
}

impl nn::ModuleT for Unit {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let parts = self.split.forward(&xs.apply(&self.conv1).apply_t(&self.bn1, train).relu());
        let right = parts[1].apply(&self.conv2).apply_t(&self.bn2, train).tanh();
        Tensor::cat(&[&parts[0], &right], 1).apply(&self.shuffle).apply(&self.last)
    }
}

#[test]
fn a_split_and_a_shuffle_that_remember() {
    let new = |p: &nn::Path| Unit {
        conv1: nn::conv2d(p / "conv1", 3, 16, 3, Default::default()),
        bn1: nn::batch_norm2d(p / "bn1", 16, Default::default()),
        split: nn::split([8, 8]),
        conv2: nn::conv2d(p / "conv2", 8, 8, 1, Default::default()),
        bn2: nn::batch_norm2d(p / "bn2", 8, Default::default()),
        shuffle: nn::shuffle(16, 2),
        last: nn::conv2d(p / "last", 16, 3, 2, Default::default()),
    };
    assert_exact(|vs| new(&vs.root()), half(), &[2, 3, 6, 6]);
}
