"""Bytes that training holds for its parameters: weights, gradients and what the optimizer remembers.

Activations are not counted. Gradients go down through frozen layers too, README (1.5), so most of them stay.
"""

from dataclasses import dataclass

from llmm.errors import UserError
from llmm.training.lora.block_quantisation import BLOCK, bits_per_parameter

# bytes a parameter in float32
WEIGHT = 4
GRADIENT = 4
ADAM = 8  # two averages


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
    """r (m + n) for each matrix (m, n); as a share of them, README (6.4)."""
    return sum(rank * (m + n) for m, n in shapes)


def training_bytes(
    parameters: int, adapter: int = 0, quantised: int = 0, block: int = BLOCK, double: bool = True
) -> TrainingBytes:
    """For a model of `parameters`, all trained where there is no `adapter` (a number of parameters), else that alone.

    `quantised` of the frozen parameters lie in four bits. README (6.1), (6.2), (6.3). Raises UserError where parameters
    in four bits would be trained, or are more than there are.
    """
    if quantised > (parameters if adapter else 0):
        raise UserError(f"{quantised} parameters in four bits of {parameters if adapter else 0} that are frozen")
    frozen_bytes = WEIGHT * (parameters - quantised) + bits_per_parameter(block, double) / 8 * quantised
    trained = adapter or parameters
    return TrainingBytes(frozen_bytes + WEIGHT * adapter, (GRADIENT + ADAM) * trained)
