use slim_runtime::model;

model! {
    #[derive(Debug)]
    #[prune(input = [3, 32, 32], output = conv)]
    struct Declared {
        conv = conv2d(3 => 8, kernel = 3);
    }
}

model! {
    #[derive(Debug)]
    #[prune(inputs = 3)]
    struct Misspelt {
        conv = conv2d(3 => 8, kernel = 3);
    }
}

fn main() {}
