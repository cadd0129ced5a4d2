"""The GPT against transformers' Qwen3, and the properties of generation."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare

from llmm.errors import UserError
from llmm.training.pretraining.recipe import next_token_loss
from llmm.transformers.attention.attend import _in_two_halves, attend
from llmm.transformers.gpt import GPT, GPTConfig, load_gpt, save_gpt
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import Sampler

CONFIG = GPTConfig(vocab_size=211, n_layer=3, n_head=4, n_kv_head=2, d_model=64, d_ff=96, context_len=96)


def scaled(config: GPTConfig = CONFIG) -> GPT:
    """Weights so large that a small mistake shows: at the usual scale wrong variants hide below 1e-4."""
    torch.manual_seed(0)
    model = GPT(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.2)
        else:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> GPT:
    return scaled()


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(2, CONFIG.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_opens_the_folder_with_equal_logits(tmp_path, ids, tied):
    from transformers import AutoModelForCausalLM

    ours = scaled(GPTConfig(**{**vars(CONFIG), "tie_embeddings": tied}))
    save_gpt(ours, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        assert (theirs(ids).logits - ours(ids)).abs().max() <= 1e-6
        assert (load_gpt(tmp_path)(ids) - ours(ids)).abs().max() == 0


def test_padding_on_either_side_changes_nothing(model, ids):
    with torch.inference_mode():
        alone = model(ids[:1])
        pads = torch.zeros(1, 7, dtype=torch.long)
        for padded, place in (
            (torch.cat([pads, ids[:1]], 1), slice(7, 47)),
            (torch.cat([ids[:1], pads], 1), slice(0, 40)),
        ):
            mask = torch.zeros(1, 47, dtype=torch.long)
            mask[:, place] = 1
            assert (model(padded, mask)[:, place] - alone).abs().max() <= 1e-5
            assert model(padded, mask).isfinite().all()


def _borders(T):
    """A mask (2, 1, T, T) of windows that hold two documents each."""
    documents = torch.tensor([[0] * 5 + [1] * (T - 5), [0] * (T - 1) + [1]])
    return (documents[:, None, :, None] == documents[:, None, None, :]) & torch.ones(T, T, dtype=torch.bool).tril()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_in_two_halves_is_the_tiled_kernel_forward_and_backward(kv_heads, masked):
    torch.manual_seed(0)
    query = torch.randn(2, 4, 33, 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(2, kv_heads, 33, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = []
    for version in (attend, _in_two_halves):
        mixed = version(query, key, value, _borders(33) if masked else None)
        found.append((mixed, *torch.autograd.grad((mixed**2).sum(), (query, key, value))))
    for tiled, plain in zip(*found, strict=True):
        assert (tiled - plain).abs().max() <= 1e-5 * (1 + tiled.abs().max())


@pytest.mark.slow
def test_attention_compiled_in_bfloat16_keeps_to_the_mask_and_takes_a_cache():
    torch.manual_seed(0)
    query = torch.randn(2, 4, 33, 8)
    key, value = (torch.randn(2, 2, 40, 8) for _ in range(2))
    compiled = torch.compile(attend)
    past = torch.ones(33, 40, dtype=torch.bool).tril(7)[None, None]
    for keys, mask in ((33, _borders(33)), (33, None), (40, past)):
        wanted = attend(query, key[:, :, :keys], value[:, :, :keys], mask)
        half = (x.bfloat16() for x in (query, key[:, :, :keys], value[:, :, :keys]))
        assert (compiled(*half, mask) - wanted).abs().max() <= 0.05


@pytest.mark.slow
def test_compiled_training_takes_the_same_gradient(model, ids):
    compiled = copy.deepcopy(model).train()
    losses = [next_token_loss(model, ids), torch.compile(next_token_loss)(compiled, ids)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    for plain, fused in zip(model.parameters(), compiled.parameters(), strict=True):
        assert (plain.grad - fused.grad).abs().max() <= 1e-5
    model.zero_grad(set_to_none=True)


def test_a_token_changes_nothing_before_it(model, ids):
    changed = ids.clone()
    changed[:, 25] = (changed[:, 25] + 1) % CONFIG.vocab_size
    with torch.inference_mode():
        assert torch.equal(model(ids)[:, :25], model(changed)[:, :25])
        assert not torch.equal(model(ids)[:, 25:], model(changed)[:, 25:])


def test_cached_generation_of_a_ragged_batch_equals_one_by_one_without_cache(model):
    prompts = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2], [100]]
    batch = generate(model, prompts, 20)
    with torch.inference_mode():
        for prompt, generated in zip(prompts, batch, strict=True):
            row = list(prompt)
            for _ in range(20):
                row.append(int(model(torch.tensor([row]))[0, -1].argmax()))
            assert row[len(prompt) :] == generated


def test_generation_stops_at_a_stop_token_and_at_the_end_of_the_context(model):
    free = generate(model, [[5, 6, 7]], 30)[0]
    stop = free[4]
    assert generate(model, [[5, 6, 7]], 30, stop_ids=[stop])[0] == free[: free.index(stop) + 1]
    assert len(generate(model, [[5] * 90], 30)[0]) == CONFIG.context_len - 90


def test_a_logits_processor_decides_what_may_come(model):
    def only_even(rows, generated, logits):
        logits = logits.clone()
        logits[:, 1::2] = -torch.inf
        return logits

    for row in generate(model, [[5], [6, 7]], 15, logits_processor=only_even):
        assert all(token % 2 == 0 for token in row)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([], "empty"), ([5] * 96, "takes 96"), ([500], "vocabulary ends at 210"), ([-1], "vocabulary ends")],
)
def test_impossible_prompts_are_refused(model, prompt, message):
    with pytest.raises(UserError, match=message):
        generate(model, [prompt], 5)


@pytest.mark.parametrize(
    "settings", [{"temperature": -1}, {"top_k": -2}, {"top_p": 0}, {"top_p": 1.5}, {"temperature": float("nan")}]
)
def test_impossible_sampler_settings_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Sampler(**settings)


def test_sampling_follows_the_probabilities():
    logits = torch.randn(12, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(4)
    drawn = Sampler(temperature=0.8)(logits.expand(20_000, -1), generator)
    expected = (logits.double() / 0.8).softmax(-1) * 20_000
    assert chisquare(torch.bincount(drawn, minlength=12).numpy(), expected.numpy()).pvalue > 0.01


def test_top_k_and_top_p_keep_the_right_tokens():
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log().expand(2000, -1)
    generator = torch.Generator().manual_seed(0)
    assert set(Sampler(1.0, top_k=2)(logits, generator).tolist()) == {0, 1}
    assert set(Sampler(1.0, top_p=0.7)(logits, generator).tolist()) == {0, 1}
    assert set(Sampler(1.0, top_p=0.8)(logits, generator).tolist()) == {0, 1, 2}
    assert set(Sampler(0.0)(logits, generator).tolist()) == {0}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("model.norm.weight"), "model.norm.weight is missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra has no place"),
        (lambda state: state.update({"model.norm.weight": torch.zeros(3)}), r"\(3,\), expected \(64,\)"),
    ],
)
def test_a_checkpoint_with_a_wrong_tensor_is_refused(tmp_path, model, spoil, message):
    save_gpt(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    spoil(state)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=message):
        load_gpt(tmp_path)


def test_another_architecture_and_a_truncated_file_are_refused(tmp_path, model):
    save_gpt(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="no readable safetensors"):
        load_gpt(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    with pytest.raises(UserError, match="'mamba', expected one of 'gpt2', 'llama', 'qwen3'"):
        load_gpt(tmp_path)


def test_parameters_and_flops_are_counted_right(model, ids):
    from torch.utils.flop_counter import FlopCounterMode

    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name)
    head = CONFIG.vocab_size * CONFIG.d_model  # tied: the embedding's matrix is the head's
    assert matrices + head == CONFIG.n_matmul_params
    counter = FlopCounterMode(display=False)
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(ids)
    attention = 4 * CONFIG.n_layer * ids.numel() * ids.shape[1] * CONFIG.d_model  # the whole square, no causal half
    assert counter.get_total_flops() == 2 * CONFIG.n_matmul_params * ids.numel() + attention


def test_fresh_weights_predict_uniformly_and_blocks_start_as_the_identity():
    model = GPT(CONFIG)
    model.init_weights(torch.Generator().manual_seed(0))
    ids = torch.randint(0, CONFIG.vocab_size, (4, 33), generator=torch.Generator().manual_seed(1))
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - torch.tensor(CONFIG.vocab_size).log().item()) <= 0.1
    x = torch.randn(2, 5, CONFIG.d_model)
    assert torch.equal(model.model.layers[0](x, (model.model.cos[:5], model.model.sin[:5])), x)
