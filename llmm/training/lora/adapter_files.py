"""An adapter as the two files that peft reads and writes: adapter_config.json and adapter_model.safetensors."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.training.lora.dora import DoRALinear
from llmm.training.lora.low_rank import LoRALinear, adapted_layers, attach

PREFIX = "base_model.model."  # peft's wrapper around the model
MAGNITUDE = "lora_magnitude_vector"


def write_adapter(model: nn.Module, folder: Path, alpha: float) -> None:
    """Write the LoRAs or DoRAs in `model`; the same weights give the same bytes. `alpha` is that of `attach`."""
    layers = dict(adapted_layers(model))
    if not layers:
        raise UserError("the model has no adapter to write")
    first = next(iter(layers.values()))
    rank = first.lora_A.shape[0]
    state = {}
    for name, layer in layers.items():
        state[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A
        state[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B
        if isinstance(layer, DoRALinear):
            state[f"{PREFIX}{name}.{MAGNITUDE}"] = layer.magnitude
    config = {
        "base_model_name_or_path": "",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in layers}),
        "task_type": None,
        "use_dora": isinstance(first, DoRALinear),
        "use_rslora": abs(first.scale - alpha / rank) > abs(first.scale - alpha / rank**0.5),
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.detach().contiguous() for key, tensor in state.items()}
    (folder / "adapter_model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    write_json(folder / "adapter_config.json", config)


def read_adapter(model: nn.Module, folder: Path) -> dict[str, LoRALinear]:
    """Attach the adapter in `folder` to the plain `model`; layer name → LoRA or DoRA.

    Raises UserError where a file is missing or damaged, the adapter uses something that is not computed here, or a
    tensor is missing, left over or of another shape.
    """
    config, state = _config(folder), _tensors(folder)
    kind = DoRALinear if config["use_dora"] else LoRALinear
    scaling = "rslora" if config["use_rslora"] else "lora"
    layers = attach(model, config["target_modules"], config["r"], config["lora_alpha"], scaling, kind)
    for name, layer in layers.items():
        parameters = {"lora_A.weight": layer.lora_A, "lora_B.weight": layer.lora_B}
        if isinstance(layer, DoRALinear):
            parameters[MAGNITUDE] = layer.magnitude
        for part, parameter in parameters.items():
            key = f"{PREFIX}{name}.{part}"
            if key not in state:
                raise UserError(f"{folder}: the tensor {key} is missing")
            found = state.pop(key)
            if found.shape != parameter.shape:
                raise UserError(f"{folder}: {key} is {tuple(found.shape)}, expected {tuple(parameter.shape)}")
            parameter.data.copy_(found)
    if state:
        raise UserError(f"{folder}: {next(iter(state))} has no place in this model")
    return layers


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    config = {"use_dora": False, "use_rslora": False, **read_json(path)}
    expected = {"peft_type": "LORA", "bias": "none", "fan_in_fan_out": False}
    unset = ("rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices", "layers_to_transform")
    for key, value in {**expected, **dict.fromkeys(unset)}.items():
        if (found := config.get(key, value) or None) != (value or None):
            raise UserError(f"{path}: {key} = {found!r:.60} is not computed here")
    if missing := [key for key in ("r", "lora_alpha", "target_modules") if key not in config]:
        raise UserError(f"{path}: {missing[0]} is missing")
    return config


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "adapter_model.safetensors"
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except SafetensorError as error:
        raise UserError(f"{path} is no readable safetensors file ({error})") from None
