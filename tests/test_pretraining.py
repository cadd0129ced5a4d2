"""Pretraining: what a step sees, what a score counts, and that a killed run ends in the same bits."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import where_they_belong_together
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmm import lineage
from llmm.device import precision
from llmm.errors import UserError
from llmm.params import load_params
from llmm.training.pretraining import bench_pretrain, bench_step, trainer
from llmm.training.pretraining.accumulation import MicroBatch, accumulate
from llmm.training.pretraining.bits_per_byte import score, token_bytes
from llmm.training.pretraining.characters import character_shards
from llmm.training.pretraining.checkpoint import Checkpoints, work_folder
from llmm.training.pretraining.data import ShardWriter, TokenShards
from llmm.training.pretraining.distributed import DataParallel, FullyShardedDataParallel, OneProcess
from llmm.training.pretraining.length import Steps, Until
from llmm.training.pretraining.recipe import (
    build_model,
    build_optimizers,
    learning_rate_share,
    next_token_loss,
    set_pace,
)
from llmm.training.pretraining.spikes import SpikeDetector
from llmm.training.pretraining.step_parts import step_parts
from llmm.training.pretraining.trainer import train
from llmm.training.pretraining.verdict import ExpectedCurve, differences, verdict
from llmm.training.pretraining.windows import Windows
from llmm.training.tokenizer.bpe import train_tokenizer
from llmm.training.tokenizer.folder import load_tokenizer, write_tokenizer
from llmm.transformers.gpt import GPT, GPTConfig

ROOT = Path(__file__).parents[1]
TEXTS = [f"def f{i}(x):\n    return x + {i}\n\n# the number {i * 7} is no accident é\n" * 6 for i in range(30)]


@pytest.fixture(scope="session")
def shards_folder(tmp_path_factory) -> Path:
    """A tokenizer and token shards of a tiny corpus, in data/ of a project folder with a small params.yaml."""
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (root / "presets").symlink_to(ROOT / "presets")
    subprocess.run([sys.executable, "-m", "llmm.cli", "preset", "smoke"], cwd=root, env=_env(), check=True)
    corpus_folder = root / "data/corpus"
    corpus_folder.mkdir(parents=True)
    (corpus_folder / "text").write_text("\n".join(TEXTS))
    corpus = lineage.seal(corpus_folder, "corpus", [])
    tokenizer = train_tokenizer(TEXTS, 300)
    folder = root / "data/tokenizer"
    folder.mkdir()
    write_tokenizer(tokenizer, folder)
    artifact = lineage.seal(folder, "tokenizer", [corpus])
    tokens = root / "data/tokens"
    tokens.mkdir()
    writer = ShardWriter(tokens, tokenizer.get_vocab_size(), artifact.sha256)
    for split, part in (("train", TEXTS[:24]), ("val", TEXTS[24:27]), ("test", TEXTS[27:])):
        writer.write(split, [(tokenizer.encode(text).ids, len(text.encode())) for text in part])
    writer.finish()
    lineage.seal(tokens, "tokens", [corpus, artifact])
    return root


def _env(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **extra}


def _recipe(**changes):
    recipe = load_params(ROOT / "params.yaml").pretrain
    sizes = {"n_layer": 1, "n_head": 2, "n_kv_head": 2, "d_model": 16, "d_ff": 32, "seq_len": 32, "context_len": 64}
    sizes["induction_start"] = False  # needs two layers
    run = {
        "batch_size": 4,
        "steps": 12,
        "warmup_steps": 2,
        "compile": False,
        "eval_every": 5,
        "checkpoint_every": 4,
        "dtype": "float32",
    }
    return recipe.model_copy(update={**sizes, **run, **changes})


@pytest.fixture(scope="session")
def opened(shards_folder):
    shards = TokenShards.open(shards_folder / "data/tokens")
    return shards, token_bytes(load_tokenizer(shards_folder / "data/tokenizer"))


def test_only_runs_that_make_up_for_it_compile_their_blocks():
    short, long = (bench_pretrain.recipe_of("shakespeare", seconds) for seconds in (60, 100))
    assert (short.compile, short.dtype) == (False, "float32") and (long.compile, long.dtype) == ("auto", "auto")
    assert bench_pretrain.recipe_of("laptop", 100).compile is True


# what a step sees


@settings(deadline=None, max_examples=50)
@given(st.integers(20, 400), st.integers(2, 16), st.integers(1, 9), st.integers(0, 5))
def test_every_window_comes_once_an_epoch_and_lies_in_the_text(tokens, seq_len, per_step, seed):
    assume(tokens >= 2 * seq_len)
    windows = Windows(np.arange(tokens, dtype=np.uint16), seq_len, per_step, seed)
    steps = -(-windows.per_epoch // per_step)
    starts = [int(row[0]) for step in range(steps) for row in windows.batch(step)][: windows.per_epoch]
    assert len(set(starts)) == windows.per_epoch
    for step in range(2 * steps):
        batch = windows.batch(step)
        assert batch.shape == (per_step, seq_len + 1)
        assert (batch.diff(dim=1) == 1).all()


def test_a_step_is_the_same_whatever_came_before_and_processes_share_it():
    tokens = np.arange(5000, dtype=np.uint16)
    fresh, used = Windows(tokens, 16, 8, 3), Windows(tokens, 16, 8, 3)
    for step in range(100):
        used.batch(step)
    assert torch.equal(fresh.batch(57), used.batch(57))
    shares = [fresh.batch(57, rank, 2) for rank in range(2)]
    assert sorted(row[0].item() for share in shares for row in share) == sorted(fresh.batch(57)[:, 0].tolist())


def test_a_text_below_one_window_is_refused():
    with pytest.raises(UserError, match="20 tokens, too few for windows of 32"):
        Windows(np.arange(20, dtype=np.uint16), 32, 4, 0)


# what a score counts


def test_uniform_model_scores_log_v_on_text_and_nothing_on_separators(opened):
    shards, bytes_of_token = opened
    model = GPT(GPTConfig(shards.vocab_size, 1, 2, 2, 16, 32, 64))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    tokens, starts = shards.tokens("test"), shards.starts("test")
    result = score(model, tokens, starts, bytes_of_token, 32)
    text_tokens = len(tokens) - (len(starts) - 1)
    assert result.tokens == text_tokens
    assert result.nats.sum() == pytest.approx(text_tokens * np.log(shards.vocab_size), rel=1e-6)
    assert result.bytes.sum() == shards.bytes("test")
    assert result.bits_per_byte == pytest.approx(
        text_tokens * np.log2(shards.vocab_size) / shards.bytes("test"), rel=1e-6
    )


@pytest.mark.parametrize("stride", [None, 8, 5])
def test_a_score_is_the_sum_over_tokens_each_seen_once(opened, stride):
    """Against a plain loop: token t is predicted from the window that scores it."""
    shards, bytes_of_token = opened
    torch.manual_seed(0)
    model = GPT(GPTConfig(shards.vocab_size, 1, 2, 2, 16, 32, 64)).eval()
    tokens, starts, seq_len = np.asarray(shards.tokens("val")), shards.starts("val"), 32
    result = score(model, tokens, starts, bytes_of_token, seq_len, stride, batch_size=3)
    step, nats = stride or seq_len, 0.0
    for t in range(1, len(tokens)):
        if bytes_of_token[tokens[t]] == 0:
            continue
        end = seq_len if t <= seq_len else seq_len + -(-(t - seq_len) // step) * step
        end = min(end, len(tokens) - 1)
        window = torch.from_numpy(tokens[max(0, end - seq_len) : t].astype(np.int64))[None]
        with torch.inference_mode():
            nats -= model(window)[0, -1].double().log_softmax(-1)[int(tokens[t])].item()
    assert result.nats.sum() == pytest.approx(nats, rel=1e-5)


def test_a_split_shorter_than_a_window_is_scored_whole(opened):
    shards, bytes_of_token = opened
    model = GPT(GPTConfig(shards.vocab_size, 1, 2, 2, 16, 32, 2048))
    result = score(model, shards.tokens("test"), shards.starts("test"), bytes_of_token, 1500)
    assert result.bytes.sum() == shards.bytes("test") and result.bits_per_byte > 0


def test_interval_holds_the_figure_and_is_zero_wide_for_equal_documents(opened):
    from llmm.training.pretraining.bits_per_byte import Score

    mixed = Score(np.array([10.0, 30, 20, 15]), np.array([10, 20, 15, 9]), 50)
    low, high = mixed.interval(500, 0)
    assert low < mixed.bits_per_byte < high
    equal = Score(np.full(5, 10.0), np.full(5, 10), 50)
    assert equal.interval(100, 0) == pytest.approx((equal.bits_per_byte, equal.bits_per_byte))


# the loop


@pytest.mark.parametrize("dtype, residual", [("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")])
def test_training_lowers_the_loss_and_the_same_seed_gives_the_same_bits(opened, dtype, residual):
    shards, bytes_of_token = opened
    recipe = _recipe(steps=30, dtype=dtype, residual_dtype=residual)
    first, again, other = (train(recipe, shards, bytes_of_token, seed, torch.device("cpu")) for seed in (0, 0, 1))
    assert first.curve[-1]["val_bits_per_byte"] < 0.8 * np.log2(shards.vocab_size) / 2
    assert first.curve == again.curve != other.curve
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype, residual, found", [
    ("float32", "bfloat16", torch.float32),
    ("bfloat16", "float32", torch.float32),
    ("bfloat16", "bfloat16", torch.bfloat16),
])  # fmt: skip
def test_the_residual_stream_is_as_precise_as_the_recipe_says(dtype, residual, found):
    model = build_model(_recipe(residual_dtype=residual), 50, 0)
    seen = []
    for block in model.model.layers:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with precision(getattr(torch, dtype), torch.device("cpu")):
        loss = next_token_loss(model, torch.arange(34).view(2, 17))
    assert seen == [found] and loss.dtype == torch.float32


def test_accumulation_takes_the_same_step_as_one_batch(opened):
    shards, bytes_of_token = opened
    whole = train(_recipe(steps=5, batch_size=8), shards, bytes_of_token, 0, torch.device("cpu"))
    parts = train(_recipe(steps=5, batch_size=2, grad_accum_steps=4), shards, bytes_of_token, 0, torch.device("cpu"))
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert (a - b).abs().max() <= 1e-4


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.integers(1, 10), st.integers(0, 99))
def test_accumulated_gradients_are_those_of_the_whole_batch(rows, micro_batch, seed):
    torch.manual_seed(seed)
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.randn(rows, 5, dtype=torch.float64)

    def loss_of(part):
        return (part @ weight).square().mean()

    [whole] = torch.autograd.grad(loss_of(ids), [weight])
    loss = accumulate(loss_of, ids, micro_batch)
    assert loss.item() == pytest.approx(loss_of(ids).item(), rel=1e-12)
    assert (weight.grad - whole).abs().max() <= 1e-12


def test_micro_batches_halve_until_they_fit_and_the_failed_attempts_leave_no_trace():
    weight, ids, tried = torch.ones(4, requires_grad=True), torch.randn(8, 4), []

    def loss_of(part):
        tried.append(len(part))
        if len(tried) > 1 and len(part) > 2:  # the first part of the first attempt fits, and leaves a gradient
            raise torch.OutOfMemoryError("not today")
        return (part @ weight).mean()

    def clear():
        weight.grad = None

    said = []
    micro_batch = MicroBatch(5, said.append)
    loss = micro_batch.accumulate(loss_of, ids, clear)
    assert micro_batch.rows == 2 and tried[0] == 5 and max(tried[-4:]) == 2
    assert loss.item() == pytest.approx((ids @ weight).mean().item(), rel=1e-5)
    assert torch.allclose(weight.grad, ids.mean(0), atol=1e-6)
    assert len(said) == 1 and "micro-batches of 2 windows" in said[0]
    with pytest.raises(UserError, match="memory is too short for one window of 3 tokens"):
        micro_batch.accumulate(_too_large, ids, clear)
    with pytest.raises(RuntimeError, match="another fault"):
        micro_batch.accumulate(_faulty, ids, clear)


def test_a_fixed_micro_batch_does_not_halve_alone():
    """Processes that exchange weights within it would wait for each other: the run ends with what to change."""
    with pytest.raises(UserError, match=r"too short for 4 windows at once: halve pretrain\.batch_size and double"):
        MicroBatch(4, fixed=True).accumulate(_too_large, torch.randn(8, 4), lambda: None)
    assert MicroBatch(4).fixed is False and OneProcess.in_step is DataParallel.in_step is False
    assert FullyShardedDataParallel.in_step is True


def _too_large(part):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")


def _faulty(part):
    raise RuntimeError("another fault")


@pytest.mark.parametrize(
    ("factor", "after", "what"),
    [("nan", 0, "loss is nan at step 0"), ("nan", 7, "loss is nan at step 7"), ("inf", 7, "loss is inf at step 7")],
)
def test_a_loss_that_is_no_number_stops_the_run_in_one_line(opened, tmp_path, monkeypatch, factor, after, what):
    from llmm.training.pretraining import trainer

    monkeypatch.chdir(tmp_path)
    calls = []

    def loss_of(model, ids):
        calls.append(1)
        return trainer_loss(model, ids) * (float(factor) if len(calls) > after else 1.0)

    trainer_loss = trainer.next_token_loss
    monkeypatch.setattr(trainer, "next_token_loss", loss_of)
    checkpoints = Checkpoints("pretrain", {})
    with pytest.raises(UserError, match=rf"the {what}: lower pretrain\.muon_lr") as raised:
        train(_recipe(), *opened, 0, torch.device("cpu"), checkpoints)
    assert "\n" not in str(raised.value)
    if after:
        assert str(checkpoints.folder) in str(raised.value)
        assert all(weight.isfinite().all() for weight in checkpoints.load()["model"].values())


def test_an_infinite_gradient_is_refused_before_it_reaches_the_weights(opened, tmp_path, monkeypatch):
    """The loss of a step can be a number and its gradient none: the checkpoint of that step would be ruined."""
    from llmm.training.pretraining import trainer

    monkeypatch.chdir(tmp_path)
    steps = []

    def loss_of(model, ids):
        steps.append(1)
        loss = trainer_loss(model, ids)
        if len(steps) == 4:  # the step whose checkpoint is saved
            loss = loss + (next(model.parameters()).sum() * 0).sqrt()  # 0 with the gradient ∞ · 0
        return loss

    trainer_loss = trainer.next_token_loss
    monkeypatch.setattr(trainer, "next_token_loss", loss_of)
    checkpoints = Checkpoints("pretrain", {})
    with pytest.raises(UserError, match="the norm of the gradient is nan at step 3"):
        train(_recipe(checkpoint_every=2), *opened, 0, torch.device("cpu"), checkpoints)
    assert checkpoints.load()["step"] == 2
    assert all(weight.isfinite().all() for weight in checkpoints.load()["model"].values())


def test_samples_on_the_way_change_nothing(opened, capsys):
    silent, spoken = (
        train(_recipe(dropout=0.1), *opened, 0, torch.device("cpu"), decode=decode)
        for decode in (None, lambda ids: f"{len(ids)} tokens\n")
    )
    assert silent.curve == spoken.curve
    for a, b in zip(silent.model.parameters(), spoken.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert "  it writes: 32 tokens\\n" in capsys.readouterr().out


# is my loss normal?


def test_a_spike_is_found_in_noise_and_noise_is_none():
    rng = np.random.default_rng(0)
    detector = SpikeDetector(window=50, threshold=8.0)
    losses = 3.0 * np.arange(1, 2001) ** -0.1 + 0.05 * rng.standard_normal(2000)
    losses[[300, 301, 1500]] += 1.0
    assert [step for step, loss in enumerate(losses) if detector.update(loss)] == [300, 301, 1500]
    assert [detector.update(9.0) for _ in range(53)] == [True] * 50 + [False] * 3  # a rise that stays is the new normal
    flat = SpikeDetector(window=5)
    assert [flat.update(loss) for loss in [2.0] * 6 + [2.1, 2.5, 1.0]] == [False] * 7 + [True, False]


def _curve(recipe, **changes):
    steps = list(range(50, 501, 50))
    losses = [8 * step**-0.25 for step in steps]
    fields = {"recipe": recipe.model_dump(), "vocab_size": 300, "text": "a text", "step": steps}
    return ExpectedCurve(**{**fields, "loss": losses, "error": [0.01] * len(steps), **changes})


def test_the_verdict_tells_a_normal_loss_from_others_and_names_what_differs():
    recipe = _recipe(steps=500, batch_size=8, grad_accum_steps=4)
    curve = _curve(recipe)
    expected, band = curve.at(101, 150)
    assert expected == pytest.approx(curve.loss[2], rel=0.01) and band < 0.15 * expected
    assert verdict(curve, recipe, 101, 150, expected + 0.9 * band, 0.0).startswith("as expected")
    assert "an easier text" in verdict(curve, recipe, 101, 150, expected - 1.1 * band, 0.0)
    assert "the recipe is the same" in verdict(curve, recipe, 101, 150, expected + 1.5 * band, 0.0)
    longer = recipe.model_copy(update={"cooldown_fraction": 0.9})
    assert "pretrain.cooldown_fraction is 0.9" in verdict(curve, longer, 101, 150, expected - 1.1 * band, 0.0)
    quarter = _recipe(steps=500, batch_size=8, muon_lr=0.5)
    said = verdict(curve, quarter, 451, 500, curve.at(101, 150)[0], 0.0)
    assert "the recipe was there at step 12" in said  # the middle of 101 … 150
    assert f"0.25 of the recipe's; pretrain.muon_lr is 0.5, the recipe's {recipe.muon_lr}" in said


@pytest.mark.parametrize("key", ["zero_init", "norm", "qk_norm", "cooldown_fraction", "rope_theta", "weight_decay"])
def test_the_verdict_never_calls_another_recipe_the_same(key):
    recipe = _recipe(steps=500)
    value = getattr(recipe, key)
    other = "layer" if key == "norm" else (not value if isinstance(value, bool) else value / 2)
    found = differences(_curve(recipe), recipe.model_copy(update={key: other}))
    assert found == [f"pretrain.{key} is {other}, the recipe's {value}"]
    assert differences(_curve(recipe), recipe.model_copy(update={"compile": True, "eval_every": 1})) == []


def test_a_curve_speaks_only_of_its_own_model_and_of_steps_that_compare(tmp_path):
    recipe = _recipe(steps=500, cooldown_fraction=0.6)
    curve = _curve(recipe)
    assert curve.covers(recipe, 500)
    longer = _recipe(steps=1000, cooldown_fraction=0.6)
    assert curve.covers(longer, 200) and not curve.covers(longer, 250)
    file = tmp_path / "curves.json"
    fields = {name: getattr(curve, name) for name in ("recipe", "vocab_size", "text", "step", "loss", "error")}
    file.write_text(json.dumps([{**fields, "train_bytes": 1000}]))
    assert ExpectedCurve.for_run(recipe, 300, 1010, file) == curve
    assert ExpectedCurve.for_run(recipe, 300, 2000, file) is None
    assert ExpectedCurve.for_run(recipe, 301, 1000, file) is None
    assert ExpectedCurve.for_run(_recipe(d_model=32), 300, 1000, file) is None
    assert ExpectedCurve.for_run(recipe, 300, 1000, tmp_path / "nothing") is None


def test_the_committed_curve_is_that_of_the_committed_run(tmp_path):
    import csv

    from llmm.training.pretraining.verdict import CURVES

    kept = CURVES.relative_to(ROOT).as_posix()
    folder = where_they_belong_together(kept, "data", tmp_path)
    [curve] = json.loads((folder / kept).read_text(encoding="utf-8"))
    with (folder / "data/plots/pretrain.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert curve["loss"] == [float(row["train_bits_per_byte"]) for row in rows]
    assert curve["recipe"] == load_params(folder / "params.yaml").pretrain.model_dump()


# recipes


def test_the_switches_span_the_recipes(opened):
    shards, _ = opened
    for changes in (
        {"positions": "learned", "norm": "layer", "qk_norm": False, "bias": True, "feed_forward": "gelu_tanh"},
        {"norm": "layer", "feed_forward": "relu2"},
    ):
        model = build_model(_recipe(zero_init=False, induction_start=False, **changes), shards.vocab_size, 0)
        for key, value in changes.items():
            assert getattr(model.config, key) == value
        stream = [p for name, p in model.named_parameters() if name.endswith(("o_proj.weight", "down_proj.weight"))]
        assert all(p.std().item() == pytest.approx(0.02 / np.sqrt(2), rel=0.2) for p in stream)
    model = build_model(_recipe(), shards.vocab_size, 0)
    for optimizer, kinds in (("muon", ["Muon", "AdamW"]), ("adamw", ["AdamW"])):
        optimizers = build_optimizers(model, _recipe(optimizer=optimizer))
        assert [type(o).__name__ for o in optimizers] == kinds
        moved = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
        assert sorted(moved) == sorted(map(id, model.parameters()))
    decays = {p.ndim: group["weight_decay"] for group in optimizers[0].param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}


def test_the_schedules_end_where_they_say():
    wsd, cosine = _recipe(steps=100, warmup_steps=10), _recipe(steps=100, warmup_steps=10, schedule="cosine")
    for recipe in (wsd, cosine):
        assert learning_rate_share(recipe, 0, 100) == pytest.approx(1 / 11)
        assert learning_rate_share(recipe, 10, 100) == 1
    assert learning_rate_share(wsd, 99, 100) == pytest.approx(1 / 60)
    assert learning_rate_share(cosine, 99, 100) == pytest.approx(0.1, abs=1e-3)


def test_a_run_that_ends_at_a_time_follows_the_speed_of_the_machine(monkeypatch):
    """Steps of 2 s that take 4 s from the fiftieth on, until 200 s are over, with two steps' time to spare behind."""
    now = 0.0
    monkeypatch.setattr("llmm.training.pretraining.length.time.perf_counter", lambda: now)
    length, done, seen = Until(200.0, after=2.0), 0, []
    while done < (steps := length.steps(done)):
        seen.append(steps)
        now += 9.0 if done == 0 else 2.0 if done < 50 else 4.0  # the first one compiles
        done += 1
    assert 185 < now <= 200
    assert seen[:8] == [10**9] * 8 and seen[8] == pytest.approx(94, abs=2)  # 1 + (200 - 9) / 2, less two
    assert seen[-1] == done and all(later <= earlier for earlier, later in itertools.pairwise(seen[8:]))
    assert Until(now).steps(3) == 3  # the time is over


def test_a_run_may_be_shorter_than_its_recipe(opened):
    run = train(_recipe(steps=10**6), *opened, 0, torch.device("cpu"), length=Steps(12))
    assert run.curve[-1]["step"] == 12
    assert run.curve[-1]["learning_rate_share"] == pytest.approx(learning_rate_share(_recipe(), 11, 12))
    whole = train(_recipe(steps=12), *opened, 0, torch.device("cpu"))
    assert all(map(torch.equal, run.model.parameters(), whole.model.parameters()))


def test_rates_and_muons_momentum_go_with_the_share():
    recipe = _recipe(muon_momentum=0.9, muon_momentum_end=0.5)
    muon, adamw = build_optimizers(build_model(recipe, 50, 0), recipe)
    assert muon.param_groups[0]["momentum"] == 0.9
    for share, momentum in ((1.0, 0.9), (0.25, 0.6), (0.0, 0.5)):
        set_pace([muon, adamw], [0.04, 0.02], recipe, share)
        assert [group["lr"] for o in (muon, adamw) for group in o.param_groups] == [0.04 * share, 0.02 * share]
        assert muon.param_groups[0]["momentum"] == pytest.approx(momentum)


@pytest.mark.parametrize("key, values", [("muon_momentum_end", (0.95, 0.5)), ("muon_neuron_beta", (0.0, 0.9))])
def test_what_muon_remembers_shapes_the_run(opened, key, values):
    first, again, other = (
        list(train(_recipe(**{key: value}), *opened, 0, torch.device("cpu")).model.parameters())
        for value in (values[0], *values)
    )
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


@pytest.mark.skipif(not trainer.compiler_found(torch.device("cpu")), reason="needs a C++ compiler")
def test_a_compiled_run_has_the_same_bits_each_time(opened):
    """Many equal tokens in a step: threads of a compiled embedding would add their gradients in another order."""
    sizes = {"seq_len": 256, "context_len": 256, "batch_size": 8, "d_model": 64, "d_ff": 64, "steps": 6}
    threads = torch.get_num_threads()
    torch.set_num_threads(max(2, threads))
    try:
        first, *others = (
            list(train(_recipe(compile=True, **sizes), *opened, 0, torch.device("cpu")).model.parameters())
            for _ in range(3)
        )
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, again) for other in others for one, again in zip(first, other, strict=True))


@pytest.mark.parametrize("dtype, graphs", [("float32", 0), ("bfloat16", 1)])
def test_auto_compiles_one_graph_for_all_blocks_in_bfloat16_alone(opened, monkeypatch, dtype, graphs):
    made = []

    def backend(graph, inputs):
        made.append(graph)
        return graph.forward

    def by_it(blocks):
        for block in blocks:
            block.compile(backend=backend, dynamic=False)

    torch._dynamo.reset()
    monkeypatch.setattr(trainer, "compile_blocks", by_it)
    monkeypatch.setattr(trainer, "compiler_found", lambda device: True)
    recipe = _recipe(compile="auto", dtype=dtype, n_layer=3, eval_every=5)
    run = train(recipe, *opened, 0, torch.device("cpu"))
    assert len(run.curve) > 1  # and no look at the loss has made another graph
    assert len(made) == graphs and run.compiled == bool(graphs)
    uncompiled = train(recipe.model_copy(update={"compile": False}), *opened, 0, torch.device("cpu"))
    assert run.curve[-1]["val_bits_per_byte"] == pytest.approx(uncompiled.curve[-1]["val_bits_per_byte"], rel=0.02)


def test_the_top_of_the_recipe_ladder_is_the_pipelines_recipe(monkeypatch):
    from llmm.presets import params_of
    from pipelines.recipe_ladder import LADDER, SIZES, changes_of

    monkeypatch.chdir(ROOT)
    top = max(position for position, rung in enumerate(LADDER) if rung.kept)
    recipe = params_of("rung").pretrain.model_dump(mode="json")
    for key, value in changes_of(top).items():
        assert json.dumps(recipe[key.removeprefix(SIZES).removeprefix("pretrain.")]).strip('"') == value, key


# a text of characters


def test_characters_are_split_as_nanogpt_does(tmp_path):
    text = "".join(f"line {i}: é and more\n" for i in range(200))
    (tmp_path / "text").write_text(text, encoding="utf-8")
    shards, bytes_of_id = character_shards(tmp_path / "text", tmp_path / "a")
    cut = int(0.9 * len(text))
    alphabet = sorted(set(text))
    spelt = ["".join(alphabet[i - 1] for i in shards.tokens(split)[1:]) for split in ("train", "val")]
    assert spelt == [text[:cut], text[cut:]]
    assert shards.bytes("val") == len(text[cut:].encode()) == bytes_of_id[shards.tokens("val")].sum()
    part, _ = character_shards(tmp_path / "text", tmp_path / "b", part=0.9)
    seen = len(part.tokens("train")) + len(part.tokens("val")) - 2
    assert seen <= cut  # nothing of what validates otherwise
    with pytest.raises(UserError, match="nowhere is not there"):
        character_shards(tmp_path / "nowhere", tmp_path / "c")


@pytest.mark.slow
def test_the_benchmark_keeps_its_time_and_beats_nothing_by_magic(tmp_path):
    (tmp_path / "text").write_text("".join(TEXTS), encoding="utf-8")
    command = [sys.executable, "-m", "llmm.cli", "bench", "pretrain", "--preset", "smoke", "--seconds", "12"]
    done = subprocess.run(
        [*command, "--seeds", "1", "--text", str(tmp_path / "text"), "--json"],
        cwd=ROOT, env=_env(), capture_output=True, text=True,
    )  # fmt: skip
    result = json.loads(done.stdout)
    [run] = result["runs"]
    assert run["wall_seconds"] < 16  # other work may be going on beside it
    assert 0 < run["nats_per_character"] < 3 and result["mean"] == run["nats_per_character"]
    assert 0 < result["baselines"]["Witten-Bell 5-gram"] < 3
    refused = subprocess.run([*command[:-1], "5", "--text", str(tmp_path / "no")], cwd=ROOT, env=_env(),
                             capture_output=True, text=True)  # fmt: skip
    assert refused.returncode == 1 and "no is not there" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.slow
def test_on_token_shards_the_benchmark_speaks_in_bits_per_byte(shards_folder):
    command = [sys.executable, "-m", "llmm.cli", "bench", "pretrain", "--seconds", "12", "--seeds", "1", "--json"]
    done = subprocess.run(command, cwd=shards_folder, env=_env(), check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    [run] = result["runs"]
    assert result["unit"] == "bits_per_byte" and "nats_per_character" not in run
    assert 0 < run["bits_per_byte"] == result["mean"] < 8  # a byte drawn at random
    assert 0 < run["training"] < 8


def _bench_step(monkeypatch, **changes):
    params = load_params(ROOT / "params.yaml")
    recipe = params.model_copy(update={"pretrain": _recipe(grad_accum_steps=2, **changes)})
    monkeypatch.setattr(bench_step, "params_of", lambda preset: recipe)
    monkeypatch.setattr(bench_step, "matmul_peak", lambda dtype, device: 100.0)
    return bench_step.bench_step(2)


def test_a_timed_step_counts_all_of_its_micro_batches(monkeypatch):
    result = _bench_step(monkeypatch)
    assert result["tokens_per_step"] == 2 * 4 * 32
    assert list(result["systems"]) == ["ours, eager", "transformers, eager", "plain torch, eager"]
    for row in result["systems"].values():
        assert 256 / row["tokens_per_second"] == pytest.approx(row["step_seconds"], abs=6e-5)  # four digits are kept
        assert row["mfu"] == row["share_of_float32_peak"] == pytest.approx(row["gflops"] / 100, abs=1.1e-3)
        assert 0 < row["model_seconds"] <= row["step_seconds"]
    parts = result["parts_of_ours"]
    assert all(parts[part] > 0.01 for part in ("products", "attention", "rest", "optimizer", "products_of_peak"))


def test_a_system_whose_memory_is_short_halves_its_micro_batch_and_the_others_keep_theirs(monkeypatch):
    loss = bench_step.TransformersModel.loss

    def greedy(model, ids_BT):
        if len(ids_BT) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(model, ids_BT)

    monkeypatch.setattr(bench_step.TransformersModel, "loss", greedy)
    rows = _bench_step(monkeypatch)["systems"]
    assert [rows[name]["micro_batch"] for name in rows] == [4, 2, 4]


def test_the_parts_of_a_step_are_told_apart():
    a, q = torch.randn(400, 400), torch.randn(1, 2, 256, 64)
    products = step_parts(lambda: a @ a, 3)
    assert products["products"] > 0.5 * sum(products.values()) and products["attention"] == 0
    attention = step_parts(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q), 3)
    assert attention["attention"] > 0.5 * sum(attention.values()) and attention["products"] == 0
    written_out = step_parts(lambda: q @ q.mT, 3)
    assert written_out["attention"] > 0.5 * sum(written_out.values()) and written_out["products"] == 0
    started = time.perf_counter()
    slow = step_parts(lambda: [a.exp() for _ in range(200)], 2)
    assert slow["rest"] == sum(slow.values()) > 0 and slow["rest"] < time.perf_counter() - started


@pytest.mark.parametrize(
    "key, value", [("n_kv_head", 1), ("norm", "layer"), ("tie_embeddings", False), ("dropout", 0.1)]
)
def test_a_step_is_not_timed_beside_peers_of_another_architecture(monkeypatch, key, value):
    with pytest.raises(UserError, match=f"pretrain.{key} = {value}: the peers of a step are made for"):
        _bench_step(monkeypatch, **{key: value})


def test_another_recipe_never_finds_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = Checkpoints("pretrain", {"steps": 1})
    mine.save({"step": 3})
    assert Checkpoints("pretrain", {"steps": 2}).load() is None
    assert Checkpoints("pretrain", {"steps": 1}).load() == {"step": 3}
    mine.remove()
    assert mine.load() is None


def test_temporary_experiments_keep_their_work_with_the_project(tmp_path, monkeypatch):
    inside = tmp_path / ".dvc/tmp/exps/standalone"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert work_folder() == tmp_path / ".work"


# the stage


def _weights(root: Path) -> bytes:
    return (root / "data/model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_killed_at_any_time_it_ends_in_the_same_bits(shards_folder):
    command = [sys.executable, "-m", "pipelines.pretrain"]
    subprocess.run(command, cwd=shards_folder, env=_env(), check=True, capture_output=True)
    straight = _weights(shards_folder)
    went_on = 0
    for delay in (0.0, 0.05, 0.3):
        (shards_folder / "data/model/model.safetensors").unlink()
        process = subprocess.Popen(command, cwd=shards_folder, env=_env(), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not list((shards_folder / ".work/pretrain").glob("*/checkpoint.pt")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = subprocess.run(command, cwd=shards_folder, env=_env(), check=True, capture_output=True, text=True)
        went_on += "going on from the checkpoint" in done.stdout
        assert _weights(shards_folder) == straight
        assert not list((shards_folder / ".work/pretrain").glob("*/checkpoint.pt"))
    assert went_on > 0


KILLED_OFTEN = """
import hashlib, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from llmm.params import load_params
from llmm.training.pretraining.bits_per_byte import token_bytes
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.pretraining.data import TokenShards
from llmm.training.pretraining.trainer import train
from llmm.training.tokenizer.folder import load_tokenizer

shards, bytes_of_token = TokenShards.open(Path("data/tokens")), token_bytes(load_tokenizer(Path("data/tokenizer")))
sizes = {"n_layer": 1, "d_model": 16, "d_ff": 32, "seq_len": 16, "batch_size": 2, "steps": 400, "dropout": 0.1}
run = {"warmup_steps": 5, "eval_every": 50, "checkpoint_every": 1, "induction_start": False}
recipe = load_params().pretrain.model_copy(update={**sizes, **run})

def child(name):
    pid = os.fork()  # this process never computes, so its children may
    if pid:
        return pid
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    run = train(recipe, shards, bytes_of_token, 0, torch.device("cpu"), Checkpoints("often", {"name": name}))
    state = b"".join(p.detach().numpy().tobytes() for p in run.model.parameters()) + repr(run.curve).encode()
    Path(name).write_text(f"{hashlib.sha256(state).hexdigest()} {run.first_step}")
    os._exit(0)

os.waitpid(child("straight"), 0)
rng, kills, seen = random.Random(0), 0, 0
file = Checkpoints("often", {"name": "killed"}).file
for _ in range(20):
    pid = child("killed")
    while not file.exists() or file.stat().st_mtime_ns == seen:  # it has got further than the one before
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(pid, signal.SIGKILL)
    kills += os.waitpid(pid, 0)[1] == signal.SIGKILL
    seen = file.stat().st_mtime_ns
os.waitpid(child("killed"), 0)
print(kills, *Path("straight").read_text().split(), *Path("killed").read_text().split())
"""


@pytest.mark.slow
def test_killed_twenty_times_it_ends_in_the_same_bits(shards_folder):
    done = subprocess.run([sys.executable, "-c", KILLED_OFTEN], cwd=shards_folder, env=_env(), check=True,
                          capture_output=True, text=True)  # fmt: skip
    kills, straight, first, killed, went_on_from = done.stdout.split()
    assert (kills, first) == ("20", "0") and int(went_on_from) > 0
    assert killed == straight


def _set(root: Path, **changes: object) -> None:
    """Change keys of `pretrain` in the project's params.yaml."""
    from ruamel.yaml import YAML

    yaml, path = YAML(), root / "params.yaml"
    tree = yaml.load(path.read_text())
    tree["pretrain"].update(changes)
    with path.open("w") as stream:
        yaml.dump(tree, stream)


def _curve_of(root: Path) -> np.ndarray:
    return np.loadtxt(root / "data/plots/pretrain.csv", delimiter=",", skiprows=1)


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one_and_one_goes_on_where_two_were_killed(shards_folder):
    command = [sys.executable, "-m", "pipelines.pretrain"]
    two = _env(LLMM_PROCESSES="2", CUDA_VISIBLE_DEVICES="")
    try:
        subprocess.run(command, cwd=shards_folder, env=_env(), check=True, stdout=subprocess.DEVNULL)
        alone = _curve_of(shards_folder)
        for parallel in ("ddp", "fsdp"):
            _set(shards_folder, parallel=parallel)
            subprocess.run(command, cwd=shards_folder, env=two, check=True, stdout=subprocess.DEVNULL)
            assert _curve_of(shards_folder) == pytest.approx(alone, rel=2e-3), parallel
            metrics = json.loads((shards_folder / "data/metrics/pretrain.json").read_text())
            assert metrics["tokens_seen"] == 60 * 8 * 64

        _set(shards_folder, checkpoint_every=5)
        process = subprocess.Popen(command, cwd=shards_folder, env=two, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not list((shards_folder / ".work/pretrain").glob("*/step-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        launcher = psutil.Process(process.pid)
        everyone = [*launcher.children(recursive=True), launcher]
        for each in everyone:
            each.kill()
        process.wait()
        psutil.wait_procs(everyone, timeout=10)
        more_threads = _env(OMP_NUM_THREADS="2")  # than torchrun has given each of the two
        done = subprocess.run(command, cwd=shards_folder, env=more_threads, check=True, capture_output=True, text=True)
        assert "going on from the checkpoint" in done.stdout
        assert _curve_of(shards_folder) == pytest.approx(alone, rel=2e-3)
    finally:
        _set(shards_folder, parallel="ddp", checkpoint_every=20)


def test_an_impossible_number_of_processes_is_one_line(shards_folder):
    done = subprocess.run([sys.executable, "-m", "pipelines.pretrain"], cwd=shards_folder,
                          env=_env(LLMM_PROCESSES="two"), capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "pretrain: LLMM_PROCESSES = 'two': expected a whole number of at least 1"
