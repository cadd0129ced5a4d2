"""The three families of `transformers` that a GPT can be, and its sizes in the words of their config.json."""

from typing import Any

from llmm.errors import UserError
from llmm.transformers.gpt.config import GPTConfig

# what a family leaves no choice of
LLAMA: dict[str, Any] = {"positions": "rope", "norm": "rms", "feed_forward": "swiglu", "bias": False, "qk_norm": False}
QWEN3: dict[str, Any] = {**LLAMA, "qk_norm": True}
GPT2: dict[str, Any] = {"positions": "learned", "norm": "layer", "bias": True, "qk_norm": False}
FAMILIES = {"gpt2": GPT2, "llama": LLAMA, "qwen3": QWEN3}
CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
GPT2_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}

# switches of config.json that change what the weights mean, and the only value that we compute
_ONLY: dict[str, dict[str, Any]] = {
    "gpt2": {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    "llama": {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    "qwen3": {"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
}


def family(config: GPTConfig) -> str:
    """The family that `config` belongs to. Raises UserError where there is none."""
    for name, fixed in FAMILIES.items():
        chosen = config.norm_placement == "pre" and all(getattr(config, key) == value for key, value in fixed.items())
        if chosen and (name != "gpt2" or config.feed_forward in GPT2_ACTIVATIONS.values()):
            return name
    raise UserError(
        "no family of `transformers` (gpt2, llama, qwen3) makes this model's choices: it cannot be exported"
    )


def to_config_json(config: GPTConfig) -> dict[str, Any]:
    """The content of `config.json` for `transformers`."""
    name = family(config)
    common = {
        "architectures": [CLASSES[name]],
        "model_type": name,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "dtype": "float32",
    }
    if name == "gpt2":
        return common | {
            "n_embd": config.d_model,
            "n_inner": config.d_ff,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_positions": config.context_len,
            "layer_norm_epsilon": config.norm_eps,
            "activation_function": "gelu_new" if config.feed_forward == "gelu_tanh" else "gelu",
        }
    return common | {
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.d_head,
        "max_position_embeddings": config.context_len,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
    }


def from_config_json(theirs: dict[str, Any]) -> GPTConfig:
    """Read `config.json`. Raises UserError for another family, a missing key or a switch that we do not compute."""
    name = theirs.get("model_type")
    if name not in FAMILIES:
        raise UserError(f"config.json: model_type = {name!r}, expected one of {', '.join(map(repr, FAMILIES))}")
    for key, value in _ONLY[name].items():
        if theirs.get(key, value) != value:
            raise UserError(f"config.json: {key} = {theirs[key]!r}, only {value!r} is computed here")
    try:
        return _gpt2(theirs) if name == "gpt2" else _llama(theirs, FAMILIES[name])
    except KeyError as error:
        raise UserError(f"config.json: {error.args[0]} is missing") from None
    except UserError as error:
        raise UserError(f"config.json: {error}") from None


def _gpt2(theirs: dict[str, Any]) -> GPTConfig:
    activation = theirs.get("activation_function", "gelu_new")
    if activation not in GPT2_ACTIVATIONS:
        raise UserError(
            f"activation_function = {activation!r}, expected one of {', '.join(map(repr, GPT2_ACTIVATIONS))}"
        )
    return GPTConfig(
        vocab_size=theirs["vocab_size"],
        n_layer=theirs["n_layer"],
        n_head=theirs["n_head"],
        n_kv_head=theirs["n_head"],
        d_model=theirs["n_embd"],
        d_ff=theirs.get("n_inner") or 4 * theirs["n_embd"],
        context_len=theirs["n_positions"],
        norm_eps=theirs["layer_norm_epsilon"],
        tie_embeddings=theirs.get("tie_word_embeddings", True),
        feed_forward=GPT2_ACTIVATIONS[activation],  # type: ignore[arg-type]
        **GPT2,
    )


def _llama(theirs: dict[str, Any], fixed: dict[str, Any]) -> GPTConfig:
    rope = theirs.get("rope_parameters") or {"rope_theta": theirs["rope_theta"], **(theirs.get("rope_scaling") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UserError(f"rope_type = {kind!r}, only 'default' is computed here")
    n_head, d_model = theirs["num_attention_heads"], theirs["hidden_size"]
    head_dim = theirs.get("head_dim") or d_model // n_head
    return GPTConfig(
        vocab_size=theirs["vocab_size"],
        n_layer=theirs["num_hidden_layers"],
        n_head=n_head,
        n_kv_head=theirs.get("num_key_value_heads") or n_head,
        d_model=d_model,
        d_ff=theirs["intermediate_size"],
        context_len=theirs["max_position_embeddings"],
        rope_theta=rope["rope_theta"],
        norm_eps=theirs["rms_norm_eps"],
        tie_embeddings=theirs["tie_word_embeddings"],
        head_dim=None if head_dim * n_head == d_model else head_dim,
        **fixed,
    )
