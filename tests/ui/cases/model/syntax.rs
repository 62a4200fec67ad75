use slim_runtime::model;

model! {
    #[derive(Debug)]
    struct NoSemicolon {
        conv = conv2d(3 => 8, kernel = 3)
        relu;
    }
}

model! {
    #[derive(Debug)]
    struct Generic<T> {
        relu;
    }
}

model! {
    enum Choice { A }
}

model! {
    #[derive(Debug)]
    struct Minus {
        conv = conv2d(3 => 8, kernel = 3);
        last = conv - input;
    }
}

model! {
    #[derive(Debug)]
    struct NotCalled {
        last = blocks::Block;
    }
}

model! {
    #[derive(Debug)]
    struct Parameters(classes) {
        relu;
    }
}

model! {
    #[derive(Debug)]
    struct NoBody;
}

fn main() {}
