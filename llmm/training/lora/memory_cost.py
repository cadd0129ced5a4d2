"""Bytes that training holds for its parameters: weights, gradients and what the optimizer remembers.

Activations are not counted: they are the same for all, as gradients go down through frozen layers too. README (6.4).
"""

from dataclasses import dataclass

from llmm.training.lora.block_quantisation import bits_per_parameter

WEIGHT, GRADIENT, ADAM = 4, 4, 8  # bytes a parameter in float32; Adam keeps two numbers


@dataclass(frozen=True)
class TrainingBytes:
    """`weights` of the model and the adapter; `trained` is what training adds: gradients and Adam's two averages."""

    weights: float
    trained: float

    @property
    def total(self) -> float:
        """Both."""
        return self.weights + self.trained


def lora_parameters(shapes: list[tuple[int, int]], rank: int) -> int:
    """r (m + n) for each matrix (m, n)."""
    return sum(rank * (m + n) for m, n in shapes)


def training_bytes(
    parameters: int, adapter: int = 0, quantised: int = 0, block: int = 64, double: bool = True
) -> TrainingBytes:
    """For a model of `parameters`, all trained where there is no `adapter` (a number of parameters), else that alone.

    `quantised` of the frozen parameters lie in four bits. README (6.1) to (6.3).
    """
    frozen_bytes = WEIGHT * (parameters - quantised) + bits_per_parameter(block, double) / 8 * quantised
    trained = adapter or parameters
    return TrainingBytes(frozen_bytes + WEIGHT * adapter, (GRADIENT + ADAM) * trained)
