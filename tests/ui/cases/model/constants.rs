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

model! {
    #[derive(Debug)]
    struct Summed {
        a = conv2d(3 => WIDE, kernel = 3);
        b = input.conv2d(3 => { let half = WIDE; half / 2 }, kernel = 3);
        sum = a + b;
    }
}

fn main() {}
