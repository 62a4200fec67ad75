use slim_runtime::model;

model! {
    #[derive(Debug)]
    struct Twice {
        conv = conv2d(3 => 8, kernel = 3);
        conv = conv2d(8 => 8, kernel = 3);
    }
}

model! {
    #[derive(Debug)]
    struct Taken(classes: i64) {
        input = conv2d(3 => 8, kernel = 3);
        relu = relu;
        classes = conv2d(8 => 8, kernel = 3);
    }
}

model! {
    #[derive(Debug)]
    struct Unknown {
        conv1 = conv2d(3 => 8, kernel = 3);
        bn1 = batch_norm(8);
        sum = bnn1 + conv1;
        late = conv1 + last;
        far = elephant;
        last = conv2d(8 => 8, kernel = 3);
    }
}

model! {
    #[derive(Debug)]
    struct Nameless {
        conv2d(3 => 8, kernel = 3);
        a = relu.conv2d(8 => 8, kernel = 3).relu();
    }
}

model! {
    #[derive(Debug)]
    struct Unread {
        conv = conv2d(3 => 8, kernel = 3);
        forgotten = relu;
        last = conv.conv2d(8 => 8, kernel = 3);
    }
}

model! {
    #[derive(Debug)]
    struct UnreadToo {
        conv = conv2d(3 => 8, kernel = 3);
        relu;
        last = conv.conv2d(8 => 8, kernel = 3);
    }
}

fn main() {}
