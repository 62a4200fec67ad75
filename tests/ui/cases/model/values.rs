use slim_runtime::model;

model! {
    #[derive(Debug)]
    struct Empty {}
}

model! {
    #[derive(Debug)]
    struct Values {
        conv = conv2d(3 => 8, kernel = 3);
        a = [];
        (conv, a);
        part = conv.0;
        last = conv2d(8 => 8, kernel = 3);
    }
}

model! {
    #[derive(Debug)]
    struct Inputs {
        a = input.conv2d(3 => 8, kernel = 3);
        b = input.1.conv2d(3 => 8, kernel = 3);
        c = input.4000000000.conv2d(3 => 8, kernel = 3);
        last = [a, b, c];
    }
}

model! {
    #[derive(Debug)]
    struct OneAndSeveral {
        a = conv2d(3 => 8, kernel = 3);
        b = input.1.conv2d(3 => 8, kernel = 3);
        last = [a, b];
    }
}

model! {
    #[derive(Debug)]
    struct OneOfOne {
        a = input.0.conv2d(3 => 8, kernel = 3);
    }
}

model! {
    #[derive(Debug)]
    struct BehindTheWiring {
        a = conv2d(3 => 8, kernel = 3);
        b = a.relu();
        c = map(|xs: &tch::Tensor| xs * &a);
        d = tanh(b);
        e = Block;
        f = [c, d, e];
    }
}

fn main() {}
