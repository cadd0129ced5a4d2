"""Random programs of tensors, for passes that rewrite graphs: pure, in-place and random steps, and repetitions."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

Step = tuple[str, int, int]  # what to do, and with which two values


@dataclass(frozen=True)
class Program:
    """Steps that each make one value from earlier ones; called with two tensors, returns the last three values."""

    steps: tuple[Step, ...]

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        values = [x, y]
        for name, a, b in self.steps:
            values.append(STEPS[name](values[a % len(values)], values[b % len(values)]))
        return tuple(values[-3:])


# In place only on a clone that the step makes, or on a value made before: inputs stay as they are.
STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sin": lambda a, b: a.sin(),
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "add_int": lambda a, b: a + 1,
    "add_float": lambda a, b: a + 1.0,
    "sum": lambda a, b: a.sum(-1, keepdim=True),
    "sum_all": lambda a, b: a.sum(),
    "clone": lambda a, b: a.clone(),
    "random": lambda a, b: torch.rand_like(b, dtype=torch.float64),
    "add_in_place": lambda a, b: a.clone().add_(1),
    "double_in_place": lambda a, b: a.mul_(2),
}


def random_program(rng: random.Random, pure: bool = False, steps: int = 12) -> Program:
    """`steps` steps, each with a good chance to repeat one from before."""
    names = [name for name in STEPS if not pure or name not in ("random", "add_in_place", "double_in_place")]
    done: list[Step] = []
    for _ in range(steps):
        if done and rng.random() < 0.4:
            done.append(rng.choice(done))
        else:
            done.append((rng.choice(names), rng.randrange(2 + len(done)), rng.randrange(2 + len(done))))
    return Program(tuple(done))


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two tensors for a program: integers and floats, so that a merged 1 and 1.0 would show in a dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 9, (3, 4), generator=generator), torch.randn(3, 4, generator=generator, dtype=torch.float64)


def capture(function: Any, *tensors: Any) -> fx.GraphModule:
    """`function` as a graph of aten operators, by running it on clones of `tensors`; random and in-place steps stay."""
    graph_module: fx.GraphModule = make_fx(function)(*(tensor.clone() for tensor in tensors))
    return graph_module


def run(function: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    """What `function` returns for clones of `tensors`, from a fixed random state; copies that share nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tuple(value.clone() for value in function(*(tensor.clone() for tensor in tensors)))


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    """Bit-equal values of the same dtypes."""
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(first, second, strict=True))


def operations(graph_module: fx.GraphModule) -> int:
    """Operator calls in the graph."""
    return sum(node.op == "call_function" for node in graph_module.graph.nodes)
