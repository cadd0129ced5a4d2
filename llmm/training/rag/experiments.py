"""What retrieval rests on: BM25's shape, contrastive tuning, near neighbours, chunks, silence, how much to read."""

import ast
import functools
import itertools
import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import svds
from scipy.special import logsumexp

from llmm.corpus import Document
from llmm.ladder.records import Record, round_metrics, spread
from llmm.paths import EVALS
from llmm.statistics import paired_bootstrap
from llmm.training.rag import plots
from llmm.training.rag.answer import READ_CHUNKS, Citation, compose, confidence
from llmm.training.rag.benchmark import MIN_QUERY_WORDS, Benchmark, is_searchable, make_benchmark
from llmm.training.rag.bm25 import BM25
from llmm.training.rag.chunking import Chunk, chunk_text
from llmm.training.rag.contrastive import Recipe, object_pairs, tune
from llmm.training.rag.dense import DenseStore
from llmm.training.rag.encoder import Encoder
from llmm.training.rag.fixed_windows import fixed_windows
from llmm.training.rag.handwritten import load_hand_written
from llmm.training.rag.hnsw import HNSW
from llmm.training.rag.hybrid import fuse
from llmm.training.rag.index import IndexSettings, SearchIndex, searchable_text
from llmm.training.rag.info_nce import mutual_information_bound
from llmm.training.rag.inverted_lists import InvertedLists, k_means, squared_distances
from llmm.training.rag.metrics import ndcg_at
from llmm.training.rag.questions import Question, object_questions, unanswerable_questions
from llmm.training.rag.relevance import inverse_document_frequency, saturation, two_poisson_weight
from llmm.training.rag.risk_coverage import (
    Point,
    area_under_curve,
    best_area,
    certified_threshold,
    risk_coverage_curve,
)
from llmm.training.rag.small_encoder import WIDTH, bag_encoder, corpus

SEEDS = [0, 1, 2]
K1, B = 1.5, 0.75  # of BM25, as in params.yaml
CHUNK, OVERLAP = 1200, 200
LIBRARY = "The standard library of this machine, split by module as the pipeline splits it"


def _key(letter: str, value: float) -> str:
    """A name in a record: "t_0_05" for 0.05."""
    return f"{letter}_{value}".replace(".", "_")


# --- two Poisson laws -------------------------------------------------------------------------------------------------

# elite mean, other mean, share of elite documents among relevant ones and the rest
WORDS = (
    (4.0, 0.3, 0.8, 0.10),
    (6.0, 0.1, 0.6, 0.05),
    (3.0, 0.8, 0.7, 0.20),
    (8.0, 0.5, 0.5, 0.05),
    (2.0, 0.2, 0.9, 0.25),
)
COLLECTION, RELEVANT, COLLECTIONS = 2000, 40, 20
COUNTS = range(21)


def two_poisson(figures: Path) -> Record:
    """How much is lost where BM25's saturation stands for the weight that two Poisson laws give?"""
    exact = {word: [two_poisson_weight(count, *word) for count in COUNTS] for word in WORDS}
    fitted = {word: _fit_saturation(weights) for word, weights in exact.items()}
    worst = {
        word: max(abs(height * saturation(count, k1) - exact[word][count]) for count in COUNTS) / exact[word][-1]
        for word, (height, k1) in fitted.items()
    }
    by_system: dict[str, list[float]] = {}
    for seed in SEEDS:
        for name, value in _ranked_collections(seed, fitted).items():
            by_system.setdefault(name, []).append(value)
    metrics: dict[str, Any] = {
        "worst_misfit": max(worst.values()),
        "least_k1": min(k1 for _, k1 in fitted.values()),
        "largest_k1": max(k1 for _, k1 in fitted.values()),
        "ndcg": {name: spread(values) for name, values in by_system.items()},
        "lost": {
            name: spread(best - value for best, value in zip(by_system["exact"], values, strict=True))
            for name, values in by_system.items()
            if name != "exact"
        },
    }
    figure = plots.two_poisson(list(COUNTS), exact, fitted, by_system, figures / "two_poisson.svg")
    return Record(
        objective="Words are repeated by two Poisson laws, one for documents about the word and one for the rest. How "
        "much does a ranking lose that uses BM25's count / (count + k1) instead of the exact log odds?",
        setup="Five words with elite means 2 to 8 and other means 0.1 to 0.8; height and k1 fitted to the exact "
        f"weights at counts 0 to {COUNTS[-1]}. {COLLECTIONS} collections a seed of {COLLECTION:,} documents of one "
        f"length, {RELEVANT} of them relevant, drawn from the model; nDCG@10 of the sum over the five words of: the "
        "exact weight; the fitted saturation; the fitted heights with k1 = 1.5 for all; BM25 with idf from the "
        "collection and k1 = 1.5; idf times the count; idf where the word is there. Losses are within a seed.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [{"changed": NAMES[name], "nDCG@10": statistics.fmean(values)} for name, values in by_system.items()]
        ),
        figure=figure,
        found="The fitted curve lies within {worst_misfit:.0%} of the exact weight's end, with k1 between "
        "{least_k1:.2f} and {largest_k1:.1f}. In ranking it loses {lost[fitted][mean]:.3f} of nDCG@10, with one k1 "
        "for all {lost[one_k1][mean]:.3f}, with idf for the heights as well, which is BM25, {lost[bm25][mean]:.3f} "
        "(sd {lost[bm25][sd]:.3f}), counting without saturation {lost[linear][mean]:.3f}.",
        negative="The exact weights are S-shaped: one occurrence says little where elite documents repeat a word "
        "often, and count / (count + k1) cannot bend that way. The documents have one length; nothing is said about "
        "b.",
    )


NAMES = {
    "exact": "exact log odds",
    "fitted": "fitted saturation, a k1 and a height a word",
    "one_k1": "fitted heights, k1 = 1.5",
    "bm25": "BM25, idf and k1 = 1.5",
    "linear": "idf times count",
    "presence": "idf, present or not",
}


def _fit_saturation(weights: Sequence[float]) -> tuple[float, float]:
    """Height and k1 of the saturation curve nearest to the weights of counts 0, 1, ..."""
    counts = np.arange(len(weights))

    def misfit(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        fit: npt.NDArray[np.float64] = x[0] * counts / (counts + np.exp(x[1])) - weights
        return fit

    height, log_k1 = least_squares(misfit, [weights[-1], 0.0]).x
    return float(height), math.exp(log_k1)


def _ranked_collections(seed: int, fitted: Mapping[Any, tuple[float, float]]) -> dict[str, float]:
    """Mean nDCG@10 of each weight over collections drawn from the model."""
    generator = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    relevant = {str(i) for i in range(RELEVANT)}
    is_relevant = np.arange(COLLECTION) < RELEVANT
    for _ in range(COLLECTIONS):
        scores = {name: np.zeros(COLLECTION) for name in NAMES}
        for word in WORDS:
            elite_mean, other_mean, p, q = word
            elite = generator.random(COLLECTION) < np.where(is_relevant, p, q)
            counts = generator.poisson(np.where(elite, elite_mean, other_mean))
            idf = inverse_document_frequency(int((counts > 0).sum()), COLLECTION)
            height, k1 = fitted[word]
            weights = np.array([two_poisson_weight(count, *word) for count in range(counts.max() + 1)])
            scores["exact"] += weights[counts]
            scores["fitted"] += height * counts / (counts + k1)
            scores["one_k1"] += height * counts / (counts + K1)
            scores["bm25"] += idf * counts / (counts + K1)
            scores["linear"] += idf * counts
            scores["presence"] += idf * (counts > 0)
        noise = generator.random(COLLECTION)  # equal scores in a random order
        for name, values in scores.items():
            ranked = [str(i) for i in np.lexsort((noise, -values))[:10]]
            found[name].append(ndcg_at(ranked, relevant, 10))
    return {name: statistics.fmean(values) for name, values in found.items()}


# --- contrastive tuning -----------------------------------------------------------------------------------------------

PAIRS_SEEN = 25_600
BATCH, RATE = 128, 0.01
TEMPERATURES = (0.02, 0.05, 0.1, 0.3, 1.0)
BATCHES, RATES, TEMPERATURE = (8, 64, 512), (0.003, 0.01, 0.03), 0.1
INFORMATION_BATCH = 64
QUERIES = 600
SUITES = {"names_removed": "without_names", "with_names": "text"}
ENCODER = (
    f"The encoder is the pipeline's without any block: {WIDTH} numbers a token, normed and averaged. Every run sees "
    f"{PAIRS_SEEN:,} pairs of the training modules and reads the first tokens of each; scored among the objects of the "
    "held-out modules alone"
)


def contrastive_tuning(figures: Path) -> Record:
    """Do tuned vectors help BM25, and what do temperature and masking of false negatives do?"""
    validation, test = _benchmark("val"), _benchmark("test")
    runs = {t: [_tuned(BATCH, t, RATE, seed, test, validation) for seed in SEEDS] for t in TEMPERATURES}
    best = max(runs, key=lambda t: statistics.fmean(run["val"] for run in runs[t]))
    chosen = runs[best]
    unmasked = [_tuned(BATCH, best, RATE, seed, test, validation, mask_same=False) for seed in SEEDS]
    untuned = [_scored(bag_encoder(seed), test) for seed in SEEDS]
    means = {t: [_mean_dense(run) for run in found] for t, found in runs.items()}
    metrics: dict[str, Any] = {
        "queries": len(test.queries),
        "pairs": len(object_pairs(corpus().objects)),
        "best_temperature": best,
        "untuned": spread(map(_mean_dense, untuned)),
        "bm25": {suite: statistics.fmean(chosen[0]["bm25"][suite]) for suite in SUITES},
        "dense": {suite: spread(np.mean(run["dense"][suite]) for run in chosen) for suite in SUITES},
        "hybrid": {suite: spread(np.mean(run["hybrid"][suite]) for run in chosen) for suite in SUITES},
        "hybrid_minus_bm25": {suite: _gain(chosen, suite) for suite in SUITES},
        "by_module": {suite: _gain(chosen, suite, _modules(test)) for suite in SUITES},
        "hybrid_minus_dense": paired_bootstrap(_over_seeds(chosen, "hybrid"), _over_seeds(chosen, "dense"), 2000, 0),
        "untuned_hybrid": spread(np.mean(run["hybrid"]["names_removed"]) for run in untuned),
        "modules": len(set(_modules(test))),
        "temperature": {_key("t", t): spread(values) for t, values in means.items()},
        "unmasked": spread(map(_mean_dense, unmasked)),
        "masked_minus_unmasked": spread(_mean_dense(a) - _mean_dense(b) for a, b in zip(chosen, unmasked, strict=True)),
    }
    figure = plots.contrastive_tuning(
        {suite: {name: [float(np.mean(run[name][suite])) for run in chosen] for name in ("bm25", "dense", "hybrid")}
         for suite in SUITES}, means, figures / "contrastive_tuning.svg",
    )  # fmt: skip
    return Record(
        objective="A query is to find the code that its docstring's first sentence describes. Do vectors that were "
        "tuned for it help BM25, once the names are taken out of the query? What do temperature and masking do?",
        setup=f"{LIBRARY}. {ENCODER}, {len(test.queries)} queries. InfoNCE in both directions, batches of {BATCH}, "
        f"AdamW at {RATE}; the temperature by nDCG@10 on validation. Hybrid: min-max scores, half and half. Intervals "
        "of 95% are of the difference query by query, averaged over seeds; the stricter one draws whole modules.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                *({"changed": f"temperature {t}", "dense nDCG@10": statistics.fmean(v)} for t, v in means.items()),
                {"changed": "false negatives not masked", "dense nDCG@10": metrics["unmasked"]["mean"]},
                {"changed": "not tuned", "dense nDCG@10": metrics["untuned"]["mean"]},
            ]
        ),
        figure=figure,
        found="Without names the vectors reach {dense[names_removed][mean]:.3f} nDCG@10 beside "
        "{bm25[names_removed]:.3f} of BM25, both together {hybrid[names_removed][mean]:.3f}: "
        "{hybrid_minus_bm25[names_removed][difference]:+.3f} ({hybrid_minus_bm25[names_removed][low]:+.3f} to "
        "{hybrid_minus_bm25[names_removed][high]:+.3f}; drawing modules, {by_module[names_removed][low]:+.3f} to "
        "{by_module[names_removed][high]:+.3f}). With names they gain "
        "{hybrid_minus_bm25[with_names][difference]:+.3f}. Untuned vectors reach {untuned[mean]:.3f} and pull BM25 "
        "down to {untuned_hybrid[mean]:.3f}.",
        negative="Without names BM25 adds {hybrid_minus_dense[difference]:+.3f} to the vectors "
        "({hybrid_minus_dense[low]:+.3f} to {hybrid_minus_dense[high]:+.3f}). Masking the false negatives changes "
        "{masked_minus_unmasked[mean]:+.3f} (sd {masked_minus_unmasked[sd]:.3f}). The queries are of {modules} "
        "modules only, and the vectors of a bag of tokens: what word order would add is not asked.",
    )


def batch_size(figures: Path) -> Record:
    """At as many pairs in all, do more negatives in a batch make better vectors?"""
    validation, test = _benchmark("val"), _benchmark("test")
    rate_of: dict[int, float] = {}
    runs: dict[int, list[dict[str, Any]]] = {}
    at_one_rate: dict[int, list[dict[str, Any]]] = {}
    for batch in BATCHES:
        tried = {rate: [_tuned(batch, TEMPERATURE, rate, seed, test, validation) for seed in SEEDS] for rate in RATES}
        rate_of[batch] = max(tried, key=lambda rate: statistics.fmean(run["val"] for run in tried[rate]))
        runs[batch], at_one_rate[batch] = tried[rate_of[batch]], tried[RATE]
    means = {batch: [_mean_dense(run) for run in found] for batch, found in runs.items()}
    losses = {batch: [run["loss"] for run in found] for batch, found in runs.items()}
    shown = {batch: mutual_information_bound(statistics.fmean(values), batch) for batch, values in losses.items()}
    held_out = {batch: [run["information"] for run in found] for batch, found in runs.items()}
    gains = {
        name: {
            _key("b", batch): paired_bootstrap(
                _over_seeds(found[batch], "dense"), _over_seeds(found[BATCHES[0]], "dense"), 2000, 0
            )
            for batch in BATCHES[1:]
        }
        for name, found in (("more_than_eight", runs), ("more_than_eight_at_one_rate", at_one_rate))
    }
    metrics: dict[str, Any] = {
        "queries": len(test.queries),
        "dense": {_key("b", batch): spread(values) for batch, values in means.items()},
        "rate": {_key("b", batch): rate for batch, rate in rate_of.items()},
        "loss": {_key("b", batch): spread(values) for batch, values in losses.items()},
        "training_bound": {_key("b", batch): value for batch, value in shown.items()},
        "held_out_bound": {_key("b", batch): spread(values) for batch, values in held_out.items()},
        "most_that_can_be_shown": {_key("b", batch): mutual_information_bound(0.0, batch) for batch in BATCHES},
        **gains,
    }
    figure = plots.batch_size(means, shown, held_out, INFORMATION_BATCH, figures / "batch_size.svg")
    return Record(
        objective="Every document of a batch is a negative for every other query. At as many pairs in all, do larger "
        "batches make better vectors, and what does the loss show?",
        setup=f"{LIBRARY}. {ENCODER}, {len(test.queries)} queries without their names. Temperature {TEMPERATURE}; "
        f"AdamW at the best of {RATES[0]}, {RATES[1]} and {RATES[2]} for each batch size, by nDCG@10 on validation. "
        "Training bound: ln B less the loss of the last tenth of the steps, which masks false negatives. Held-out "
        f"bound: ln {INFORMATION_BATCH} less the loss of test pairs in random batches of {INFORMATION_BATCH}, "
        "unmasked, query to document: what the bound is about.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"batches of {batch}",
                    "rate": rate_of[batch],
                    "dense nDCG@10": statistics.fmean(values),
                    "training bound, nats": shown[batch],
                    "held-out bound, nats": statistics.fmean(held_out[batch]),
                }
                for batch, values in means.items()
            ]
        ),
        figure=figure,
        found="Batches of 8, 64 and 512 end at {dense[b_8][mean]:.3f}, {dense[b_64][mean]:.3f} and "
        "{dense[b_512][mean]:.3f} nDCG@10. Their training losses show {training_bound[b_8]:.2f}, "
        "{training_bound[b_64]:.2f} and {training_bound[b_512]:.2f} nats, held-out pairs "
        "{held_out_bound[b_8][mean]:.2f}, {held_out_bound[b_64][mean]:.2f} and {held_out_bound[b_512][mean]:.2f}: "
        "most of the former is memory.",
        negative="At as many pairs the batch hardly matters here: 64 less 8 is "
        "{more_than_eight[b_64][difference]:+.3f} ({more_than_eight[b_64][low]:+.3f} to "
        "{more_than_eight[b_64][high]:+.3f}), and 512, with an eighth of the steps of 64, is "
        "{more_than_eight[b_512][difference]:+.3f} ({more_than_eight[b_512][low]:+.3f} to "
        "{more_than_eight[b_512][high]:+.3f}).",
    )


@functools.cache
def _benchmark(split: str) -> Benchmark:
    return make_benchmark(corpus().objects, corpus().documents, split, QUERIES, 0)


def _tuned(
    batch: int,
    temperature: float,
    rate: float,
    seed: int,
    test: Benchmark,
    validation: Benchmark,
    mask_same: bool = True,
) -> dict[str, Any]:
    """What `_scored` says on test, the loss of the last tenth of the steps, nDCG@10 of the vectors on validation as
    "val", and the held-out bound on shared information."""
    encoder = bag_encoder(seed)
    recipe = Recipe(rate, temperature, PAIRS_SEEN // batch, batch, seed)
    losses = list(tune(encoder, list(encoder.gpt.parameters()), object_pairs(corpus().objects), recipe, mask_same))
    found: dict[str, Any] = {"loss": statistics.fmean(losses[-max(1, len(losses) // 10) :])}
    found["val"] = _mean_dense(_scored(encoder, validation))
    found["information"] = _held_out_information(encoder, test, temperature, seed)
    return found | _scored(encoder, test)


def _held_out_information(encoder: Encoder, test: Benchmark, temperature: float, seed: int) -> float:
    """ln B less the loss of query to document, in nats, over random batches of test pairs, none of them masked."""
    queries = encoder.embed_queries([query.without_names for query in test.queries])
    documents = encoder.embed_documents([test.documents[query.relevant] for query in test.queries])
    generator = np.random.default_rng(seed)
    losses = []
    for _ in range(50):
        rows = generator.choice(len(queries), INFORMATION_BATCH, replace=False)
        logits = queries[rows] @ documents[rows].T / temperature
        losses.append(float((logsumexp(logits, axis=1) - logits.diagonal()).mean()))
    return mutual_information_bound(statistics.fmean(losses), INFORMATION_BATCH)


def _mean_dense(run: Mapping[str, Any]) -> float:
    return float(np.mean(run["dense"]["names_removed"]))


def _over_seeds(runs: Sequence[Mapping[str, Any]], retriever: str, suite: str = "names_removed") -> Any:
    """nDCG@10 of each query, averaged over the runs."""
    return np.mean([run[retriever][suite] for run in runs], axis=0)


def _gain(runs: Sequence[Mapping[str, Any]], suite: str, groups: Sequence[str] | None = None) -> dict[str, float]:
    """Hybrid less BM25 with its paired interval; with `groups`, one a query, whole groups are drawn."""
    hybrid, bm25 = _over_seeds(runs, "hybrid", suite), _over_seeds(runs, "bm25", suite)
    if groups is None:
        return paired_bootstrap(hybrid, bm25, 2000, 0)
    names, number = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(number, hybrid - bm25), np.bincount(number)
    drawn = np.random.default_rng(0).integers(len(names), size=(2000, len(names)))
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    return {"difference": float((hybrid - bm25).mean()), "low": float(low), "high": float(high)}


def _modules(benchmark: Benchmark) -> list[str]:
    """The module of each query's object."""
    module = {item.qualname: item.module for item in corpus().objects}
    return [module[query.relevant] for query in benchmark.queries]


def _scored(encoder: Encoder, benchmark: Benchmark) -> dict[str, dict[str, list[float]]]:
    """retriever → suite → nDCG@10 of each query, among the documents of the queries' split."""
    ids = [key for key in benchmark.documents if key in benchmark.held_out]
    texts = [benchmark.documents[key] for key in ids]
    vectors = encoder.embed_documents(texts)
    bm25 = BM25.build(texts, K1, B)
    found: dict[str, dict[str, list[float]]] = {"bm25": {}, "dense": {}, "hybrid": {}}
    for suite, wording in SUITES.items():
        asked = [getattr(query, wording) for query in benchmark.queries]
        cosines = encoder.embed_queries(asked) @ vectors.T
        for query, text, row in zip(benchmark.queries, asked, cosines, strict=True):
            words = [(ids[i], score) for i, score in bm25.search(text, 100)]
            nearest = [(ids[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:100]]
            both = fuse(words, nearest, "scores", 0.5)
            for name, ranking in (("bm25", words), ("dense", nearest), ("hybrid", both)):
                value = ndcg_at([key for key, _ in ranking], {query.relevant}, 10)
                found[name].setdefault(suite, []).append(value)
    return found


# --- nearest neighbours -----------------------------------------------------------------------------------------------

SIZES = (500, 1000, 2000, 4000, 8000)
NEIGHBOURS, ASKED, DIMENSIONS = 10, 200, 64
LINKS, EF_CONSTRUCTION = 8, 60
IN_VIEW = (10, 20, 40, 80, 160)
PROBES = (1, 2, 4, 8, 16, 32, 64)
WANTED = 0.99
TITLES = {"hnsw": "HNSW", "flat": "flat graph", "inverted_lists": "IVF"}
INDEXES = tuple(TITLES)


def nearest_neighbours(figures: Path) -> Record:
    """How many distances do a graph and cells compute to find 99% of the ten nearest, and how does it grow?"""
    vectors = _passages_as_vectors()
    curves: dict[str, list[tuple[float, float]]] = {}
    enough: dict[str, dict[int, list[float]]] = {name: {} for name in INDEXES}  # by size, a seed each
    for size, name in itertools.product(SIZES, INDEXES):
        per_seed = [_neighbours(name, vectors, size, seed) for seed in SEEDS]
        enough[name][size] = [_cost_at(run, WANTED) for run in per_seed]
        if size == SIZES[-1]:
            curves[name] = [
                (statistics.fmean(cost for cost, _ in runs), statistics.fmean(recall for _, recall in runs))
                for runs in zip(*per_seed, strict=True)
            ]
    noise = np.random.default_rng(0).normal(size=(SIZES[-1] + ASKED, DIMENSIONS)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    on_noise = _neighbours("hnsw", noise, SIZES[-1], 0)
    growth = {
        name: [_slope(SIZES, [costs[size][seed] for size in SIZES]) for seed in SEEDS] for name, costs in enough.items()
    }
    metrics: dict[str, Any] = {
        "distances_for_99": {
            name: {_key("n", size): spread(found) for size, found in costs.items()} for name, costs in enough.items()
        },
        "share_of_exact": {
            name: spread(cost / SIZES[-1] for cost in costs[SIZES[-1]]) for name, costs in enough.items()
        },
        "growth": {name: spread(found) for name, found in growth.items()},
        "largest_growth": {name: max(found) for name, found in growth.items()},
        "growth_of_a_logarithm": _slope(SIZES, [math.log(size) for size in SIZES]),
        "recall": {
            name: {_key("ef", ef): recall for ef, (_, recall) in zip(IN_VIEW, curves[name], strict=True)}
            for name in ("hnsw", "flat")
        }
        | {
            "inverted_lists": {
                _key("probes", probes): recall
                for probes, (_, recall) in zip(PROBES, curves["inverted_lists"], strict=True)
            },
        },
        "recall_on_noise": {_key("ef", ef): recall for ef, (_, recall) in zip(IN_VIEW, on_noise, strict=True)},
    }
    figure = plots.nearest_neighbours(
        curves,
        on_noise,
        {name: {size: statistics.fmean(found) for size, found in costs.items()} for name, costs in enough.items()},
        WANTED,
        figures / "nearest_neighbours.svg",
    )
    return Record(
        objective="How many distances does a search in a graph (HNSW) or in cells (IVF) compute for 99% of the ten "
        "nearest, and how does that grow with the number of points?",
        setup=f"{LIBRARY}, in chunks; their BM25 weights in {DIMENSIONS} numbers (singular vectors), unit length; "
        f"{ASKED} of them as queries, others as points, drawn anew for each seed. Found is what is as near as the "
        f"tenth nearest. HNSW: M = {LINKS}, {EF_CONSTRUCTION} candidates at insertion, {IN_VIEW[0]} to {IN_VIEW[-1]} "
        f"in view. IVF: 2 √N cells, {PROBES[0]} to {PROBES[-1]} opened. Flat: the same graph with every point on the "
        "bottom layer alone. Distances to 99% are interpolated between the measured points, for each seed. Growth is "
        f"the slope of log distances against log N, from {SIZES[0]} to {SIZES[-1]:,}. Noise: as many independent "
        "normal vectors, one seed.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"N = {size:,}", **{TITLES[name]: statistics.fmean(enough[name][size]) for name in INDEXES}}
                for size in SIZES
            ]
        ),
        figure=figure,
        found="Of 8,000 points the graph compares a query with {share_of_exact[hnsw][mean]:.1%} for 99% recall, cells "
        "with {share_of_exact[inverted_lists][mean]:.1%}. Its distances grow like N to the {growth[hnsw][mean]:.2f} "
        "(at most {largest_growth[hnsw]:.2f}), where a logarithm would have {growth_of_a_logarithm:.2f} in this "
        "range; those of cells like N to the {growth[inverted_lists][mean]:.2f}.",
        negative="The layers are not what does it: one flat graph computes {share_of_exact[flat][mean]:.1%} and grows "
        "like N to the {growth[flat][mean]:.2f}. On independent noise of as many dimensions twenty in view find "
        "{recall_on_noise[ef_20]:.0%} where they find {recall[hnsw][ef_20]:.0%} on text. The queries are passages, "
        "not questions. At this size exact search takes faiss a millisecond, so the pipeline keeps it.",
    )


@functools.cache
def _passages_as_vectors() -> npt.NDArray[np.float32]:
    """Unit vectors (N, DIMENSIONS) of the corpus's chunks: BM25 weights on their first left singular vectors."""
    chunks = _chunks(CHUNK)
    bm25 = BM25.build(map(searchable_text, chunks), K1, B)
    weights = csc_matrix((bm25.weights, bm25.documents, bm25.indptr), shape=(len(chunks), len(bm25.terms)))
    start = np.random.default_rng(0).normal(size=min(weights.shape))
    left, values, _ = svds(weights, DIMENSIONS, v0=start)
    vectors = (left * values).astype(np.float32)
    unit: npt.NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit


def _neighbours(name: str, vectors: npt.NDArray[np.float32], size: int, seed: int) -> list[tuple[float, float]]:
    """(distances a query, recall@10) for each setting, ascending."""
    order = np.random.default_rng(seed).permutation(len(vectors))
    queries, points = vectors[order[:ASKED]], vectors[order[ASKED : ASKED + size]]
    exact = np.sqrt(np.maximum(squared_distances(queries, points), 0))
    tenth = np.partition(exact, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
    index: HNSW | InvertedLists
    if name == "inverted_lists":
        index = InvertedLists(points, k_means(points, round(2 * math.sqrt(size)), 10, seed))
    else:
        index = HNSW(vectors.shape[1], LINKS, EF_CONSTRUCTION, seed, layered=name == "hnsw")
        index.insert(points)
    measured = []
    for setting in PROBES if name == "inverted_lists" else IN_VIEW:
        index.distances_computed = 0
        recalls = []
        for query, limit in zip(queries, tenth, strict=True):
            near = index.search(query, NEIGHBOURS, setting)
            recalls.append(sum(math.sqrt(distance) <= limit + 1e-3 for distance, _ in near) / NEIGHBOURS)
        measured.append((index.distances_computed / ASKED, statistics.fmean(recalls)))
    return measured


def _cost_at(curve: Sequence[tuple[float, ...]], recall: float) -> float:
    """Distances for a recall, between the two measured points around it on a log scale; infinite if none reaches it."""
    costs, recalls = zip(*curve, strict=True)
    if recalls[-1] < recall:
        return math.inf
    return float(np.exp(np.interp(recall, np.maximum.accumulate(recalls), np.log(costs))))


def _slope(sizes: Sequence[int], costs: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


# --- chunks -----------------------------------------------------------------------------------------------------------

LENGTHS = (300, 600, 1200, 2400, 4800)
BUDGET = 4800  # characters that may be read
EVERY = 5  # the share of the functions that are asked for is one in so many
CHUNKERS: Mapping[str, Callable[[str, str, str, int, int], list[Chunk]]] = {
    "borders": chunk_text,
    "windows": fixed_windows,
}


def chunks(figures: Path) -> Record:
    """Do natural borders and the length of a chunk matter for finding a passage?"""
    stripped = [_without_docstrings(document) for document in corpus().everything]
    places = _places(stripped)
    rows: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in CHUNKERS}
    for name, chunker in CHUNKERS.items():
        for length in LENGTHS:
            made = [c for d in stripped for c in chunker(d.text, d.id, d.title, length, length // 6)]
            rows[name][length] = _found_in_chunks(made, places, length)
    best = {name: max(LENGTHS, key=lambda length: float(np.mean(rows[name][length]["hits"]))) for name in CHUNKERS}
    expected = {length: _expected_whole([end - start for _, _, start, end in places], length) for length in LENGTHS}
    at = {length: paired_bootstrap(rows["borders"][length]["hits"], rows["windows"][length]["hits"], 2000, 0)
          for length in LENGTHS}  # fmt: skip
    metrics: dict[str, Any] = {
        **{
            name: {
                _key("c", length): {
                    "chunks": row["chunks"],
                    "whole": row["whole"],
                    "recall": float(np.mean(row["hits"])),
                    "recall_of_first": float(np.mean(row["first"])),
                }
                for length, row in by_length.items()
            }
            for name, by_length in rows.items()
        },
        "functions": len(places),
        "whole_expected_of_windows": {_key("c", length): value for length, value in expected.items()},
        "best_length": best,
        "borders_minus_windows": {_key("c", length): gain for length, gain in at.items()},
    }
    figure = plots.chunks(
        {name: {length: (row["whole"], float(np.mean(row["hits"]))) for length, row in by.items()}
         for name, by in rows.items()}, BUDGET, figures / "chunks.svg",
    )  # fmt: skip
    return Record(
        objective="Text is cut into chunks before anything is searched. How long should they be, and does it matter "
        "whether a cut falls between two functions or anywhere?",
        setup=f"{LIBRARY}, docstrings taken out of the code. Query: the first sentence of a function's docstring; "
        f"right is a chunk with at least half of its code. Every fifth function, {len(places)} in all; BM25 over the "
        f"chunks of all modules, read from the best one on until {BUDGET:,} characters are used up. Overlap: a sixth. "
        "Whole: functions not longer than a chunk that lie in one.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {
                    "changed": f"{'natural borders' if name == 'borders' else 'windows'}, {length:,} characters",
                    "chunks": row["chunks"],
                    "functions kept whole": row["whole"],
                    f"found in {BUDGET:,} characters": float(np.mean(row["hits"])),
                }
                for name, by_length in rows.items()
                for length, row in by_length.items()
            ]
        ),
        figure=figure,
        found="At 1,200 characters natural borders keep {borders[c_1200][whole]:.0%} of the functions whole, windows "
        "{windows[c_1200][whole]:.0%}, where the derivation expects {whole_expected_of_windows[c_1200]:.0%}.",
        negative="For finding them it matters little: in as many characters {borders[c_1200][recall]:.3f} of the "
        "functions with borders and {windows[c_1200][recall]:.3f} with windows "
        "({borders_minus_windows[c_1200][difference]:+.3f}, {borders_minus_windows[c_1200][low]:+.3f} to "
        "{borders_minus_windows[c_1200][high]:+.3f}). The best length under this budget is {best_length[borders]} "
        "characters, compared on the very queries that are reported.",
    )


def _without_docstrings(document: Document) -> Document:
    """The document without the lines of its docstrings; as it is where it is no Python."""
    try:
        tree = ast.parse(document.text)
    except (SyntaxError, ValueError):
        return document
    lines = document.text.split("\n")
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            first, last = node.body[0].lineno, node.body[0].end_lineno or 0
            if node.body[0].lineno > getattr(node, "lineno", 0):  # not on the line of its header
                lines[first - 1 : last] = [None] * (last - first + 1)  # type: ignore[list-item]
    kept = "\n".join(line for line in lines if line is not None)
    return Document(**{**vars(document), "text": kept})


def _places(stripped: Sequence[Document]) -> list[tuple[str, str, int, int]]:
    """(query, document, start, end) of every fifth function whose code is found in the stripped text."""
    texts = {document.id: document.text for document in stripped}
    places = []
    for item in corpus().objects:
        if item.kind == "class" or not is_searchable(item) or len(item.summary.split()) < MIN_QUERY_WORDS:
            continue
        for indent in ("", " " * 4, " " * 8):  # a method's code is kept without what it is indented by
            code = textwrap.indent(item.source, indent)
            if (start := texts[item.module].find(code)) >= 0:
                places.append((item.summary, item.module, start + len(indent), start + len(code.rstrip())))
                break
    return places[::EVERY]


def _found_in_chunks(made: Sequence[Chunk], places: Sequence[tuple[str, str, int, int]], length: int) -> dict[str, Any]:
    by_source: dict[str, list[int]] = {}
    for position, chunk in enumerate(made):
        by_source.setdefault(chunk.source, []).append(position)
    bm25 = BM25.build(map(searchable_text, made), K1, B)
    hits, first, whole = [], [], []
    for query, source, start, end in places:
        overlaps = {i: min(made[i].end, end) - max(made[i].start, start) for i in by_source[source]}
        right = {i for i, shared in overlaps.items() if 2 * shared >= min(end - start, length)}
        ranked: list[int] = []
        left = BUDGET
        for i, _ in bm25.search(query, BUDGET):
            left -= len(made[i].text)
            if left < 0 and ranked:
                break
            ranked.append(i)
        hits.append(float(bool(right & set(ranked))))
        first.append(float(bool(right & set(ranked[:1]))))
        if end - start <= length:
            whole.append(max(overlaps.values()) == end - start)
    return {"chunks": len(made), "hits": hits, "first": first, "whole": statistics.fmean(whole)}


def _expected_whole(sizes: Sequence[int], length: int) -> float:
    """Share of functions not longer than a window that windows keep whole on average, (6.1)."""
    fit = [size for size in sizes if size <= length]
    return statistics.fmean(min(1.0, (length - size + 1) / (length - length // 6)) for size in fit)


# --- silence ----------------------------------------------------------------------------------------------------------

ASKED_OF_OBJECTS = INVENTED = 150
ALLOWED_RISK = 0.05


def abstention(figures: Path) -> Record:
    """How does the share of wrong answers fall as the reader answers less, and does a certified threshold hold?"""
    index = _words_only_index()
    objects = corpus().objects
    curves, held, certified, areas = [], [], [], []
    for seed in SEEDS:
        judged = {split: _judged(index, objects, split, seed) for split in ("val", "test")}
        curve = risk_coverage_curve(*judged["test"])
        curves.append(curve)
        n = curve[-1].n
        areas.append((area_under_curve(curve), best_area(curve[-1].wrong, n), curve[-1].risk))
        point = certified_threshold(risk_coverage_curve(*judged["val"]), ALLOWED_RISK)
        if point is None:
            raise RuntimeError("no threshold is certified on validation")
        scores, wrong = (np.asarray(part) for part in judged["test"])
        kept = scores >= point.threshold
        certified.append(point)
        held.append((float(kept.mean()), float(wrong[kept].mean())))
    hand_curve, hand_areas = _hand_written_curve(index, statistics.median(point.threshold for point in certified))
    metrics: dict[str, Any] = {
        "area": spread(area for area, _, _ in areas),
        "area_of_a_perfect_order": spread(best for _, best, _ in areas),
        "area_of_no_order": spread(risk for _, _, risk in areas),
        "certified_coverage": spread(coverage for coverage, _ in held),
        "certified_risk": spread(risk for _, risk in held),
        "largest_certified_risk": max(risk for _, risk in held),
        "threshold": spread(point.threshold for point in certified),
        "hand_written": hand_areas,
        "hand_written_area_gain": hand_areas["no_order"] - hand_areas["area"],
    }
    figure = plots.abstention(curves, hand_curve, ALLOWED_RISK, held, figures / "abstention.svg")
    return Record(
        objective="A reader that may stay silent is wrong less often the less it says. How well does its confidence "
        "order its mistakes, and does a threshold certified on one set of questions hold on another?",
        setup=f"{LIBRARY}, searched by words. {ASKED_OF_OBJECTS} questions a draw about objects of the test modules "
        f"and {INVENTED} about names that nothing has. The threshold is certified on as many about the validation "
        f"modules: risk {ALLOWED_RISK:.0%} with probability 95%, by the exact binomial bound. Wrong: the first "
        "quotation lies outside of the asked definition; where nothing can be quoted the confidence is zero. Beside "
        "it the hand-written questions, wrong where another module is cited or none has an answer. The area is the "
        "mean risk over all coverages.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": "confidence of the reader", "area": statistics.fmean(a for a, _, _ in areas)},
                {"changed": "mistakes last", "area": statistics.fmean(b for _, b, _ in areas)},
                {"changed": "random order", "area": statistics.fmean(r for _, _, r in areas)},
                {"changed": "hand-written: confidence of the reader", "area": hand_areas["area"]},
                {"changed": "hand-written: mistakes last", "area": hand_areas["perfect_order"]},
                {"changed": "hand-written: random order", "area": hand_areas["no_order"]},
            ]
        ),
        figure=figure,
        found="On questions about names the area under the curve is {area[mean]:.3f}, beside "
        "{area_of_a_perfect_order[mean]:.3f} for an order that knows the mistakes and {area_of_no_order[mean]:.3f} "
        "for a random one. The certified threshold answers {certified_coverage[mean]:.0%} of the test questions with "
        "a risk of {certified_risk[mean]:.3f} (at most {largest_certified_risk:.3f} in three draws).",
        negative="A certificate holds for its kind of question: at the same threshold {hand_written[answered]:.0%} of "
        "the hand-written ones are answered, {hand_written[risk]:.0%} of these wrongly. There the confidence goes "
        "{hand_written[share_of_the_possible]:.0%} of the way from a random order, {hand_written[no_order]:.3f}, to a "
        "perfect one, {hand_written[perfect_order]:.3f}. {hand_written[unanswerable]} of the "
        "{hand_written[questions]} have no answer.",
    )


@functools.cache
def _words_only_index() -> SearchIndex:
    """The corpus's chunks under BM25; nothing is embedded, and thresholds are zero: it always answers if it can."""
    found = _chunks(CHUNK)
    bm25 = BM25.build(map(searchable_text, found), K1, B)
    settings = IndexSettings("bm25", "scores", 0.5, 0.0, 0.0)
    return SearchIndex(found, bm25, DenseStore(1), bag_encoder(0), settings)


@functools.cache
def _chunks(length: int) -> list[Chunk]:
    return [c for d in corpus().everything for c in chunk_text(d.text, d.id, d.title, length, OVERLAP)]


def _judged(index: SearchIndex, objects: Any, split: str, seed: int) -> tuple[list[float], list[bool]]:
    """Confidence in each answer, and whether it is wrong."""
    asked = [
        *object_questions(objects, split, ASKED_OF_OBJECTS, seed),
        *(q for q in unanswerable_questions(objects, split, INVENTED + 10, seed) if q.id.startswith("invented:")),
    ]
    scores, wrong = [], []
    for question in asked:
        hits = index.search(question.text, READ_CHUNKS, "bm25")
        scores.append(confidence(question.text, hits, index))
        given = compose(question.text, hits, index)
        wrong.append(not any(_in_place(citation, question) for citation in given.citations[:1]))
    return scores, wrong


def _in_place(citation: Citation, question: Question) -> bool:
    """Whether the citation lies in the definition that the question asks for; nothing does where there is none."""
    inside = question.start <= citation.start and citation.end <= question.end
    return question.answerable and citation.source == question.source and inside


def _hand_written_curve(index: SearchIndex, threshold: float) -> tuple[list[Point], dict[str, Any]]:
    """The curve of the hand-written questions, its areas, and what happens at `threshold`."""
    sources = {chunk.source for chunk in index.chunks.values()}
    asked = load_hand_written(EVALS / "questions.jsonl", sources)
    scores, wrong = [], []
    for question in asked:
        hits = index.search(question.question, READ_CHUNKS, "bm25")
        scores.append(confidence(question.question, hits, index))
        given = compose(question.question, hits, index)
        wrong.append(not (given.citations and given.citations[0].source in question.modules))
    curve = risk_coverage_curve(scores, wrong)
    whole = curve[-1]
    kept = [bad for score, bad in zip(scores, wrong, strict=True) if score >= threshold]
    return curve, {
        "area": area_under_curve(curve),
        "perfect_order": best_area(whole.wrong, whole.n),
        "no_order": whole.risk,
        "questions": whole.n,
        "unanswerable": sum(not question.answerable for question in asked),
        "share_of_the_possible": (whole.risk - area_under_curve(curve))
        / (whole.risk - best_area(whole.wrong, whole.n)),
        "answered": len(kept) / whole.n,
        "risk": statistics.fmean(kept),
    }


# --- how much to read -------------------------------------------------------------------------------------------------

DEPTHS = (1, 2, 3, 5, 10, 20, 50, 100)


def reading_depth(figures: Path) -> Record:
    """Does the reader make use of what more chunks hold, and of a right chunk that is not the first?"""
    index = _words_only_index()
    sources = {chunk.source for chunk in index.chunks.values()}
    asked = [q for q in load_hand_written(EVALS / "questions.jsonl", sources) if q.answerable]
    recalled: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    cited: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    by_place: dict[str, list[float]] = {"first": [], "later": []}
    for question in asked:
        hits = index.search(question.question, DEPTHS[-1], "bm25")
        for depth in DEPTHS:
            given = compose(question.question, hits[:depth], index)
            recalled[depth].append(float(any(hit.chunk.source in question.modules for hit in hits[:depth])))
            cited[depth].append(float(bool(given.citations) and given.citations[0].source in question.modules))
        places = [place for place, hit in enumerate(hits[:READ_CHUNKS]) if hit.chunk.source in question.modules]
        if places:
            by_place["later" if places[0] else "first"].append(cited[READ_CHUNKS][-1])
    metrics: dict[str, Any] = {
        "questions": len(asked),
        "recall": {_key("k", depth): statistics.fmean(values) for depth, values in recalled.items()},
        "cited": {_key("k", depth): statistics.fmean(values) for depth, values in cited.items()},
        "right_chunk_first": len(by_place["first"]),
        "right_chunk_later": len(by_place["later"]),
        "cited_where_first": statistics.fmean(by_place["first"]),
        "cited_where_later": statistics.fmean(by_place["later"]),
        "ten_minus_one": paired_bootstrap(cited[10], cited[1], 2000, 0),
        "hundred_minus_ten": paired_bootstrap(cited[100], cited[10], 2000, 0),
    }
    figure = plots.reading_depth(
        DEPTHS, {"recall": recalled, "cited": cited}, len(asked), figures / "reading_depth.svg"
    )
    return Record(
        objective="The more chunks are read, the more often one is right. Does the reader's answer come from it?",
        setup=f"{LIBRARY}, searched by words; the {len(asked)} hand-written questions that it answers, in chunks of "
        f"{CHUNK:,} characters. Recall: a chunk of a right module is among the first k. Cited: the first citation is "
        "of a right module. By place: of questions with a right chunk among ten, whether the first one is right.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {
                    "changed": f"{depth} chunks",
                    "recall": statistics.fmean(recalled[depth]),
                    "cited": statistics.fmean(cited[depth]),
                }
                for depth in DEPTHS
            ]
        ),
        figure=figure,
        found="From one chunk to a hundred the recall of a right module goes from {recall[k_1]:.2f} to "
        "{recall[k_100]:.2f}, and right citations from {cited[k_1]:.2f} to {cited[k_100]:.2f}. Where the first chunk "
        "is right ({right_chunk_first} questions) it is cited in {cited_where_first:.0%} of the cases, where a later "
        "one of ten is ({right_chunk_later}), in {cited_where_later:.0%}.",
        negative="More reading does not help this reader: ten chunks less one is {ten_minus_one[difference]:+.2f} "
        "({ten_minus_one[low]:+.2f} to {ten_minus_one[high]:+.2f}). The two groups by place differ in more than the "
        "place: easy questions have the right chunk first. A chunk of the right module may be the wrong part of it, "
        "so both curves are lenient.",
    )
