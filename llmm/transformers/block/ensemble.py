"""Many tiny models trained as one: seeds, learning rates and warm-ups side by side, one `vmap` over all of them.

A model of 100,000 parameters spends its time on starting operations and not on doing them. Stacked, the matrix products
of 24 models are one batched product, and a sweep costs little more than a run. `tiny_language.train` is the plain
version, one model at a time; the tests hold the two together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmm.foundations.optimizers.plain import adam
from llmm.transformers.block.tiny_language import (
    HELD_OUT,
    TRAINED_ON,
    Recipe,
    initialise,
    next_byte_loss,
    text,
    windows,
)
from llmm.transformers.gpt.model import GPT

Parameters = dict[str, Tensor]  # each stacked: (R, ...)


class Ensemble:
    """R models of one architecture; model r is initialised from `seeds[r]`, like the text that it will see."""

    def __init__(self, models: Sequence[GPT], seeds: Sequence[int]) -> None:
        for model, seed in zip(models, seeds, strict=True):
            initialise(model, torch.Generator().manual_seed(seed))
        self.seeds = list(seeds)
        self._template = models[0]
        parameters, self._buffers = stack_module_state(list(models))
        self.parameters: Parameters = {name: tensor.detach() for name, tensor in parameters.items()}

    def train(self, recipes: Sequence[Recipe]) -> Tensor:
        """Train model r by `recipes[r]`, which may differ in rate and warm-up only; losses (R, steps), nats a byte.

        A model that diverges shows inf or NaN from there on and leaves the others alone.
        """
        ids_N, shared = text(TRAINED_ON), recipes[0]
        order = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        memory: dict[str, dict] = {name: {"t": 1} for name in self.parameters}
        losses = []
        for step in range(shared.steps):
            windows_RBT = torch.stack([windows(ids_N, shared.batch, shared.seq_len, generator) for generator in order])
            gradients, loss_R = self._mapped(grad_and_value(self._loss), windows_RBT)
            losses.append(loss_R)
            rate_R = torch.tensor([recipe.rate(step) for recipe in recipes])
            for name, parameter in self.parameters.items():
                rate = rate_R.view(-1, *[1] * (parameter.ndim - 1))
                self.parameters[name] = adam(parameter, gradients[name], memory[name], lr=rate, beta2=0.95)
                memory[name]["t"] += 1
        return torch.stack(losses, dim=1)

    def held_out(self, seq_len: int) -> Tensor:
        """Loss (R,) of each model on the same 256 windows of modules that were not trained on, nats a byte."""
        windows_BT = windows(text(HELD_OUT), 256, seq_len, torch.Generator().manual_seed(0))
        with torch.no_grad():
            return self._mapped(self._loss, windows_BT.expand(len(self.seeds), *windows_BT.shape))

    def _loss(self, parameters: Parameters, buffers: Parameters, windows_BT: Tensor) -> Tensor:
        def logits(ids_BT: Tensor) -> Tensor:
            return functional_call(self._template, (parameters, buffers), (ids_BT,))

        return next_byte_loss(logits, windows_BT)

    def _mapped(self, function, windows_RBT: Tensor):  # type: ignore[no-untyped-def]
        with sdpa_kernel(SDPBackend.MATH):  # made of plain products, which vmap knows how to batch
            return vmap(function)(self.parameters, self._buffers, windows_RBT)
