"""What the fast optimizers have in common: they move all parameters of a group at once.

With many small parameters a step costs what its operations cost to start, not what they compute. A multi-tensor
operation (`torch._foreach_*`) starts once for a whole list: a rule of ten operations then costs ten starts, and not ten
for each parameter.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Tensors = list[Tensor]
States = list[dict[str, Any]]


class MultiTensor(Optimizer):
    """Gathers parameters, gradients and memory into lists; a subclass says what it remembers and how it moves."""

    def begin(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """What is remembered of the parameter `p` before its first step, by name."""
        raise NotImplementedError

    def move(self, params: Tensors, grads: Tensors, states: States, t: int, group: dict[str, Any]) -> None:
        """Take step number `t` (from 1) of all `params`, in place; `states[i]` is what is remembered of `params[i]`."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Take one step with the gradients at hand; parameters without a gradient stay."""
        if closure is not None:
            raise ValueError(f"{type(self).__name__} takes no closure")
        for group in self.param_groups:
            alike: dict[int, Tensors] = {}  # parameters that began late have a step count of their own
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    if not state:
                        state.update(t=0, **self.begin(p, group))
                    state["t"] += 1
                    alike.setdefault(state["t"], []).append(p)
            for t, params in alike.items():
                self.move(params, [p.grad for p in params], [self.state[p] for p in params], t, group)


def column(states: States, name: str) -> Tensors:
    """The tensor `name` of every state."""
    return [state[name] for state in states]
