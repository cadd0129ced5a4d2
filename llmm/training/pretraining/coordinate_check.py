"""How far do features move in the first steps, and does that depend on the width? The test of a parametrisation.

Under maximal updates every activation moves by an amount that no width changes, so log movement against log width has
slope 0 (README 4.3). Where it is positive, training a wider model at that learning rate ends in divergence; where it is
negative, that part of a wide model learns nothing. Source: Yang et al. 2022 (2203.03466), section 6 and appendix D.1.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from llmm.foundations.optimizers import AdamW
from llmm.training.pretraining.mup import parameter_groups, scale_init
from llmm.training.pretraining.recipe import next_token_loss
from llmm.transformers.gpt import GPT, GPTConfig


def movements(config: GPTConfig, base: GPTConfig, ids_BT: Tensor, lr: float, steps: int, seed: int) -> dict[str, float]:
    """Root mean square change of activations over `steps` steps of AdamW on `ids_BT`, by place in the model.

    The parametrisation is that of `base`; with `base` = `config` it is the standard one. Places are what each branch
    adds to the residual stream, "layers.0.self_attn" and so on, and "logits".
    """
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    scale_init(model, base)
    optimizer = AdamW(parameter_groups(model, lr, base))
    before = activations(model, ids_BT)
    for _ in range(steps):
        next_token_loss(model, ids_BT).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    after = activations(model, ids_BT)
    return {place: (after[place] - before[place]).square().mean().sqrt().item() for place in before}


@torch.no_grad()
def activations(model: GPT, ids_BT: Tensor) -> dict[str, Tensor]:
    """What every branch adds to the residual stream, and the logits."""
    found: dict[str, Tensor] = {}

    def keep(place: str) -> Callable[..., None]:
        return lambda module, args, output: found.__setitem__(place, output)

    hooks = [
        module.register_forward_hook(keep(name.removeprefix("model.")))
        for name, module in model.named_modules()
        if name.endswith((".self_attn", ".mlp"))
    ]
    found["logits"] = model(ids_BT[:, :-1])
    for hook in hooks:
        hook.remove()
    return found


def slopes(widths: Sequence[int], found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Slope of log movement against log width at each place, by least squares."""
    log_widths = np.log(widths)
    return {
        place: float(np.polyfit(log_widths, np.log([movement[place] for movement in found]), 1)[0])
        for place in found[0]
    }
