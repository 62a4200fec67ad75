//! Every operation of the table, on real and symbolic tensors: filled in next.
