"""What lies under a line of PyTorch: strides, custom operators, saved tensors, the dispatcher, graphs and compilers."""
