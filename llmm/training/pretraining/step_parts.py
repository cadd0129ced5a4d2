"""Where the time of a training step on a CPU goes: matrix products, attention, and what stands between them."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

PRODUCTS = ("aten::mm", "aten::addmm")
# the tiled kernel, or the products of one head at a time where a compiled step takes the formula
ATTENTION = ("scaled_dot_product", "aten::bmm", "aten::baddbmm")


def step_parts(forward_and_backward: Callable[[], object], steps: int) -> dict[str, float]:
    """Seconds a step in matrix products of the weights, in those of attention and in the rest, the mean of `steps`.

    Attention's softmax is in its kernel, or in the rest where there is none. The rest is norms, angles, gates, the loss
    and all other passes over memory, and what torch itself takes.
    """
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            forward_and_backward()
    seconds = {"products": 0.0, "attention": 0.0, "rest": 0.0}
    for event in found.key_averages():
        attends = any(name in event.key for name in ATTENTION)
        part = "products" if event.key in PRODUCTS else "attention" if attends else "rest"
        seconds[part] += event.self_cpu_time_total / 1e6 / steps
    return seconds
