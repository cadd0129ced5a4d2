"""A torch optimizer out of a rule of plain.py: one parameter after another, as slow as it is plain."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

State = dict[str, Any]


class OneByOne(Optimizer):
    """`OneByOne(model.parameters(), adam, lr=0.01)`: the hyperparameters, and their defaults, are those of the rule.

    Raises TypeError for a hyperparameter that the rule does not have. As with any torch optimizer they can differ
    between parameter groups, and a schedule sets `group["lr"]`.
    """

    def __init__(self, params: Iterable[Any], rule: Callable[..., Tensor], **hyperparameters: Any) -> None:
        known = inspect.signature(rule).parameters.values()
        defaults = {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY}
        if unknown := hyperparameters.keys() - defaults.keys():
            raise TypeError(f"{rule.__name__} has no {', '.join(sorted(unknown))}; it has {', '.join(defaults)}")
        super().__init__(params, defaults | hyperparameters)
        self.rule, self.names = rule, list(defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Take one step with the gradients at hand; parameters without a gradient stay, and their t does too."""
        if closure is not None:
            raise ValueError("OneByOne takes no closure")
        for group in self.param_groups:
            hyperparameters = {name: group[name] for name in self.names}
            for p in group["params"]:
                if p.grad is not None:
                    s = self.state[p]
                    s["t"] = s.get("t", 0) + 1
                    p.copy_(self.rule(p, p.grad, s, **hyperparameters))
