"""A language model that trains in a second: interpolated trigrams of tokens, for comparing vocabularies.

Witten and Bell 1991: P(x | h) = (c(hx) + t(h) P(x | h')) / (c(h) + t(h)), where c counts, t(h) is how many different
tokens followed h, and h' is h without its first token; below the empty history all tokens are equally
probable (README 5.2).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

ORDER = 3


def train_ngrams(ids: Sequence[int]) -> dict[tuple[int, ...], Counter[int]]:
    """history of 0 to 2 tokens -> how often each token followed it."""
    following: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for at, token in enumerate(ids):
        for length in range(min(ORDER - 1, at) + 1):
            following[tuple(ids[at - length : at])][token] += 1
    return dict(following)


def bits(ids: Sequence[int], following: dict[tuple[int, ...], Counter[int]], vocab_size: int) -> float:
    """The bits that the model needs for the tokens. Divided by bytes of text: bits per byte (README 5.1)."""
    total = 0.0
    for at, token in enumerate(ids):
        probability = 1 / vocab_size
        for length in range(min(ORDER - 1, at) + 1):
            if seen := following.get(tuple(ids[at - length : at])):
                probability = (seen[token] + len(seen) * probability) / (seen.total() + len(seen))
        total -= math.log2(probability)
    return total
