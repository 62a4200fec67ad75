use slim_runtime::{channels, model};
use slim_tests::fill::images;
use slim_zoo::vgg;

model! {
    #[derive(Debug)]
    pub struct Vgg16(classes: i64) {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(8);
        relu;
        conv2 = conv2d(8 => 8, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(8);
        relu;
        max_pool(2);
        conv3 = conv2d(8 => 16, kernel = 3, padding = 1, bias = false);
        bn3 = batch_norm(16);
        relu;
        conv4 = conv2d(16 => 16, kernel = 3, padding = 1, bias = false);
        bn4 = batch_norm(16);
        relu;
        max_pool(2);
        conv5 = conv2d(16 => 32, kernel = 3, padding = 1, bias = false);
        bn5 = batch_norm(32);
        relu;
        conv6 = conv2d(32 => 32, kernel = 3, padding = 1, bias = false);
        bn6 = batch_norm(32);
        relu;
        conv7 = conv2d(32 => 32, kernel = 3, padding = 1, bias = false);
        bn7 = batch_norm(32);
        relu;
        max_pool(2);
        conv8 = conv2d(32 => 64, kernel = 3, padding = 1, bias = false);
        bn8 = batch_norm(64);
        relu;
        conv9 = conv2d(64 => 64, kernel = 3, padding = 1, bias = false);
        bn9 = batch_norm(64);
        relu;
        conv10 = conv2d(64 => 64, kernel = 3, padding = 1, bias = false);
        bn10 = batch_norm(64);
        relu;
        max_pool(2);
        conv11 = conv2d(64 => 64, kernel = 3, padding = 1, bias = false);
        bn11 = batch_norm(64);
        relu;
        conv12 = conv2d(64 => 64, kernel = 3, padding = 1, bias = false);
        bn12 = batch_norm(64);
        relu;
        conv13 = conv2d(64 => 64, kernel = 3, padding = 1, bias = false);
        bn13 = batch_norm(64);
        relu;
        avg_pool(2);
        flatten;
        fc = linear(64 => classes);
    }
}

#[test]
fn vgg_16_is_the_zoos() {
    let cfg = channels![8, 8, M, 16, 16, M, 32, 32, 32, M, 64, 64, 64, M, 64, 64, 64];
    super::assert_same_network(
        |vs| Vgg16::new(vs.root(), 10),
        |vs| vgg::Vgg::new(vs.root(), &cfg, 10).unwrap(),
        &images(&[2, 3, 32, 32]),
    );
}
