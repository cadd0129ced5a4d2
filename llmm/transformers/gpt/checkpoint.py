"""A GPT as a folder that `transformers` opens: config.json and model.safetensors, every tensor accounted for."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.transformers.gpt.families import family, from_config_json, to_config_json
from llmm.transformers.gpt.model import GPT
from llmm.transformers.gpt.tensor_names import from_gpt2, to_gpt2


def save_gpt(model: GPT, folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors (float32, same bytes for the same weights)."""
    state = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_embeddings:
        del state["lm_head.weight"]  # the same tensor as the embedding; safetensors holds each storage once
    if family(model.config) == "gpt2":
        state = to_gpt2(state, model.config.n_layer)
    folder.mkdir(parents=True, exist_ok=True)
    # one metadata key only: the order of several is not stable from run to run
    (folder / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
    write_json(folder / "config.json", to_config_json(model.config))
    write_json(folder / "generation_config.json", {"do_sample": False, "eos_token_id": [0, 2], "pad_token_id": 1})


def load_gpt(folder: Path, device: str | torch.device = "cpu") -> GPT:
    """Read a folder of `save_gpt`, or a GPT-2, Llama or Qwen3 of `transformers`; the model is in evaluation mode.

    Raises UserError, naming the tensor, where one is missing, left over or of another shape.
    """
    folder = Path(folder)
    config = from_config_json(read_json(folder / "config.json"))
    file = folder / "model.safetensors"
    try:
        state = load_file(file)
    except FileNotFoundError:
        raise UserError(f"{file} is not there: `dvc repro` makes it") from None
    except SafetensorError as error:
        raise UserError(f"{file} is no readable safetensors file ({error}): delete it and run `dvc repro`") from None
    if family(config) == "gpt2":
        state = from_gpt2(state, config.n_layer)
    model = GPT(config)
    expected = model.state_dict()
    if config.tie_embeddings:
        state.setdefault("lm_head.weight", state.get("model.embed_tokens.weight", torch.empty(0)))
    check_tensors(file, {k: tuple(v.shape) for k, v in state.items()}, {k: tuple(v.shape) for k, v in expected.items()})
    model.load_state_dict(state, strict=True)
    return model.to(device).eval()


def check_tensors(file: Path, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise UserError where the names or shapes of the tensors in `file` are not the expected ones."""
    for name, shape in expected.items():
        if name not in found:
            raise UserError(f"{file}: the tensor {name} is missing")
        if found[name] != shape:
            raise UserError(f"{file}: the tensor {name} is {found[name]}, expected {shape}")
    for name in found:
        if name not in expected:
            raise UserError(f"{file}: the tensor {name} has no place in this model")
