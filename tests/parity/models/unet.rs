use slim_runtime::model;
use slim_tests::fill::images;

model! {
    #[derive(Debug)]
    pub struct Double(inputs: i64, width: i64) {
        conv1 = conv2d(inputs => width, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(width);
        relu;
        conv2 = conv2d(width => width, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(width);
        relu;
    }
}

model! {
    #[derive(Debug)]
    pub struct Up(inputs: i64, width: i64) {
        conv = conv_transpose2d(inputs => width, kernel = 2, stride = 2, bias = false);
        bn = batch_norm(width);
        relu;
    }
}

model! {
    #[derive(Debug)]
    pub struct UNet(width: i64, classes: i64) {
        enc1 = Double(3, width);
        max_pool(2);
        enc2 = Double(width, 2 * width);
        max_pool(2);
        enc3 = Double(2 * width, 4 * width);
        max_pool(2);
        bottom = Double(4 * width, 8 * width);
        up3 = Up(8 * width, 4 * width);
        dec3 = [enc3, up3].Double(8 * width, 4 * width);
        up2 = Up(4 * width, 2 * width);
        dec2 = [enc2, up2].Double(4 * width, 2 * width);
        up1 = Up(2 * width, width);
        dec1 = [enc1, up1].Double(2 * width, width);
        head = conv2d(width => classes, kernel = 1);
    }
}

#[test]
fn the_u_net_is_the_zoos() {
    super::assert_same_network(
        |vs| UNet::new(vs.root(), 4, 3),
        |vs| slim_zoo::unet::UNet::new(vs.root(), 4, 3),
        &images(&[1, 3, 16, 16]),
    );
}
