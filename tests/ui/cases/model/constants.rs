use slim_runtime::model;

const WIDE: i64 = 16;

model! {
    #[derive(Debug)]
    struct Constants {
        conv1 = conv2d(3 => WIDE, kernel = 3);
        bn1 = batch_norm(WIDE);
        conv2 = conv2d(2 * WIDE => 8, kernel = 3);
    }
}

fn main() {}
