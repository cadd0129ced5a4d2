"""How often an answerer that may stay silent is wrong, against how often it speaks.

`coverage` is the share of questions that are answered, `risk` the share of wrong answers among these. Raising the
threshold on the confidence walks along the curve.

Sources: El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017 (1705.08500).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class Point:
    """What happens where everything at or above `threshold` is answered: `answered` questions, `wrong` of them wrongly,
    of `n` in all."""

    threshold: float
    answered: int
    wrong: int
    n: int

    @property
    def coverage(self) -> float:
        """Share of the questions that are answered."""
        return self.answered / self.n

    @property
    def risk(self) -> float:
        """Share of the answers that are wrong, (8.1)."""
        return self.wrong / self.answered


def risk_coverage_curve(confidence: Sequence[float], wrong: Sequence[bool]) -> list[Point]:
    """The points of all thresholds that make a difference, from the highest to the lowest.

    Answers of equal confidence come together: no threshold can part them. Raises ValueError where the lengths differ
    or are zero.
    """
    if len(confidence) != len(wrong) or not len(confidence):
        raise ValueError(f"{len(confidence)} confidences and {len(wrong)} verdicts: expected as many, at least one")
    scores, mistakes = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=bool)
    order = np.argsort(-scores, kind="stable")
    scores, mistakes = scores[order], mistakes[order].cumsum()
    last = [*(np.flatnonzero(np.diff(scores)) + 1), len(scores)]  # where a group of equal confidences has ended
    return [Point(float(scores[end - 1]), int(end), int(mistakes[end - 1]), len(scores)) for end in last]


def area_under_curve(curve: Sequence[Point]) -> float:
    """Mean risk over all coverages 1/n … 1 (AURC), in [0, 1], (8.2).

    Within a group of equal confidence the risk is that of a random order: mistakes come in evenly.
    """
    total, answered, wrong = 0.0, 0, 0
    for point in curve:
        rate = (point.wrong - wrong) / (point.answered - answered)
        total += sum((wrong + rate * i) / (answered + i) for i in range(1, point.answered - answered + 1))
        answered, wrong = point.answered, point.wrong
    return total / curve[-1].n


def best_area(wrong: int, n: int) -> float:
    """The least area that any confidence can have with `wrong` of `n` answers wrong: all mistakes come last."""
    return sum(max(0, answered - (n - wrong)) / answered for answered in range(1, n + 1)) / n


def certified_threshold(curve: Sequence[Point], risk: float, level: float = 0.95, candidates: int = 10) -> Point | None:
    """The point of widest coverage whose risk on new questions like these is at most `risk`, with probability `level`;
    None where no point is.

    Looked at are the points next below the coverages 1/candidates, 2/candidates … 1, in whose choice the mistakes have
    no part. Each is tested by the exact binomial bound (Clopper & Pearson 1934) with an equal share of the allowed
    error, so that looking at several and taking the best is paid for (Bonferroni), (8.4).
    """
    steps = [candidate / candidates for candidate in range(1, candidates + 1)]
    looked_at = {
        max((p for p in curve if p.coverage <= step), key=lambda p: p.answered, default=None) for step in steps
    }
    points = [point for point in looked_at if point is not None]
    allowed = (1 - level) / max(len(points), 1)
    passed = [p for p in points if binomtest(p.wrong, p.answered, risk, alternative="less").pvalue <= allowed]
    return max(passed, key=lambda point: point.answered, default=None)
