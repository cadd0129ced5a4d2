"""Loss spikes: a step whose loss stands far out of the noise of the steps before it.

The noise is measured by the median absolute deviation (MAD), which the spikes themselves cannot inflate: for a normal
distribution 1.4826 MAD is the standard deviation (Rousseeuw and Croux 1993, "Alternatives to the Median Absolute
Deviation", section 1). A loss that rises and stays is a spike for one window, then the new normal.

What to do about them: PaLM (Chowdhery et al. 2022, 2204.02311, section 5.1) went back about 100 steps and skipped the
batches after it; here they are reported and counted, and what to do is left to a person.
"""

import statistics
from collections import deque

MAD_OF_NORMAL = 1.4826  # standard deviations in one MAD


class SpikeDetector:
    """Says of each loss whether it is a spike: more than `threshold` standard deviations above the recent median."""

    def __init__(self, window: int = 50, threshold: float = 8.0) -> None:
        self.threshold = threshold
        self.recent: deque[float] = deque(maxlen=window)
        self.in_a_row: list[float] = []  # spikes since the last loss that was none

    @property
    def median(self) -> float:
        """Of the losses in the window."""
        return statistics.median(self.recent)

    def update(self, loss: float) -> bool:
        """Take in the loss of the next step. While the window fills up nothing is a spike.

        No spike enters the window, but a whole window of spikes in a row takes its place.
        """
        full = len(self.recent) == self.recent.maxlen
        spike = full and loss > self.median + self.threshold * self.deviation()
        if not spike:
            self.recent.append(loss)
            self.in_a_row.clear()
            return False
        self.in_a_row.append(loss)
        if len(self.in_a_row) == self.recent.maxlen:
            self.recent.extend(self.in_a_row)
            self.in_a_row.clear()
        return True

    def deviation(self) -> float:
        """Standard deviation of the window's losses, from their MAD; at least 1% of the median, for equal losses."""
        middle = self.median
        mad = statistics.median(abs(loss - middle) for loss in self.recent)
        return max(MAD_OF_NORMAL * mad, 0.01 * abs(middle))
