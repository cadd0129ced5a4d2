"""An adapter as the two files that peft reads and writes: adapter_config.json and adapter_model.safetensors."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from llmm.errors import UserError
from llmm.files import atomic_folder, read_json, write_json
from llmm.training.lora.dora import DoRALinear
from llmm.training.lora.low_rank import LoRALinear, Scaling, adapted_layers, attach

PREFIX = "base_model.model."  # peft's wrapper around the model
MAGNITUDE = "lora_magnitude_vector"
# what changes nothing that is computed here, whatever it says
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "peft_version", "qalora_group_size",
    "revision", "task_type", "megatron_core", "ensure_weight_tying", "layers_pattern",
}  # fmt: skip
_READ = {"peft_type", "r", "lora_alpha", "target_modules", "use_dora", "use_rslora", "init_lora_weights"}
_PLAIN_STARTS = (True, False, "gaussian")  # of the factors; others, such as PiSSA's, change the base as well


def write_adapter(model: nn.Module, folder: Path) -> None:
    """Write the LoRAs or DoRAs in `model` into the new `folder`; the same weights give the same bytes.

    Raises UserError where there is none, or they are of several kinds, ranks or scales: one file holds one setting.
    """
    layers = dict(adapted_layers(model))
    settings = {(type(layer), layer.lora_A.shape[0], layer.alpha, layer.scaling) for layer in layers.values()}
    if len(settings) != 1:
        raise UserError(
            "the model has no adapter to write" if not settings else "its adapters differ in their settings"
        )
    [(kind, rank, alpha, scaling)] = settings
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
        "use_dora": kind is DoRALinear,
        "use_rslora": scaling == "rslora",
    }
    tensors = {
        key: tensor.detach().contiguous() for name, layer in layers.items() for key, tensor in _tensors_of(name, layer)
    }
    with atomic_folder(folder) as temporary:
        (temporary / "adapter_model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
        write_json(temporary / "adapter_config.json", config)


def read_adapter(model: nn.Module, folder: Path) -> dict[str, LoRALinear]:
    """Attach the adapter in `folder` to the plain `model`; layer name → LoRA or DoRA.

    Raises UserError, with the model left as it was, where a file is missing or damaged, the adapter asks for something
    that is not computed here, or a tensor is missing, left over or of another shape.
    """
    config, state = _config(folder), _tensors(folder)
    kind = DoRALinear if config["use_dora"] else LoRALinear
    scaling: Scaling = "rslora" if config["use_rslora"] else "lora"
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    layers = attach(model, config["target_modules"], config["r"], config["lora_alpha"], scaling, kind)
    try:
        _fill(layers, state, folder)
    except UserError:
        for name, layer in layers.items():
            model.set_submodule(name, layer.base_layer)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trainable[name])
        raise
    return layers


def _tensors_of(name: str, layer: LoRALinear) -> list[tuple[str, Tensor]]:
    """peft's key in the file → the parameter."""
    parts = {"lora_A.weight": layer.lora_A, "lora_B.weight": layer.lora_B}
    if isinstance(layer, DoRALinear):
        parts[MAGNITUDE] = layer.magnitude
    return [(f"{PREFIX}{name}.{part}", parameter) for part, parameter in parts.items()]


def _fill(layers: dict[str, LoRALinear], state: dict[str, Tensor], folder: Path) -> None:
    left = dict(state)
    for name, layer in layers.items():
        for key, parameter in _tensors_of(name, layer):
            if key not in left:
                raise UserError(f"{folder}: the tensor {key} is missing")
            found = left.pop(key)
            if found.shape != parameter.shape:
                raise UserError(f"{folder}: {key} is {tuple(found.shape)}, expected {tuple(parameter.shape)}")
            parameter.data.copy_(found)
    if left:
        raise UserError(f"{folder}: {next(iter(left))} has no place in this model")


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise UserError(f"{path} is not there")
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is no JSON object")
    config = {"use_dora": False, "use_rslora": False, **found}
    if config.get("peft_type") != "LORA":
        raise UserError(f"{path}: peft_type = {config.get('peft_type')!r}, expected LORA")
    for key, value in config.items():
        if key not in _HARMLESS | _READ and value not in (None, False, {}, [], "none"):
            raise UserError(f"{path}: {key} = {value!r:.60} is not computed here")
    if (start := config.get("init_lora_weights", True)) not in _PLAIN_STARTS:
        raise UserError(f"{path}: init_lora_weights = {start!r:.60} means another base model than this one")
    kinds = {"r": int, "lora_alpha": int | float, "target_modules": list, "use_dora": bool, "use_rslora": bool}
    for key, expected in kinds.items():
        value = config.get(key)
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            raise UserError(f"{path}: {key} = {value!r:.60} is no {getattr(expected, '__name__', 'number')}")
    return config


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "adapter_model.safetensors"
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except SafetensorError as error:
        raise UserError(f"{path} is no readable safetensors file ({error})") from None
