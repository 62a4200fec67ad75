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

model! {
    #[derive(Debug)]
    struct Several {
        conv = conv2d(3 => 8, kernel = );
        bn = conv.batch_norm(8)?;
        sum = bn + conv;
        last = conv3(8 => 2, kernel = 1);
        open = relu
    }
}

model! {
    #[derive(Debug)]
    struct At {
        a = conv2d(3 => 8, kernel = 3) at features;
        b = conv2d(8 => 8, kernel = 3) at "features..0";
        c = relu at "relu";
    }
}

fn main() {}
