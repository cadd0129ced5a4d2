"""Phase 1: what everything above stands on, from one neuron to the machinery of PyTorch. See README.md."""
