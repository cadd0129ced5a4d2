"""The roofline: an operation is as fast as the slower of arithmetic and memory lets it be.

Time is at least flops / peak and at least bytes / bandwidth, so flops per second are at most min(peak, intensity *
bandwidth) with intensity = flops / bytes: equation (17). Left of the ridge at peak / bandwidth more arithmetic is
free; what pays there is to move fewer bytes, which is what fusing does. Bytes are the fewest that must move: each
input read once, each output written once.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What an operation must do: floating point operations, and bytes between memory and core."""

    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Flops per byte."""
        return self.flops / self.bytes

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other, with what the first wrote read again by the second."""
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


def matmul_cost(m: int, k: int, n: int, itemsize: int = 4) -> Cost:
    """(m, k) @ (k, n): 2 m k n flops, three matrices moved. Intensity n / 6 for float32 squares of n."""
    return Cost(2 * m * k * n, itemsize * (m * k + k * n + m * n))


def elementwise_cost(numel: int, inputs: int = 1, flops_each: int = 1, itemsize: int = 4) -> Cost:
    """One output element from one of each input: `inputs` arrays read, one written."""
    return Cost(numel * flops_each, itemsize * numel * (inputs + 1))


def fused_cost(numel: int, inputs: int, flops_each: list[int], itemsize: int = 4) -> Cost:
    """A chain of element-wise operations in one loop: the flops of all of them, the bytes of one."""
    return elementwise_cost(numel, inputs, sum(flops_each), itemsize)


def attainable(cost: Cost, peak: float, bandwidth: float) -> float:
    """Flops per second at most, for a machine of `peak` flops and `bandwidth` bytes per second; equation (17)."""
    return min(peak, cost.intensity * bandwidth)


def least_seconds(cost: Cost, peak: float, bandwidth: float) -> float:
    """Seconds at least: the longer of computing and moving. It equals flops / attainable."""
    return max(cost.flops / peak, cost.bytes / bandwidth)


def ridge(peak: float, bandwidth: float) -> float:
    """The intensity from which arithmetic is what limits, in flops per byte."""
    return peak / bandwidth
