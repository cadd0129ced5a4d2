"""Pretraining: what a step sees, what a score counts, and that a killed run ends in the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmm import lineage
from llmm.errors import UserError
from llmm.params import load_params
from llmm.training.pretraining.bits_per_byte import score, token_bytes
from llmm.training.pretraining.checkpoint import Checkpoints, work_folder
from llmm.training.pretraining.data import ShardWriter, TokenShards
from llmm.training.pretraining.trainer import train
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
    with pytest.raises(UserError, match="20 tokens, a window takes 32"):
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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_lowers_the_loss_and_the_same_seed_gives_the_same_bits(opened, dtype):
    shards, bytes_of_token = opened
    recipe = _recipe(steps=30, dtype=dtype)
    first, again, other = (train(recipe, shards, bytes_of_token, seed, torch.device("cpu")) for seed in (0, 0, 1))
    assert first.curve[-1]["val_bits_per_byte"] < 0.8 * np.log2(shards.vocab_size) / 2
    assert first.curve == again.curve != other.curve
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_accumulation_takes_the_same_step_as_one_batch(opened):
    shards, bytes_of_token = opened
    whole = train(_recipe(steps=5, batch_size=8), shards, bytes_of_token, 0, torch.device("cpu"))
    parts = train(_recipe(steps=5, batch_size=2, grad_accum_steps=4), shards, bytes_of_token, 0, torch.device("cpu"))
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert (a - b).abs().max() <= 1e-4


def test_a_loss_that_is_no_number_stops_the_run_in_one_line(opened, monkeypatch):
    from llmm.training.pretraining import trainer

    monkeypatch.setattr(trainer, "next_token_loss", lambda model, ids: next(model.parameters()).sum() * float("nan"))
    with pytest.raises(UserError, match=r"loss is nan at step 0: lower pretrain\.muon_lr"):
        train(_recipe(), *opened, 0, torch.device("cpu"))


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


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(shards_folder):
    command = [sys.executable, "-m", "pipelines.pretrain"]
    curves = []
    for processes in ("1", "2"):
        subprocess.run(
            command, cwd=shards_folder, env=_env(LLMM_PROCESSES=processes, CUDA_VISIBLE_DEVICES=""), check=True
        )
        curves.append((shards_folder / "data/plots/pretrain.csv").read_text().splitlines()[1:])
        metrics = json.loads((shards_folder / "data/metrics/pretrain.json").read_text())
        assert metrics["tokens_seen"] == 60 * 8 * 64
    for one, two in zip(*curves, strict=True):
        assert np.array(one.split(","), float) == pytest.approx(np.array(two.split(","), float), rel=2e-3)


def test_an_impossible_number_of_processes_is_one_line(shards_folder):
    done = subprocess.run([sys.executable, "-m", "pipelines.pretrain"], cwd=shards_folder,
                          env=_env(LLMM_PROCESSES="two"), capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "pretrain: LLMM_PROCESSES = 'two': expected a whole number of at least 1"
