"""Training a Unigram vocabulary: start with too many tokens, fit their probabilities, drop the least useful, repeat.

Kudo 2018 (arXiv:1804.10959), section 3.2. The probabilities by expectation-maximisation, since the cut of a word is not
observed; each round raises the likelihood (README 4.5). A token's use is what the likelihood loses without it.
"""

import math
from collections import Counter
from collections.abc import Mapping

from llmm.training.tokenizer.unigram import expected_counts, longest_token, viterbi

LONGEST = 12  # bytes of a token of the seed
ROUNDS = 2  # of expectation and maximisation between two prunings


def seed_vocabulary(words: Mapping[bytes, int], size: int, longest: int = LONGEST) -> dict[bytes, float]:
    """All bytes, and the `size` substrings of words with the largest frequency times length: log-probabilities."""
    counts: Counter[bytes] = Counter()
    for word, n in words.items():
        for start in range(len(word)):
            for end in range(start + 2, min(len(word), start + longest) + 1):
                counts[word[start:end]] += n
    best = sorted((token for token in counts if counts[token] > 1), key=lambda t: (-counts[t] * len(t), t))[:size]
    bytes_seen = Counter({bytes([byte]): 1 for byte in range(256)})  # each at least once: any text can be cut
    for word, n in words.items():
        for byte in word:
            bytes_seen[bytes([byte])] += n
    return _normalised({**bytes_seen, **{token: counts[token] for token in best}})


def em_round(words: Mapping[bytes, int], log_probs: Mapping[bytes, float]) -> tuple[dict[bytes, float], float]:
    """New log-probabilities (README 4.4), and the log-likelihood of the words under the old ones.

    Bytes are kept, with a count of at least one thousandth, where nothing uses them."""
    longest = longest_token(log_probs)
    expected: dict[bytes, float] = dict.fromkeys(log_probs, 0.0)
    likelihood = 0.0
    for word, n in words.items():
        counts, total = expected_counts(word, log_probs, longest)
        likelihood += n * total
        for token, count in counts.items():
            expected[token] += n * count
    kept = {token: max(count, 1e-3) if len(token) == 1 else count for token, count in expected.items()}
    return _normalised({token: count for token, count in kept.items() if count > 1e-9}), likelihood


def losses(words: Mapping[bytes, int], log_probs: Mapping[bytes, float]) -> dict[bytes, float]:
    """For each token longer than a byte, how much log-likelihood its most probable uses would lose without it.

    A use is replaced by the best cut of the token into others (README 4.6).
    """
    longest = longest_token(log_probs)
    uses: Counter[bytes] = Counter()
    for word, n in words.items():
        for token in viterbi(word, log_probs, longest)[0]:
            uses[token] += n
    found = {}
    for token, log_prob in log_probs.items():
        if len(token) > 1:
            others = {part: log_probs[part] for part in _parts(token) if part in log_probs}
            found[token] = uses[token] * (log_prob - viterbi(token, others)[1])
    return found


def train_unigram(
    words: Mapping[bytes, int], vocab_size: int, seed_size: int, shrink: float = 0.75
) -> dict[bytes, float]:
    """Log-probabilities of `vocab_size` tokens, the 256 bytes among them.

    Between prunings there are `ROUNDS` rounds of EM; each pruning keeps the share `shrink` of the tokens, those whose
    loss is largest. Raises ValueError for fewer than 256 tokens.
    """
    if vocab_size < 256:
        raise ValueError(f"vocab_size is {vocab_size}, and the bytes alone are 256")
    log_probs = seed_vocabulary(words, seed_size)
    while True:
        for _ in range(ROUNDS):
            log_probs, _ = em_round(words, log_probs)
        if len(log_probs) <= vocab_size:
            return log_probs
        target = max(vocab_size, int(shrink * len(log_probs)))
        loss = losses(words, log_probs)
        kept = sorted(loss, key=lambda token: (-loss[token], token))[: target - 256]
        log_probs = _normalised(
            {token: math.exp(log_probs[token]) for token in log_probs if len(token) == 1}
            | {token: math.exp(log_probs[token]) for token in kept}
        )


def _parts(token: bytes) -> list[bytes]:
    """All proper substrings."""
    n = len(token)
    return [token[start:end] for start in range(n) for end in range(start + 1, n + 1) if end - start < n]


def _normalised(counts: Mapping[bytes, float]) -> dict[bytes, float]:
    total = math.log(sum(counts.values()))
    return {token: math.log(count) - total for token, count in counts.items()}
