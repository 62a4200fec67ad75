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

model! {
    #[derive(Debug)]
    struct Sequences {
        embed = embedding(100 => 16);
        ln = layer_norm(32);
        rms = rms_norm(16);
        attention = multi_head_attention(16, heads = 4);
        lstm = lstm(16 => 32, bidirectional = true);
        head = linear(32 => 2);
        again = lstm(2 => 8, proj = 4);
        gru = gru(8 => 8);
        groups = group_norm(4, groups = 2);
        norm = instance_norm(4);
        slope = prelu(1);
        slopes = prelu(4);
    }
}

fn main() {}
