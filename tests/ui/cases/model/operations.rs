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

model! {
    #[derive(Debug)]
    struct Sequences {
        embed = embedding(64, 16);
        ln = layer_norm;
        ln2 = layer_norm(16, elementwise_affine = false);
        rms = rms_norm(16, 1e-6);
        attention = multi_head_attention(16);
        attention2 = multi_head_attention(16, 4);
        attention3 = multi_head_attention(16, heads = 3);
        attention4 = grouped_query_attention(16, heads = 4, kv_heads = 2);
        attention5 = grouped_query_attention(16, heads = 4, kv_heads = 3, head_dim = 4);
        mha(16, heads = 4);
        lstm = lstm(16, 32);
        lstm2 = lstm(16 => 32, num_layers = 2);
        gru = gru(16 => 32, proj = 8);
        rnn = rnns(16 => 32);
        lstm(16 => 32);
        mean;
        transpose(1);
    }
}

model! {
    #[derive(Debug)]
    struct Norms {
        conv = conv2d(3 => 12, kernel = 3);
        gn = group_norm(4, 12);
        gn2 = group_norm(12, groups = 5);
        gn3 = group_norm(12, groups = 0);
        instance_norm(12, epsilon = 1e-3);
        instance_norm(12, affine = true);
        words = conv.embedding(100 => 12);
        slopes = prelu();
        prelu(12);
    }
}

fn main() {
    // A mistake in a model makes no further errors where it is used.
    let vs = slim_runtime::nn::VarStore::new(tch::Device::Cpu);
    let mut net = Builds::new(vs.root(), 0.5);
    let _ = slim_runtime::Prunable::slim(&mut net, 0.5);
    let _ = tch::nn::ModuleT::forward_t(&net, &tch::Tensor::new(), false);
}
