use slim_runtime::model;
use slim_tests::fill::images;

model! {
    /// The first block, which has no expansion.
    #[derive(Debug)]
    pub struct Depthwise(inputs: i64, outputs: i64) {
        filter = conv2d(inputs => inputs, kernel = 3, padding = 1, groups = inputs, bias = false);
        bn1 = batch_norm(inputs);
        relu6;
        project = conv2d(inputs => outputs, kernel = 1, bias = false);
        bn2 = batch_norm(outputs);
    }
}

model! {
    /// An inverted residual without its sum: expand, filter, project.
    #[derive(Debug)]
    pub struct Inverted(inputs: i64, outputs: i64, stride: i64) {
        expand = conv2d(inputs => 6 * inputs, kernel = 1, bias = false);
        bn1 = batch_norm(6 * inputs);
        relu6;
        filter = conv2d(6 * inputs => 6 * inputs, kernel = 3, stride = stride, padding = 1, groups = 6 * inputs, bias = false);
        bn2 = batch_norm(6 * inputs);
        relu6;
        project = conv2d(6 * inputs => outputs, kernel = 1, bias = false);
        bn3 = batch_norm(outputs);
    }
}

model! {
    /// An inverted residual with its sum.
    #[derive(Debug)]
    pub struct Residual(width: i64) {
        block = Inverted(width, width, 1);
        sum = input + block;
    }
}

model! {
    #[derive(Debug)]
    pub struct MobileNetV2(classes: i64) {
        stem = conv2d(3 => 32, kernel = 3, stride = 2, padding = 1, bias = false);
        stem_bn = batch_norm(32);
        relu6;
        stage1 = Depthwise(32, 16);
        stage2_first = Inverted(16, 24, 2);
        stage2 = Residual(24);
        stage3_first = Inverted(24, 32, 2);
        stage3 = repeat(2, Residual(32));
        stage4_first = Inverted(32, 64, 2);
        stage4 = repeat(3, Residual(64));
        stage5_first = Inverted(64, 96, 1);
        stage5 = repeat(2, Residual(96));
        stage6_first = Inverted(96, 160, 2);
        stage6 = repeat(2, Residual(160));
        stage7 = Inverted(160, 320, 1);
        last = conv2d(320 => 1280, kernel = 1, bias = false);
        last_bn = batch_norm(1280);
        relu6;
        pool = adaptive_avg_pool(1);
        flatten;
        dropout(0.2);
        classifier = linear(1280 => classes);
    }
}

#[test]
fn mobilenet_v2_is_the_zoos() {
    super::assert_same_network(
        |vs| MobileNetV2::new(vs.root(), 10),
        |vs| slim_zoo::mobilenet_v2::MobileNetV2::new(vs.root(), 10),
        &images(&[1, 3, 32, 32]),
    );
}
