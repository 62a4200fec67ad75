use slim_runtime::model;

model! {
    #[derive(Debug)]
    struct Misspelt {
        conv = conv2(3 => 8, kernel = 3);
        bn = batchnorm(8);
        rleu;
        elephants(7);
        fc = linear;
    }
}

model! {
    #[derive(Debug)]
    struct Arguments {
        conv1 = conv2d(3 => 8, kernal = 3, kernel = 3);
        conv2 = conv2d(8 => 8);
        conv3 = conv2d(8, kernel = 3);
        conv4 = conv2d(8 => 8, kernel = 3, stride = 1, stride = 2);
        conv5 = conv2d(8 => 8, kernel = 3, elephant = 3);
        bn = batch_norm();
        bn2 = batch_norm(8, 8);
        fc = linear(8 => 2, bias = true, 3);
        relu(0.1);
        dropout();
        chunk(2);
        chunk(2, 2);
        max_pool;
        max_pool();
        adaptive_avg_pool();
        map();
        last = linear(Block(3));
    }
}

model! {
    #[derive(Debug)]
    struct Layers {
        a = Block(3 => 8);
        b = Block(width = 8);
        c = Block(Other(8));
        d = repeat(3);
    }
}

model! {
    #[derive(Debug)]
    struct Builds(rate: f64) {
        #[cfg(test)]
        conv = conv2d(3 => 8, kernel = 3);
        dropout(rate);
    }
}

fn main() {
    // A mistake in a model makes no further errors where it is used.
    let vs = slim_runtime::nn::VarStore::new(tch::Device::Cpu);
    let mut net = Builds::new(vs.root(), 0.5);
    let _ = slim_runtime::Prunable::slim(&mut net, 0.5);
    let _ = tch::nn::ModuleT::forward_t(&net, &tch::Tensor::new(), false);
}
