"""Which tokens each training step sees: a function of the seed and the step alone, so a resumed run needs no cursor."""

import numpy as np
import torch
from torch import Tensor

from llmm.errors import UserError


class Windows:
    """Cuts a token stream into windows of `seq_len` tokens and deals them out, each once an epoch.

    Every epoch has a permutation and a phase of its own: the phase moves the cuts, so that a later epoch does not
    repeat the same windows.
    """

    def __init__(self, tokens: np.ndarray, seq_len: int, windows_per_step: int, seed: int) -> None:
        self.tokens, self.seq_len, self.windows_per_step, self.seed = tokens, seq_len, windows_per_step, seed
        self.per_epoch = (len(tokens) - seq_len) // seq_len
        if self.per_epoch < 1:
            raise UserError(
                f"the training split has {len(tokens)} tokens, too few for windows of {seq_len} whose cuts move: "
                f"use at least {2 * seq_len} tokens of text, or a smaller pretrain.seq_len"
            )
        self._epoch = -1
        self._starts = np.empty(0, dtype=np.int64)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Tensor:
        """The ids (windows_per_step / world_size, seq_len + 1) of this step for process `rank`: inputs and targets."""
        mine = range(rank, self.windows_per_step, world_size)
        starts = [self._start(step * self.windows_per_step + i) for i in mine]
        return torch.from_numpy(np.stack([self.tokens[s : s + self.seq_len + 1] for s in starts]).astype(np.int64))

    def _start(self, number: int) -> int:
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            phase = rng.integers(self.seq_len)
            self._starts = rng.permutation(self.per_epoch) * self.seq_len + phase
            self._epoch = epoch
        return int(self._starts[place])
