"""Why rare words weigh more and repeated ones ever less: both factors of BM25 out of the odds of relevance.

The probability ranking principle (Robertson 1977) orders documents by P(relevant | document). With words that are
independent given relevance, its log-odds are a sum over the query's words (README, section 1).
"""

import math


def relevance_weight(relevant_with: float, relevant: float, documents_with: float, documents: float) -> float:
    """Log odds ratio of a word, (1.5): how much more often it stands in relevant documents than in others.

    `relevant_with` of the `relevant` documents have the word, `documents_with` of all `documents`. A half is added to
    each of the four counts. Source: Robertson & Spärck Jones 1976, weight F4 with halves added.
    """
    r, R, n, N = relevant_with, relevant, documents_with, documents
    return math.log((r + 0.5) * (N - n - R + r + 0.5) / ((R - r + 0.5) * (n - r + 0.5)))


def inverse_document_frequency(documents_with: float, documents: float) -> float:
    """The same where no relevant document is known, kept above zero as Lucene does, (1.7)."""
    return math.log1p((documents - documents_with + 0.5) / (documents_with + 0.5))


def two_poisson_weight(
    count: float, elite_mean: float, other_mean: float, elite_if_relevant: float, elite_if_not: float
) -> float:
    """Log odds ratio of seeing a word `count` times rather than not at all, (2.2); levels off at (2.3).

    A document is either about the word's topic (elite) or not, and repeats the word by a Poisson law of mean
    `elite_mean` or `other_mean`; `elite_if_relevant` and `elite_if_not` are the shares of elite documents among the
    relevant ones and the rest. Source: Robertson & Walker 1994, section 2.
    """
    ratio = math.exp(other_mean - elite_mean)  # both laws at zero, the other one's as 1
    if count:
        grows = count * (math.log(elite_mean) - math.log(other_mean)) - (elite_mean - other_mean)
        scale = math.exp(-abs(grows))  # the larger of the two laws counts as 1
        elite, other = (1.0, scale) if grows > 0 else (scale, 1.0)
    else:
        elite, other = ratio, 1.0
    p, q = elite_if_relevant, elite_if_not
    seen = (p * elite + (1 - p) * other) / (q * elite + (1 - q) * other)
    unseen = (p * ratio + 1 - p) / (q * ratio + 1 - q)
    return math.log(seen / unseen)


def saturation(count: float, k1: float) -> float:
    """BM25's stand-in for the shape of `two_poisson_weight`, in [0, 1): count / (count + k1), (2.4)."""
    return count / (count + k1)
