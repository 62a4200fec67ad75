use slim_runtime::{model, nn};
use slim_tests::fill::images;
use slim_zoo::resnet::{BasicBlock, Config, ResNet};

model! {
    /// Two convolutions and the sum of their output and input.
    #[derive(Debug)]
    pub struct Block(width: i64) {
        conv1 = conv2d(width => width, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(width);
        relu;
        conv2 = conv2d(width => width, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(width);
        sum = bn2 + input;
        relu;
    }
}

model! {
    /// A block that halves the size and changes the width.
    #[derive(Debug)]
    pub struct Down(inputs: i64, width: i64) {
        conv1 = conv2d(inputs => width, kernel = 3, stride = 2, padding = 1, bias = false);
        bn1 = batch_norm(width);
        relu;
        conv2 = conv2d(width => width, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(width);
        side = input.conv2d(inputs => width, kernel = 1, stride = 2, bias = false);
        side_bn = batch_norm(width);
        sum = bn2 + side_bn;
        relu;
    }
}

model! {
    #[derive(Debug)]
    pub struct ResNet18(width: i64, classes: i64) {
        conv1 = conv2d(3 => width, kernel = 7, stride = 2, padding = 3, bias = false);
        bn1 = batch_norm(width);
        relu;
        maxpool = max_pool(3, stride = 2, padding = 1);
        layer1 = repeat(2, Block(width));
        layer2_down = Down(width, 2 * width);
        layer2 = Block(2 * width);
        layer3_down = Down(2 * width, 4 * width);
        layer3 = Block(4 * width);
        layer4_down = Down(4 * width, 8 * width);
        layer4 = Block(8 * width);
        pool = adaptive_avg_pool(1);
        flatten;
        fc = linear(8 * width => classes);
    }
}

#[test]
fn resnet_18_is_the_zoos() {
    let config = Config { depths: [2, 2, 2, 2], width: 8, ..Default::default() };
    super::assert_same_network(
        |vs: &nn::VarStore| ResNet18::new(vs.root(), 8, 10),
        |vs| ResNet::<BasicBlock>::new(vs.root(), &config, 10),
        &images(&[2, 3, 64, 64]),
    );
}
