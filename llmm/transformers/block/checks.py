"""The exit criteria of M6 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from llmm.ladder.expect import expect_number, expect_shape, expect_type
from llmm.transformers.attention.attention import Attention
from llmm.transformers.attention.kv_cache import LayerCache
from llmm.transformers.attention.rope import rope_tables
from llmm.transformers.block import parameter_count, peers
from llmm.transformers.block.block import Block, Placement
from llmm.transformers.block.feed_forward import MLP, SwiGLU
from llmm.transformers.block.flop_count import Work, backward_flops, forward_flops
from llmm.transformers.block.gated import GatedFeedForward
from llmm.transformers.block.layer_norm import LayerNorm, layer_norm
from llmm.transformers.block.mixture import MixtureOfExperts, router_losses
from llmm.transformers.block.propagation import Norms, predicted_gradient_ratio, predicted_variance
from llmm.transformers.block.rms_norm import RMSNorm, rms_norm
from llmm.transformers.block.routing import Routing, balance_loss, expert_capacity, route, z_loss
from llmm.transformers.block.tiny_language import with_feed_forward
from llmm.transformers.gpt.config import GPTConfig
from llmm.transformers.gpt.model import GPT

EPS = 1e-3  # large enough that a forgotten one shows


# --- norms ------------------------------------------------------------------------------------------------------------


def layer_norm_gradcheck() -> bool:
    """Backward of layer normalisation against central differences, relative and absolute tolerance 1e-7."""
    x, gain, bias = (_normal(*shape).requires_grad_() for shape in ((3, 2, 6), (6,), (6,)))
    return _gradcheck(partial(layer_norm, eps=EPS), (x, gain, bias))


def rms_norm_gradcheck() -> bool:
    """Backward of RMS normalisation against central differences, relative and absolute tolerance 1e-7."""
    x, gain = _normal(3, 2, 6).requires_grad_(), _normal(6, seed=1).requires_grad_()
    return _gradcheck(partial(rms_norm, eps=EPS), (x, gain))


def layer_norm_error() -> float:
    """Output and all gradients of LayerNorm against torch's own in float64: largest difference."""
    return max(_against(LayerNorm(D, EPS), nn.LayerNorm(D, EPS), shape) for D, shape in _norm_shapes())


def rms_norm_error() -> float:
    """Output and all gradients of RMSNorm against torch's own in float64: largest difference."""
    return max(_against(RMSNorm(D, EPS), nn.RMSNorm(D, EPS), shape) for D, shape in _norm_shapes())


def layer_norm_far_from_zero() -> float:
    """Error of float32 layer normalisation around a mean of 10,000, where the true answer is that of float64."""
    x = (_normal(64, 32) + 1e4).float()
    one, zero = torch.ones(32), torch.zeros(32)
    exact = F.layer_norm(x.double(), (32,), eps=EPS)
    return _distance(layer_norm(x, one, zero, EPS).double(), exact)


def refuses_second_derivatives() -> bool:
    """Both norms raise where a second derivative is asked for, which what they save could only answer wrongly."""
    one, zero = torch.ones(4).double(), torch.zeros(4).double()
    for norm in (lambda x: layer_norm(x, one, zero), lambda x: rms_norm(x, one)):
        x = _normal(2, 4).requires_grad_()
        (first,) = torch.autograd.grad((norm(x) ** 3).sum(), x, create_graph=True)
        try:
            torch.autograd.grad(first.sum(), x)
        except RuntimeError:
            continue
        return False
    return True


def _norm_shapes() -> list[tuple[int, tuple[int, ...]]]:
    return [(5, (5,)), (8, (3, 8)), (16, (2, 3, 16)), (1, (4, 1))]


def _gradcheck(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> bool:
    return torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-7)


def _against(ours: nn.Module, theirs: nn.Module, shape: tuple[int, ...]) -> float:
    """Largest difference of output and gradients of two modules with the same random parameters."""
    found = []
    theirs.load_state_dict(ours.state_dict())
    for module in (ours.double(), theirs.double()):
        _randomise(module)
        x = (3 * _normal(*shape, seed=5) + 2).requires_grad_()
        y = expect_shape("the norm's output", module(x), shape, Tensor)
        weight = _normal(*shape, seed=6)
        found.append([y, *torch.autograd.grad((weight * y).sum(), [x, *module.parameters()])])
    return max(_distance(a, b) for a, b in zip(*found, strict=True))


# --- the block and its peers ------------------------------------------------------------------------------------------


def encoder_layer_error() -> float:
    """torch's encoder layer, pre and post, and its gradient in the input against ours with its weights, float64."""
    errors = []
    for norm_first in (True, False):
        layer = nn.TransformerEncoderLayer(
            24, 4, 40, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first, layer_norm_eps=EPS
        ).double()
        _randomise(layer)
        ours = peers.from_encoder_layer(layer)
        both_ways = partial(ours.forward, mask=torch.ones(1, 1, 7, 7, dtype=torch.bool))
        found = []
        for run in (layer.forward, both_ways):
            x = _normal(3, 7, 24, seed=7).requires_grad_()
            y = run(x)
            found.append([y, *torch.autograd.grad((y * _normal(3, 7, 24, seed=8)).sum(), x)])
        errors += [_distance(a, b) for a, b in zip(*found, strict=True)]
    return max(errors)


def decoder_layer_error() -> float:
    """`transformers`' layers of Llama (grouped heads), Qwen3 (QK-norm) and GPT-2 against ours: relative difference.

    In float64, but their RMSNorm goes through float32 whatever it is given: about 1e-7 of the largest output.
    """
    from transformers import GPT2Config, LlamaConfig, Qwen3Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer
    from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_hidden_layers": 1,
        "rms_norm_eps": EPS,
        "attn_implementation": "sdpa",
    }
    gpt2 = GPT2Config(n_embd=32, n_head=4, n_layer=1, layer_norm_epsilon=EPS, attn_implementation="sdpa")
    layers = {
        "llama": LlamaDecoderLayer(LlamaConfig(**sizes), 0),
        "qwen3": Qwen3DecoderLayer(Qwen3Config(**sizes), 0),
        "gpt2": GPT2Block(gpt2, 0),
    }
    x = _normal(2, 9, 32, seed=9)
    cos, sin = (table.double() for table in rope_tables(8, 9, 10000.0))
    errors = []
    for name, layer in layers.items():
        _randomise(layer.double().eval())
        with torch.no_grad():
            if name == "gpt2":
                theirs, ours = layer(x), peers.from_gpt2_block(layer, 4)(x)
            else:
                theirs = layer(x, position_embeddings=(cos[None], sin[None]))
                ours = peers.from_llama_layer(layer)(x, (cos, sin))
        theirs = theirs[0] if isinstance(theirs, tuple) else theirs
        errors.append(
            _distance(expect_shape("the block's output", ours, (2, 9, 32)), theirs) / float(theirs.abs().max())
        )
    return max(errors)


def sandwich_error() -> float:
    """A sandwich block against its own parts put together by the formula, float64."""
    block = _randomise(_block("sandwich", 16).double())
    x = _normal(2, 5, 16, seed=10)
    attended = x + block.attention_out_norm(block.self_attn(block.input_layernorm(x)))
    expected = attended + block.mlp_out_norm(block.mlp(block.post_attention_layernorm(attended)))
    return _distance(block(x), expected)


def cache_error() -> float:
    """A block that reads token by token, with a cache, against one that reads all at once: every placement, float64."""
    errors = []
    for placement in ("pre", "post", "sandwich"):
        block = _randomise(_block(placement, 16).double())
        x = _normal(2, 6, 16, seed=11)
        cos, sin = (table.double() for table in rope_tables(4, 6, 100.0))
        cache = LayerCache(torch.empty(2, 2, 6, 4).double(), torch.empty(2, 2, 6, 4).double())
        with torch.no_grad():
            whole = block(x, (cos, sin))
            parts = [block(x[:, t : t + 1], (cos[t : t + 1], sin[t : t + 1]), cache=cache) for t in range(6)]
        errors.append(_distance(torch.cat(parts, 1), whole))
    return max(errors)


def _block(placement: Any, d_model: int) -> Block:
    attention = Attention(d_model, 4, 2, d_model // 4, qk_norm_eps=EPS)
    return Block(attention, SwiGLU(d_model, 24), partial(nn.RMSNorm, d_model, eps=EPS), placement)


def variance_law_error() -> float:
    """Streams of blocks whose branches add independent noise, against `predicted_variance`: largest relative error."""
    attention, feed_forward, start, depth = 0.3, 0.5, 2.0, 12
    errors = []
    kinds: tuple[Norms, ...] = ("pre", "post", "sandwich", "none")
    for norms in kinds:
        generator = torch.Generator().manual_seed(12)
        make_norm: Callable[[], nn.Module] = nn.Identity if norms == "none" else partial(LayerNorm, 64)
        placement: Placement = "pre" if norms == "none" else norms
        x = start**0.5 * torch.randn(8, 64, 64, generator=generator)
        for layer in range(1, depth + 1):
            block = Block(_Noise(attention, generator), _Noise(feed_forward, generator), make_norm, placement)
            with torch.no_grad():
                x = block(x)
            added = attention + feed_forward + (attention * feed_forward if norms == "none" else 0)
            expected = expect_number("predicted_variance", predicted_variance(norms, layer, start, added))
            errors.append(abs(float(x.square().mean()) / expected - 1))
    return max(errors)


class _Noise(nn.Module):
    """A branch that answers with noise of `variance` times the mean square of its input."""

    def __init__(self, variance: float, generator: torch.Generator) -> None:
        super().__init__()
        self.variance, self.generator = variance, generator

    def forward(self, x: Tensor, *_: object) -> Tensor:
        size = (self.variance * x.detach().square().mean()).sqrt()
        return size * torch.randn(x.shape, generator=self.generator)


def gradient_ratio_error() -> float:
    """`predicted_gradient_ratio` against the limits that can be said without it."""
    found = [
        (predicted_gradient_ratio("pre", 6, 24, 0.0, 0.7), 2.0),
        (predicted_gradient_ratio("pre", 6, 24, 1.0, 1.0), 5 / math.sqrt(7)),
        (predicted_gradient_ratio("post", 6, 24, 1.0, 0.7), 1.0),
        (predicted_gradient_ratio("sandwich", 2, 8, 0.0, 0.7), 2.0),
    ]
    return max(abs(expect_number("predicted_gradient_ratio", ratio) - expected) for ratio, expected in found)


# --- feed-forward layers ----------------------------------------------------------------------------------------------


def feed_forward_error() -> float:
    """SwiGLU and the three MLPs against their formulas written in scalars: largest difference, float64."""
    x = _normal(3, 4, seed=13)
    errors = []
    for name, scalar in _SCALARS.items():
        layer = MLP(4, 6, name, bias=True) if name != "silu" else SwiGLU(4, 6, bias=True)
        _randomise(layer.double())
        hidden = layer.up_proj(x)
        hidden = _each(scalar, layer.gate_proj(x)) * hidden if name == "silu" else _each(scalar, hidden)
        errors.append(_distance(expect_shape("the feed-forward's output", layer(x), (3, 4)), layer.down_proj(hidden)))
    return max(errors)


def gate_error() -> float:
    """All five gates against their formulas, the sigmoid one against torch's glu, SwiGLU against the core's."""
    scalars = {"bilinear": lambda v: v, "glu": _sigmoid, "reglu": lambda v: max(v, 0.0)}
    scalars |= {"geglu": _SCALARS["gelu"], "swiglu": _SCALARS["silu"]}
    x = _normal(3, 4, seed=14)
    errors = []
    for name, scalar in scalars.items():
        layer = GatedFeedForward(4, 6, name, bias=True).double()
        _randomise(layer)
        expected = layer.down_proj(_each(scalar, layer.gate_proj(x)) * layer.up_proj(x))
        errors.append(_distance(expect_shape("the feed-forward's output", layer(x), (3, 4)), expected))
        if name == "glu":
            both = torch.cat([layer.up_proj(x), layer.gate_proj(x)], -1)
            errors.append(_distance(layer(x), layer.down_proj(F.glu(both))))
        if name == "swiglu":
            core = SwiGLU(4, 6, bias=True).double()
            core.load_state_dict(layer.state_dict())
            errors.append(_distance(layer(x), core(x)))
    return max(errors)


def _sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


_SCALARS: dict[str, Callable[[float], float]] = {
    "gelu": lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2,
    "gelu_tanh": lambda v: v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2,
    "relu2": lambda v: max(v, 0.0) ** 2,
    "silu": lambda v: v * _sigmoid(v),
}


def _each(scalar: Callable[[float], float], x: Tensor) -> Tensor:
    return torch.tensor([scalar(v) for v in x.flatten().tolist()], dtype=x.dtype).view(x.shape)


# --- mixture of experts -----------------------------------------------------------------------------------------------


def mixture_error() -> float:
    """Output and all gradients against a loop over tokens, with and without limits, one to three choices, float64."""
    errors = []
    for top_k, factor, renormalise in itertools.product((1, 2, 3), (None, 0.5, 1.0), (False, True)):
        mixture = MixtureOfExperts(6, 4, top_k, partial(SwiGLU, 6, 5), factor, renormalise).double()
        _randomise(mixture)
        found = []
        for run in (mixture, partial(_token_by_token, mixture)):
            x = _normal(2, 7, 6, seed=15).requires_grad_()
            y = expect_shape("the mixture's output", run(x), (2, 7, 6), Tensor)
            wanted = [x, *mixture.parameters()]
            gradients = torch.autograd.grad((y * _normal(2, 7, 6, seed=16)).sum(), wanted, allow_unused=True)
            found.append(
                [y, *(torch.zeros_like(p) if g is None else g for p, g in zip(wanted, gradients, strict=True))]
            )
        errors += [_distance(a, b) for a, b in zip(*found, strict=True)]
    return max(errors)


def _token_by_token(mixture: MixtureOfExperts, x: Tensor) -> Tensor:
    """Each token by itself, its experts one after the other; a full expert answers 0."""
    x_ND, K, E = x.flatten(0, -2), mixture.top_k, len(mixture.experts)
    room = [math.inf] * E
    if mixture.capacity_factor is not None:
        room = [math.ceil(mixture.capacity_factor * len(x_ND) * K / E)] * E
    probabilities = [mixture.gate(token).softmax(-1) for token in x_ND]
    chosen = [sorted(range(E), key=p.tolist().__getitem__, reverse=True)[:K] for p in probabilities]
    out = [torch.zeros_like(token) for token in x_ND]
    for k in range(K):  # every token's first choice comes before any second one
        for n, (token, p) in enumerate(zip(x_ND, probabilities, strict=True)):
            e = chosen[n][k]
            if room[e] > 0:
                room[e] -= 1
                weight = p[e] / sum(p[i] for i in chosen[n]) if mixture.renormalise else p[e]
                out[n] = out[n] + weight * mixture.experts[e](token)
    return torch.stack(out).view_as(x)


def one_expert_error() -> float:
    """A mixture of a single expert against that expert, float64."""
    mixture = _randomise(MixtureOfExperts(6, 1, 1, partial(SwiGLU, 6, 5)).double())
    x = _normal(3, 5, 6, seed=17)
    return _distance(mixture(x), mixture.experts[0](x))


def mixtral_error() -> float:
    """`transformers`' Mixtral layer against ours with its weights: largest difference, float64."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(hidden_size=16, intermediate_size=24, num_local_experts=5, num_experts_per_tok=2)
    config._experts_implementation = "eager"
    theirs = _randomise(MixtralSparseMoeBlock(config).double().eval())
    x = _normal(2, 9, 16, seed=18)
    with torch.no_grad():
        return _distance(peers.from_mixtral(theirs)(x), theirs(x))


def capacity_violations() -> int:
    """Of 60 random routings: experts that took too many, and tokens that were turned away in the wrong order."""
    rng, wrong = random.Random(0), 0
    for case in range(60):
        E, N = rng.randrange(2, 7), rng.randrange(1, 30)
        K = rng.randrange(1, E + 1)
        room = expect_number("expert_capacity", expert_capacity(N, E, K, 0.5 + rng.random()))
        routing = expect_type("route", route(_normal(N, E, seed=100 + case), K, int(room)), Routing)
        expect_shape("kept_NK", routing.kept_NK, (N, K), Tensor)
        taken = [0] * E
        for k, n in itertools.product(range(K), range(N)):
            e = int(routing.expert_NK[n, k])
            wrong += bool(routing.kept_NK[n, k]) != (taken[e] < room)
            taken[e] += bool(routing.kept_NK[n, k])
        wrong += sum(count > room for count in taken)
    wrong += sum(expert_capacity(*case) != room for case, room in (((10, 4, 1, 1.0), 3), ((8, 4, 2, 1.25), 5)))
    return wrong


def balance_error() -> float:
    """Balance loss at even and at one-sided routing, against `transformers`' for random ones, and its gradient."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    even = torch.eye(6).repeat(5, 1).double() * 1e-9  # each expert is the favourite of five tokens, by a hair
    one_sided = torch.zeros(30, 6).double()
    one_sided[:, 2] = 60.0
    errors = [abs(_balance(even, 1) - 1.0), abs(_balance(one_sided, 1) - 6.0)]
    for K in (1, 2, 3):
        logits_NE = _normal(40, 6, seed=19 + K).float()
        errors.append(abs(_balance(logits_NE, K) - float(load_balancing_loss_func((logits_NE,), 6, K)) / K) / 10)
    logits_NE = _normal(20, 5, seed=23).requires_grad_()
    routing = route(logits_NE, 2)
    (gradient,) = torch.autograd.grad(balance_loss(routing), logits_NE)
    p, load = logits_NE.detach().softmax(-1), torch.bincount(routing.expert_NK.flatten(), minlength=5) / 40
    errors.append(_distance(gradient, 5 / 20 * p * (load - (p * load).sum(-1, keepdim=True))))
    return max(errors)


def _balance(logits_NE: Tensor, top_k: int) -> float:
    return expect_number("balance_loss", balance_loss(route(logits_NE, top_k)).detach())


def z_loss_error() -> float:
    """z-loss at equal logits, where it is (c + ln E)², at ±1000, and the mean of both losses over two mixtures."""
    errors = [abs(float(z_loss(route(torch.full((7, 4), c).double(), 1))) - (c + math.log(4)) ** 2) for c in (0.0, 3.0)]
    errors.append(abs(float(z_loss(route(torch.full((7, 4), -1000.0).double(), 1))) / (math.log(4) - 1000) ** 2 - 1))
    model = nn.Sequential(*(MixtureOfExperts(4, 3, 1, partial(SwiGLU, 4, 4)) for _ in range(2))).double()
    _randomise(model)(_normal(11, 4, seed=24))
    routings = [mixture.routing for mixture in model]
    for loss, single in zip(router_losses(model), (balance_loss, z_loss), strict=True):
        errors.append(abs(float(loss.detach()) - sum(float(single(r).detach()) for r in routings) / 2))
    return max(errors)


# --- counting ---------------------------------------------------------------------------------------------------------


def parameter_mismatches() -> int:
    """Of 150 random models (norms, heads, biases, positions, ties, experts), those whose formula is off."""
    return sum(
        parameter_count.gpt_parameters(config, n_expert) != sum(p.numel() for p in model.parameters())
        for config, n_expert, _, model in _random_models(150)
    )


def equal_width_error() -> float:
    """Distance of the parameters of a gated layer of `equal_width` from those of the plain one, in hidden units."""
    errors = []
    for D, d_ff, bias in itertools.product((4, 7, 64), (6, 16, 100, 256), (False, True)):
        width = parameter_count.equal_width(D, d_ff, bias)
        plain = sum(p.numel() for p in MLP(D, d_ff, "gelu", bias).parameters())
        gated = sum(p.numel() for p in SwiGLU(D, width, bias).parameters())
        errors.append(abs(gated - plain) / (3 * D + 2 * bias))
    return max(errors)


def flop_mismatches() -> int:
    """Of 40 random models, those whose forward or backward FLOPs are not what FlopCounterMode counts."""
    wrong = 0
    for config, n_expert, top_k, model in _random_models(40):
        work = Work(2, config.context_len)
        with sdpa_kernel(SDPBackend.MATH):
            counted = _counted_flops(model, work, FlopCounterMode(display=False), FlopCounterMode(display=False))
        said = (forward_flops(config, work, n_expert, top_k), backward_flops(config, work, n_expert, top_k))
        wrong += counted != said
    return wrong


def tiled_flop_mismatches() -> int:
    """The same with the processor's tiled kernel, which has to be told to the counter: it makes the scores twice."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    formulas = {
        kernel: lambda q, k, v, *args, out_shape=None, **kwargs: sdpa_flop_count(q, k, v),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, q, k, v, *args, out_shape=None, **kwargs: sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    wrong = 0
    for config, n_expert, top_k, model in _random_models(12):
        work = Work(2, config.context_len)
        counters = [FlopCounterMode(display=False, custom_mapping=formulas) for _ in range(2)]
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            counted = _counted_flops(model, work, *counters)
        backward = backward_flops(config, work, n_expert, top_k, recompute=True)
        wrong += counted != (forward_flops(config, work, n_expert, top_k), backward)
    return wrong


def cached_flop_mismatches() -> int:
    """Of 12 random models reading three tokens after five in a cache, those whose forward FLOPs are off."""
    wrong = 0
    for config, n_expert, top_k, model in _random_models(12):
        cache = model.new_cache(2, 8)
        ids = torch.zeros(2, 8, dtype=torch.long)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            model(ids[:, :5], cache=cache)
            with FlopCounterMode(display=False) as counter:
                model(ids[:, 5:], cache=cache)
        wrong += counter.get_total_flops() != forward_flops(config, Work(2, 3, past=5), n_expert, top_k)
    return wrong


def _counted_flops(model: GPT, work: Work, forward: FlopCounterMode, backward: FlopCounterMode) -> tuple[int, int]:
    ids = torch.zeros(work.batch, work.tokens, dtype=torch.long)
    with forward:
        total = model(ids).sum()
    with backward:
        total.backward()
    return forward.get_total_flops(), backward.get_total_flops()


def _random_models(count: int) -> Iterator[tuple[GPTConfig, int | None, int, GPT]]:
    """Configurations from all over the space, every third with a mixture of experts, and the models that they make."""
    rng = random.Random(1)
    for case in range(count):
        n_kv_head = rng.choice([1, 2, 3])
        n_head = n_kv_head * rng.choice([1, 2, 3])
        config = GPTConfig(
            vocab_size=rng.randrange(3, 40),
            n_layer=rng.randrange(1, 4),
            n_head=n_head,
            n_kv_head=n_kv_head,
            d_model=n_head * rng.choice([2, 4]),
            d_ff=rng.randrange(1, 20),
            context_len=8,
            tie_embeddings=rng.random() < 0.5,
            head_dim=rng.choice([None, 6]),
            positions=rng.choice(["rope", "learned"]),
            norm=rng.choice(["rms", "layer"]),
            norm_placement=rng.choice(["pre", "post", "sandwich"]),
            qk_norm=rng.random() < 0.5,
            feed_forward=rng.choice(["swiglu", "gelu", "gelu_tanh", "relu2"]),
            bias=rng.random() < 0.5,
        )
        model, n_expert, top_k = GPT(config), None, 1
        if case % 3 == 2:
            n_expert = rng.randrange(1, 5)
            top_k = rng.randrange(1, n_expert + 1)
            make = partial(_mixture_of, config, n_expert, top_k)
            with_feed_forward(model, make)
        yield config, n_expert, top_k, model


def _mixture_of(config: GPTConfig, n_expert: int, top_k: int) -> MixtureOfExperts:
    def expert() -> nn.Module:
        if config.feed_forward == "swiglu":
            return SwiGLU(config.d_model, config.d_ff, config.bias)
        return MLP(config.d_model, config.d_ff, config.feed_forward, config.bias)

    return MixtureOfExperts(config.d_model, n_expert, top_k, expert)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _normal(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64, always the same for a seed."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _randomise(module: Any) -> Any:
    """Matrices N(0, 0.4²), gains and biases in [0.5, 1.5]: at the usual 0.02 a wrong block hides below 1e-4."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            if parameter.ndim > 1:
                parameter.normal_(0, 0.4, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return module


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference; infinite where either is not finite, so that NaN never passes for zero."""
    expect_shape("the answer", a, b.shape)
    return float((a - b).detach().abs().nan_to_num(math.inf).max())
