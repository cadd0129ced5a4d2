"""A language model that trains in a second: interpolated n-grams of tokens, for comparing vocabularies.

It is the pipeline's baseline too, which a network must beat.
"""

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


def witten_bell_nats(train_tokens: Ids, eval_tokens: Ids, vocab_size: int, order: int = 5) -> Floats:
    """-log p of each evaluated token after the `order` - 1 before it, (len(eval_tokens),).

    With c(h) occurrences of a context h, T(h) different tokens after it and h' the context without its first token

        p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h))    README (5.2)

    down to the uniform 1 / vocab_size; a context never seen leaves p(w | h') as it is (Witten & Bell 1991, "The
    zero-frequency problem", method C; interpolated as in Chen & Goodman 1998, eq. 14 and 19). Neither text has a
    context before its first token. Takes O(order * n log n) by sorting, no hashing: the counts are exact.
    """
    train_size = len(train_tokens)
    tokens = np.concatenate([train_tokens, eval_tokens]).astype(np.int64)
    heads = (0, train_size)  # where a text starts
    probability = np.full(len(eval_tokens), 1 / vocab_size)
    context = np.zeros(len(tokens), np.int64)  # number of the context of each token; all share the empty one
    complete = np.ones(len(tokens), bool)  # whether it has that many tokens before it
    for length in range(order):
        keys, grams = np.unique(context * vocab_size + tokens, return_inverse=True)
        trained = np.flatnonzero(complete[:train_size])
        count = np.bincount(context[trained], minlength=int(context.max()) + 1)
        gram_count = np.bincount(grams[trained], minlength=len(keys))
        kinds = np.bincount(keys[gram_count > 0] // vocab_size, minlength=len(count))
        after, here = context[train_size:], complete[train_size:]
        seen = here & (count[after] > 0)
        history, joint = after[seen], grams[train_size:][seen]
        probability[seen] = (gram_count[joint] + kinds[history] * probability[seen]) / (count[history] + kinds[history])
        # the next context is this n-gram, numbered without gaps so that its product with the vocabulary fits 64 bits
        context = np.concatenate([[0], grams[:-1]])
        complete = np.concatenate([[False], complete[:-1]])
        for head in heads:
            complete[head : head + length + 1] = False
    return -np.log(probability)
