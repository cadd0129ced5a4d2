"""Several adapters in one batch: the frozen matrix serves all rows at once, and each row has a branch of its own.

Source: Hu et al. 2021 (2106.09685), section 4.2, names the difficulty; gathering the factors row by row is how servers
of many adapters solve it (Chen et al. 2023, 2310.18547, section 4).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from llmm.errors import UserError
from llmm.training.lora.low_rank import LoRALinear

NONE = -1  # the row's adapter, where it has none


class Rows:
    """Which of `count` adapters each row of the batch takes; shared by all layers of a model."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.adapter_B: Tensor | None = None

    def choose(self, adapters: Sequence[int]) -> None:
        """One index a row, `NONE` for the base model. Raises UserError where there is no such adapter."""
        if wrong := [k for k in adapters if not NONE <= k < self.count]:
            raise UserError(f"there is no adapter {wrong[0]}: expected 0 to {self.count - 1}, or {NONE} for none")
        self.adapter_B = torch.tensor(adapters)


class ManyAdapters(nn.Module):
    """x (B, T, n) → x Wᵀ + (x A[i]ᵀ) (s B)[i]ᵀ (B, T, m), with i the adapter of the row: README (1.1)."""

    A_Krn: Tensor
    B_Kmr: Tensor

    def __init__(self, base_layer: nn.Module, adapters: Sequence[LoRALinear], rows: Rows) -> None:
        """The factors of `adapters`, padded with zeros to one rank, and last the adapter of nothing but zeros."""
        super().__init__()
        self.base_layer, self.rows = base_layer, rows
        most = max(layer.lora_A.shape[0] for layer in adapters)
        (_, n), (m, _) = adapters[0].lora_A.shape, adapters[0].lora_B.shape
        A_Krn = adapters[0].lora_A.new_zeros(len(adapters) + 1, most, n)
        B_Kmr = adapters[0].lora_B.new_zeros(len(adapters) + 1, m, most)
        for k, layer in enumerate(adapters):
            rank = layer.lora_A.shape[0]
            A_Krn[k, :rank] = layer.lora_A.detach()
            B_Kmr[k, :, :rank] = layer.scale * layer.lora_B.detach()
        self.register_buffer("A_Krn", A_Krn)
        self.register_buffer("B_Kmr", B_Kmr)

    def forward(self, x_BTn: Tensor) -> Tensor:
        """Two products a row beside the one of all rows. Raises UserError where no adapters were chosen for B rows."""
        adapter_B = self.rows.adapter_B
        if adapter_B is None or x_BTn.ndim != 3 or len(adapter_B) != len(x_BTn):
            chosen = "none" if adapter_B is None else str(len(adapter_B))
            raise UserError(
                f"a batch of {tuple(x_BTn.shape)} and adapters chosen for {chosen}: `choose` one for each row"
            )
        return self.base_layer(x_BTn) + x_BTn @ self.A_Krn[adapter_B].mT @ self.B_Kmr[adapter_B].mT


def serve_together(model: nn.Module, adapters: Sequence[Mapping[str, LoRALinear]]) -> Rows:
    """Put the `adapters` (layer name → LoRA, over one base model) into the plain `model`, all at once.

    Raises UserError, before anything is changed, where they are not LoRAs, not of the same layers, or merged.
    """
    rows, served = Rows(len(adapters)), {}
    for name in dict.fromkeys(name for adapter in adapters for name in adapter):
        if missing := [k for k, adapter in enumerate(adapters) if name not in adapter]:
            raise UserError(f"adapter {missing[0]} has nothing for {name}: all must have the same layers")
        layers = [adapter[name] for adapter in adapters]
        if any(type(layer) is not LoRALinear for layer in layers):
            raise UserError(f"{name}: only LoRA's branches can be added row by row")
        if any(layer.merged for layer in layers):
            raise UserError(f"{name}: an adapter is merged into its base: unmerge it first")
        served[name] = ManyAdapters(model.get_submodule(name), layers, rows)
    for name, layer in served.items():
        model.set_submodule(name, layer)
    return rows
