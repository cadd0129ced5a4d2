"""What is noticed of a run on its way: its curve, spikes, whether the loss is normal, and a sample of its text."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from llmm.device import compiling_nothing_new
from llmm.params import PretrainParams
from llmm.training.pretraining.bits_per_byte import score
from llmm.training.pretraining.data import SEPARATOR, TokenShards
from llmm.training.pretraining.progress import Progress
from llmm.training.pretraining.spikes import SpikeDetector
from llmm.training.pretraining.verdict import ExpectedCurve, verdict
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import Sampler

GLANCE = 32  # windows of the validation split that are looked at during training; the whole split is scored at the end
SAMPLE_TOKENS = 32
SHOWN_CHARS = 100  # of a sample

Decode = Callable[[list[int]], str]


class Observer:
    """Keeps the loss curve of a run, one row for every `eval_every` steps, and tells a person what it sees."""

    def __init__(
        self,
        model: Callable[[], GPT],
        recipe: PretrainParams,
        shards: TokenShards,
        bytes_of_token: np.ndarray,
        progress: Progress,
        decode: Decode | None = None,
    ) -> None:
        """`model` gives the model with whole weights; `decode` turns ids into text: without it no samples are drawn."""
        self.model, self.recipe, self.bytes_of_token = model, recipe, bytes_of_token
        self.progress, self.decode = progress, decode
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []  # nats, of the steps since the last row of the curve
        self.spikes = 0
        self._share = 0.0  # of the peak learning rate, at the newest step
        self._detector = SpikeDetector()
        self._tokens_per_step = recipe.batch_size * recipe.grad_accum_steps * recipe.seq_len
        self._bits_per_nat = len(shards.tokens("train")) / shards.bytes("train") / math.log(2)
        self._glance = _first_windows(shards, recipe.seq_len)
        self._expected = ExpectedCurve.for_run(recipe, shards.vocab_size, shards.bytes("train"))

    def after_step(self, done: int, loss: float, learning_rate_share: float) -> None:
        """Take in the mean loss, in nats, of the step that makes `done`."""
        self.losses.append(loss)
        figures = {"loss": loss, "bits/byte": loss * self._bits_per_nat}
        self.progress.update(done, self._tokens_per_step, figures)
        usual = self._detector.median if self._detector.recent else loss
        if self._detector.update(loss):
            self.spikes += 1
            self.progress.say(f"step {done}: a spike, loss {loss:.3f} where {usual:.3f} is usual")
        self._share = learning_rate_share
        if done % self.recipe.eval_every == 0:
            self._look(done)

    def finish(self, done: int) -> None:
        """The run ends with step `done`: look once more, unless that was the last thing that happened."""
        if self.losses:
            self._look(done)

    def _look(self, done: int) -> None:
        model = self.model()
        model.eval()
        with compiling_nothing_new():
            val = score(model, *self._glance, self.bytes_of_token, self.recipe.seq_len).bits_per_byte
            sample = _sample(model, done, self.decode) if self.decode is not None else ""
        model.train()
        train = statistics.fmean(self.losses) * self._bits_per_nat
        error = statistics.pstdev(self.losses) * self._bits_per_nat / math.sqrt(len(self.losses))
        self.curve.append(
            {
                "step": done,
                "tokens": done * self._tokens_per_step,
                "train_bits_per_byte": round(train, 6),
                "train_error": round(error, 6),
                "val_bits_per_byte": round(val, 6),
                "learning_rate_share": round(self._share, 6),
            }
        )
        line = f"step {done}: {val:.3f} bits per byte on a part of the validation split; training {train:.3f}"
        if self._expected is not None and self._expected.covers(self.recipe, done):
            first = done - len(self.losses) + 1
            line += f", {verdict(self._expected, self.recipe, first, done, train, error)}"
        self.progress.say(line)
        if sample:
            self.progress.say(f"  it writes: {sample}")
        self.losses = []

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on as if nothing had happened."""
        recent, in_a_row = list(self._detector.recent), self._detector.in_a_row
        counted = {"spikes": self.spikes, "recent": recent, "in_a_row": in_a_row}
        return {"curve": self.curve, "losses": self.losses, **counted}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.curve, self.losses, self.spikes = state["curve"], state["losses"], state["spikes"]
        self._detector.recent.extend(state["recent"])
        self._detector.in_a_row = list(state["in_a_row"])


def _sample(model: GPT, done: int, decode: Decode) -> str:
    """The beginning of a document, drawn with a generator of its own: the run's random numbers stay as they are."""
    generator = torch.Generator(model.model.embed_tokens.weight.device).manual_seed(done)
    [ids] = generate(model, [[SEPARATOR]], SAMPLE_TOKENS, [SEPARATOR], Sampler(1.0, top_p=0.9), generator)
    return repr(decode(ids))[1:-1][:SHOWN_CHARS]


def _first_windows(shards: TokenShards, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """The first windows of the validation split, as (tokens, document starts)."""
    tokens = np.asarray(shards.tokens("val")[: GLANCE * seq_len + 1])
    starts = shards.starts("val")
    return tokens, np.append(starts[starts < len(tokens)], len(tokens))
