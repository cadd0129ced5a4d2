"""A tensor autograd engine in NumPy, the layers built on it, and what they learn (milestone M2).

broadcasting, windows   adjoints of broadcasting and of sliding windows
primitives              every operation with its VJP and its JVP
graph                   topological order, the reverse and the forward sweep
tensor                  the array that records how it was made
autograd, gradcheck     derivatives as functions, and their check by finite differences
functional, convolution, layers, initialisation, training    neural networks
"""

from llmm.foundations.neural_network.autograd import grad, hessian_vector_product, jvp
from llmm.foundations.neural_network.tensor import Tensor, concatenate, enable_grad, no_grad, stack, where

__all__ = ["Tensor", "concatenate", "enable_grad", "grad", "hessian_vector_product", "jvp", "no_grad", "stack", "where"]
