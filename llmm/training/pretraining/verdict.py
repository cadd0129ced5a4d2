"""Is my loss normal? A run's training loss beside the curve that the same recipe had before.

An expected curve is the mean training loss over pieces of a reference run, with the error of that mean. Bits per byte
on the same text do not depend on batch or learning rate, so a run with another batch is measured by the same curve, and
where it lies above, the curve also says how much of the recipe it is worth: the step at which the recipe was there.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from llmm.params import PretrainParams

CURVES = Path(__file__).with_name("expected_curves.json")
# what makes two runs comparable at all: the same model of the same windows
MODEL = ("n_layer", "n_head", "n_kv_head", "d_model", "d_ff", "seq_len")
# what no loss depends on, beyond rounding; batch and steps are spoken of for themselves
INDIFFERENT = ("context_len", "dtype", "residual_dtype", "compile", "parallel", "eval_every", "checkpoint_every")
SPOKEN_OF = ("batch_size", "grad_accum_steps", "steps")
BAND = 4.0  # errors of the mean that are still normal
FLOOR = 0.02  # and this share of the expected loss: other seeds, another order of sums


@dataclass(frozen=True)
class ExpectedCurve:
    """Mean training loss of a reference run over pieces of it, in bits per byte."""

    recipe: dict[str, Any]
    vocab_size: int
    text: str  # what it was trained on, in words
    step: list[int]  # the last step of each piece
    loss: list[float]
    error: list[float]  # standard error of the mean

    @classmethod
    def for_run(cls, recipe: PretrainParams, vocab_size: int, train_bytes: int, file: Path = CURVES) -> Self | None:
        """The curve of the run's model on text of about this size, None where there is none."""
        for entry in json.loads(file.read_text(encoding="utf-8")) if file.exists() else []:
            same_text = abs(entry.pop("train_bytes") / train_bytes - 1) < 0.1
            curve = cls(**entry)
            same_model = all(curve.recipe.get(key) == getattr(recipe, key) for key in MODEL)
            if same_text and same_model and curve.vocab_size == vocab_size:
                return curve
        return None

    def at(self, first: int, last: int) -> tuple[float, float]:
        """Expected mean loss over the steps first … last, and what may be between it and a normal one."""
        place = np.log((first + last) / 2)
        loss = float(np.exp(np.interp(place, self._log_middles(), np.log(self.loss))))
        error = float(np.interp(place, self._log_middles(), self.error))
        return loss, BAND * error + FLOOR * loss

    def step_of(self, loss: float) -> float:
        """The step at which the curve first has this loss, its ends included."""
        falling = np.minimum.accumulate(np.log(self.loss))
        return float(np.exp(np.interp(-np.log(loss), -falling, self._log_middles())))

    def _log_middles(self) -> np.ndarray:
        # a piece's mean belongs to its middle; the loss falls like a power of the step, a line in log-log
        return np.log((np.array(self.step) + np.array([0, *self.step[:-1]]) + 1) / 2)

    def covers(self, recipe: PretrainParams, last: int) -> bool:
        """Whether step `last` is one that the curve speaks of.

        Another number of steps begins its cooldown elsewhere: then only the part before both cooldowns compares.
        """
        if recipe.steps == self.recipe["steps"]:
            return last <= self.step[-1]
        stable = 1 - max(recipe.cooldown_fraction, self.recipe["cooldown_fraction"])
        return last <= stable * min(recipe.steps, self.recipe["steps"])


def verdict(curve: ExpectedCurve, recipe: PretrainParams, first: int, last: int, loss: float, error: float) -> str:
    """What to think of a mean training loss (bits per byte, with its error) over the steps first … last."""
    expected, band = curve.at(first, last)
    band += BAND * error
    against = f"expected {expected:.3f} ± {band:.3f}"
    if abs(loss - expected) <= band:
        return f"as expected ({against})"
    differing = "; ".join(differences(curve, recipe))
    if loss < expected:
        return f"lower than {against}: {differing or 'an easier text, or one that the model has seen?'}"
    reason = differing or "the recipe is the same: look at the text"
    return f"higher than {against}; the recipe was there at step {curve.step_of(loss):.0f}: {reason}"


def differences(curve: ExpectedCurve, recipe: PretrainParams) -> list[str]:
    """In what the run's recipe is another one than the curve's, the size of a step first."""
    mine = recipe.batch_size * recipe.grad_accum_steps
    theirs = curve.recipe["batch_size"] * curve.recipe["grad_accum_steps"]
    found = [f"the effective batch is {mine / theirs:.3g} of the recipe's"] if mine != theirs else []
    for key, value in recipe.model_dump().items():
        usual = curve.recipe.get(key)
        if value != usual and key not in (*MODEL, *INDIFFERENT, *SPOKEN_OF):
            found.append(f"pretrain.{key} is {value}, the recipe's {usual}")
    return found
