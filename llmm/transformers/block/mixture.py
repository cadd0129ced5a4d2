"""Mixture of experts: many feed-forward layers of which each token passes only through a few.

Parameters grow with the number of experts, work with the number of choices. A drop-in for a block's feed-forward.

Sources: Shazeer et al. 2017 (1701.06538), equation 1; Fedus, Zoph and Shazeer 2021 (2101.03961), section 2.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from llmm.transformers.block.routing import Routing, balance_loss, expert_capacity, route, z_loss


class MixtureOfExperts(nn.Module):
    """x (..., D) → Σ over the chosen experts of weight · expert(x); a token that finds all of them full gets 0.

    `gate` is the router, linear without a bias, `experts` the list of `n_expert` modules, and `routing` the Routing of
    the last forward pass, None before the first; the other arguments are kept under their names.
    """

    def __init__(
        self,
        d_model: int,
        n_expert: int,
        top_k: int,
        make_expert: Callable[[], nn.Module],
        capacity_factor: float | None = None,
        renormalise: bool = False,
    ) -> None:
        """`capacity_factor` None never drops a token; see `expert_capacity` and `route` for the others."""
        super().__init__()
        self.gate = nn.Linear(d_model, n_expert, bias=False)
        self.experts = nn.ModuleList(make_expert() for _ in range(n_expert))
        self.top_k, self.capacity_factor, self.renormalise = top_k, capacity_factor, renormalise
        self.routing: Routing | None = None  # the losses are made of it

    def forward(self, x: Tensor) -> Tensor:
        """Each expert sees its own tokens as one batch."""
        x_ND = x.flatten(0, -2)
        capacity = None
        if self.capacity_factor is not None:
            capacity = expert_capacity(len(x_ND), len(self.experts), self.top_k, self.capacity_factor)
        self.routing = chosen = route(self.gate(x_ND), self.top_k, capacity, self.renormalise)

        out_ND = torch.zeros_like(x_ND)
        for e, expert in enumerate(self.experts):
            token, choice = ((chosen.expert_NK == e) & chosen.kept_NK).nonzero(as_tuple=True)
            answer = expert(x_ND[token]) * chosen.weight_NK[token, choice, None]
            out_ND = out_ND.index_add(0, token, answer)
        return out_ND.view_as(x)


def router_losses(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Balance loss and z-loss of the last forward pass, each the mean over all mixtures in `model`.

    Raises ValueError where there is none that has run.
    """
    routings = [m.routing for m in model.modules() if isinstance(m, MixtureOfExperts) and m.routing is not None]
    if not routings:
        raise ValueError("no mixture of experts in this model has run yet")
    return torch.stack([balance_loss(r) for r in routings]).mean(), torch.stack([z_loss(r) for r in routings]).mean()
