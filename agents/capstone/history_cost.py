"""What a chat has read after so many turns: every message brings the whole history with it.

A message has `said` tokens and an answer `answered`. README, section 4.
"""


def read_anew(turns: int, said: int, answered: int) -> int:
    """Tokens read where every prompt is read whole. Equation (4.1)."""
    return said * turns * (turns + 1) // 2 + answered * turns * (turns - 1) // 2


def read_with_cache(turns: int, said: int) -> int:
    """Tokens read where the history is remembered: the new message, and the one token of the answer before it that was
    drawn and never read. Equation (4.2)."""
    return said * turns + max(0, turns - 1)
