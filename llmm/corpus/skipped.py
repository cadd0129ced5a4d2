"""What a source leaves out, counted by reason; the first few are named on the screen."""

from collections import Counter

SHOWN = 5


class Skipped:
    """Counts of what was left out. `quiet` reasons (nothing is wrong with the file) are counted and not printed."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self._printed = 0
        self._unprinted = 0

    def add(self, reason: str, what: str, quiet: bool = False) -> None:
        """Count one, and print one line unless a handful was printed before."""
        self.reasons[reason] += 1
        if quiet:
            return
        if self._printed < SHOWN:
            self._printed += 1
            print(f"skipped {what}: {reason}")
        else:
            self._unprinted += 1

    def summarise(self) -> None:
        """Say how many more were skipped than were named."""
        if self._unprinted:
            print(f"skipped {self._unprinted} more; data/metrics/prepare.json counts them by reason")

    def as_dict(self) -> dict[str, int]:
        """Counts by reason, in alphabetical order."""
        return dict(sorted(self.reasons.items()))
