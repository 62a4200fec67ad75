use slim_runtime::model;

model! {
    #[derive(Debug)]
    struct Literals {
        conv1 = conv2d(3 => 32, kernel = 3);
        bn1 = batch_norm(64);
        relu;
        conv2 = conv2d(30 => 16, kernel = 3);
        flatten;
        fc = linear(30 => 10);
    }
}

model! {
    #[derive(Debug)]
    struct Joined {
        a = conv2d(3 => 32, kernel = 3);
        b = input.conv2d(3 => 16, kernel = 3);
        sum = a + b;
        gate = a * b;
        both = [a, b];
        last = conv2d(32 => 8, kernel = 3);
    }
}

model! {
    #[derive(Debug)]
    struct Cut {
        a = conv2d(3 => 32, kernel = 3);
        half = a.chunk(2, 1);
        conv = conv2d(32 => 8, kernel = 3);
        up = pixel_shuffle(2);
        last = conv2d(8 => 2, kernel = 1);
    }
}

model! {
    #[derive(Debug)]
    struct Flattened {
        a = conv2d(3 => 8, kernel = 3);
        flatten;
        bn = batch_norm1d(128);
        last = linear(128 => 2);
    }
}

fn main() {}
