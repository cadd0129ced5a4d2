"""Gradient accumulation: a batch that does not fit into memory, taken in parts, with the gradient of the whole.

The loss of a batch of B rows is the mean over rows, so a part of b rows counts b / B: summed over parts, the gradients
are those of the whole batch, to rounding. An unequal last part makes no difference.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from llmm.errors import UserError

LossOf = Callable[[Tensor], Tensor]  # ids (b, T + 1) → mean loss over the rows, in nats


def accumulate(loss_of: LossOf, ids_BT: Tensor, micro_batch: int) -> Tensor:
    """Add the gradient of the mean loss over all rows to `.grad`, at most `micro_batch` rows at a time.

    Returns the mean loss, detached. Every row must weigh the same in its part's mean, as windows of one length do.
    """
    shares = []
    for part_bT in ids_BT.split(micro_batch):
        loss = loss_of(part_bT) * (len(part_bT) / len(ids_BT))
        loss.backward()
        shares.append(loss.detach())
    return torch.stack(shares).sum()


class MicroBatch:
    """As many rows at a time as memory holds: begins with `rows`, halves where an allocation fails, stays there.

    Not where `fixed`: processes that exchange weights within a micro-batch must all take the same number of them, and
    one that halved alone would leave the others waiting.
    """

    def __init__(self, rows: int, say: Callable[[str], None] = lambda line: None, fixed: bool = False) -> None:
        self.rows, self.say, self.fixed = rows, say, fixed

    def accumulate(self, loss_of: LossOf, ids_BT: Tensor, clear: Callable[[], None]) -> Tensor:
        """`accumulate` in parts that fit; `clear` undoes what a failed attempt has left in the gradients.

        Raises UserError where a single row is too much, or where the size is `fixed`.
        """
        while True:
            try:
                return accumulate(loss_of, ids_BT, self.rows)
            except (RuntimeError, MemoryError) as error:
                if not _memory_is_short(error):
                    raise
            # outside of `except`, whose traceback holds on to the failed attempt's tensors
            if self.rows == 1:
                raise UserError(
                    f"memory is too short for one window of {ids_BT.shape[1] - 1} tokens: "
                    "lower pretrain.seq_len, pretrain.d_model or pretrain.n_layer"
                )
            if self.fixed:
                raise UserError(
                    f"memory is too short for {self.rows} windows at once: halve pretrain.batch_size and double "
                    "pretrain.grad_accum_steps, and the step stays the same"
                )
            clear()
            if ids_BT.device.type == "cuda":
                torch.cuda.empty_cache()
            self.rows = min(self.rows, len(ids_BT)) // 2 or 1
            self.say(f"memory is short: micro-batches of {self.rows} windows from here on, the step stays the same")


def _memory_is_short(error: BaseException) -> bool:
    # torch has a class for a GPU's memory and only a message for the CPU's
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
