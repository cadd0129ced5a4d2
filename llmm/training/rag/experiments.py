"""What retrieval rests on: BM25's shape, contrastive tuning, near neighbours, chunks, silence, how much to read."""

import ast
import functools
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
        "lost_by_saturation": statistics.fmean(by_system["exact"]) - statistics.fmean(by_system["fitted"]),
        "lost_by_bm25": statistics.fmean(by_system["exact"]) - statistics.fmean(by_system["bm25"]),
        "lost_by_counting": statistics.fmean(by_system["exact"]) - statistics.fmean(by_system["linear"]),
        "lost_by_presence": statistics.fmean(by_system["exact"]) - statistics.fmean(by_system["presence"]),
    }
    figure = plots.two_poisson(list(COUNTS), exact, fitted, by_system, figures / "two_poisson.svg")
    return Record(
        objective="Words are repeated by two Poisson laws, one for documents about the word and one for the rest. How "
        "much does a ranking lose that uses BM25's count / (count + k1) instead of the exact log odds?",
        setup="Five words with elite means 2 to 8 and other means 0.1 to 0.8; height and k1 fitted to the exact "
        f"weights at counts 0 to {COUNTS[-1]}. {COLLECTIONS} collections a seed of {COLLECTION:,} documents of one "
        f"length, {RELEVANT} of them relevant, drawn from the model; nDCG@10 of the sum over the five words of: the "
        "exact weight; the fitted saturation; BM25 with idf from the collection and k1 = 1.5; idf times the count; "
        "idf where the word is there.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [{"changed": NAMES[name], "nDCG@10": statistics.fmean(values)} for name, values in by_system.items()]
        ),
        figure=figure,
        found="The fitted curve lies within {worst_misfit:.0%} of the exact weight's end, with k1 between "
        "{least_k1:.2f} and {largest_k1:.1f}. In ranking it loses {lost_by_saturation:.4f} of nDCG@10, BM25 with one "
        "k1 for all {lost_by_bm25:.4f}, counting without saturation {lost_by_counting:.4f}.",
        negative="The exact weight is S-shaped where the other law is not rare: one occurrence may say little, and "
        "count / (count + k1) cannot bend that way. The documents here have one length; nothing is said about b.",
    )


NAMES = {
    "exact": "exact log odds",
    "fitted": "fitted saturation, a k1 and a height a word",
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
BATCH, TEMPERATURE, RATE = 128, 0.1, 0.01
TEMPERATURES = (0.02, 0.05, 0.1, 0.3, 1.0)
BATCHES, RATES = (8, 32, 128, 512), (0.003, 0.01, 0.03)
QUERIES = 600
SUITES = {"names_removed": "without_names", "with_names": "text"}
ENCODER = (
    f"The encoder is the pipeline's without any block: {WIDTH} numbers a token, normed and averaged. Every run sees "
    f"{PAIRS_SEEN:,} pairs of the training modules; scored among the objects of the held-out modules alone"
)


def contrastive_tuning(figures: Path) -> Record:
    """Do tuned vectors help BM25, and what do temperature and masking of false negatives do?"""
    test = _benchmark("test")
    runs = {t: [_tuned(BATCH, t, RATE, seed, test) for seed in SEEDS] for t in TEMPERATURES}
    chosen = runs[TEMPERATURE]
    unmasked = [_tuned(BATCH, TEMPERATURE, RATE, seed, test, mask_same=False) for seed in SEEDS]
    untuned = [_scored(bag_encoder(seed), test) for seed in SEEDS]
    means = {t: [_mean_dense(run) for run in found] for t, found in runs.items()}
    metrics: dict[str, Any] = {
        "queries": len(test.queries),
        "pairs": len(object_pairs(corpus().objects)),
        "untuned": spread(map(_mean_dense, untuned)),
        "bm25": {suite: statistics.fmean(chosen[0]["bm25"][suite]) for suite in SUITES},
        "dense": {suite: spread(np.mean(run["dense"][suite]) for run in chosen) for suite in SUITES},
        "hybrid": {suite: spread(np.mean(run["hybrid"][suite]) for run in chosen) for suite in SUITES},
        "hybrid_minus_bm25": {suite: _gain(chosen, suite) for suite in SUITES},
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
        f"temperature {TEMPERATURE}, AdamW at {RATE}. Hybrid: min-max scores, half and half. Intervals of 95% are of "
        "the difference query by query, averaged over seeds.",
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
        "{hybrid_minus_bm25[names_removed][high]:+.3f}). With names they gain "
        "{hybrid_minus_bm25[with_names][difference]:+.3f}. Untuned vectors reach {untuned[mean]:.3f}.",
        negative="Masking the false negatives changes {masked_minus_unmasked[mean]:+.3f} (sd "
        "{masked_minus_unmasked[sd]:.3f}), the three middle temperatures end at {temperature[t_0_05][mean]:.3f}, "
        "{temperature[t_0_1][mean]:.3f} and {temperature[t_0_3][mean]:.3f}. The vectors are of a bag of tokens: what "
        "word order would add is not asked.",
    )


def batch_size(figures: Path) -> Record:
    """At as many pairs in all, do more negatives in a batch make better vectors?"""
    validation, test = _benchmark("val"), _benchmark("test")
    rate_of: dict[int, float] = {}
    runs: dict[int, list[dict[str, Any]]] = {}
    for batch in BATCHES:
        tried = {rate: [_tuned(batch, TEMPERATURE, rate, seed, test, validation) for seed in SEEDS] for rate in RATES}
        rate_of[batch] = max(tried, key=lambda rate: statistics.fmean(run["val"] for run in tried[rate]))
        runs[batch] = tried[rate_of[batch]]
    means = {batch: [_mean_dense(run) for run in found] for batch, found in runs.items()}
    losses = {batch: [run["loss"] for run in found] for batch, found in runs.items()}
    shown = {batch: mutual_information_bound(statistics.fmean(values), batch) for batch, values in losses.items()}
    gains = {
        batch: paired_bootstrap(_over_seeds(runs[batch], "dense"), _over_seeds(runs[BATCHES[0]], "dense"), 2000, 0)
        for batch in BATCHES[1:]
    }
    metrics: dict[str, Any] = {
        "queries": len(test.queries),
        "dense": {_key("b", batch): spread(values) for batch, values in means.items()},
        "rate": {_key("b", batch): rate for batch, rate in rate_of.items()},
        "loss": {_key("b", batch): spread(values) for batch, values in losses.items()},
        "shown_information": {_key("b", batch): value for batch, value in shown.items()},
        "most_that_can_be_shown": {_key("b", batch): mutual_information_bound(0.0, batch) for batch in BATCHES},
        "more_than_eight": {_key("b", batch): gain for batch, gain in gains.items()},
    }
    figure = plots.batch_size(means, shown, figures / "batch_size.svg")
    return Record(
        objective="Every document of a batch is a negative for every other query. At as many pairs in all, do larger "
        "batches make better vectors, and how much does the loss show of what query and document share?",
        setup=f"{LIBRARY}. {ENCODER}, {len(test.queries)} queries without their names. Temperature {TEMPERATURE}; "
        f"AdamW at the best of {RATES[0]}, {RATES[1]} and {RATES[2]} for each batch size, by nDCG@10 on validation. "
        "The information is ln B less the loss of the last tenth of the steps, on training pairs.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"batches of {batch}",
                    "rate": rate_of[batch],
                    "dense nDCG@10": statistics.fmean(values),
                    "information shown, nats": shown[batch],
                }
                for batch, values in means.items()
            ]
        ),
        figure=figure,
        found="Batches of 8, 32, 128 and 512 end at {dense[b_8][mean]:.3f}, {dense[b_32][mean]:.3f}, "
        "{dense[b_128][mean]:.3f} and {dense[b_512][mean]:.3f} nDCG@10. The loss of batches of 8 shows "
        "{shown_information[b_8]:.2f} nats of at most {most_that_can_be_shown[b_8]:.2f}, that of 512 "
        "{shown_information[b_512]:.2f} of {most_that_can_be_shown[b_512]:.2f}.",
        negative="At as many pairs the batch hardly matters here: 128 less 8 is "
        "{more_than_eight[b_128][difference]:+.3f} ({more_than_eight[b_128][low]:+.3f} to "
        "{more_than_eight[b_128][high]:+.3f}), and 512, with a quarter of the steps of 128, is "
        "{more_than_eight[b_512][difference]:+.3f}. What the loss shows and how held-out queries are ranked do not go "
        "together.",
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
    validation: Benchmark | None = None,
    mask_same: bool = True,
) -> dict[str, Any]:
    """What `_scored` says on test, the loss of the last tenth of the steps, and "val", nDCG@10 of the vectors there."""
    encoder = bag_encoder(seed)
    recipe = Recipe(rate, temperature, PAIRS_SEEN // batch, batch, seed)
    losses = list(tune(encoder, list(encoder.gpt.parameters()), object_pairs(corpus().objects), recipe, mask_same))
    found: dict[str, Any] = {"loss": statistics.fmean(losses[-max(1, len(losses) // 10) :])}
    if validation is not None:
        found["val"] = _mean_dense(_scored(encoder, validation))
    return found | _scored(encoder, test)


def _mean_dense(run: Mapping[str, Any]) -> float:
    return float(np.mean(run["dense"]["names_removed"]))


def _over_seeds(runs: Sequence[Mapping[str, Any]], retriever: str, suite: str = "names_removed") -> Any:
    """nDCG@10 of each query, averaged over the runs."""
    return np.mean([run[retriever][suite] for run in runs], axis=0)


def _gain(runs: Sequence[Mapping[str, Any]], suite: str) -> dict[str, float]:
    """Hybrid less BM25 with its paired interval."""
    return paired_bootstrap(_over_seeds(runs, "hybrid", suite), _over_seeds(runs, "bm25", suite), 2000, 0)


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


def nearest_neighbours(figures: Path) -> Record:
    """How many distances do a graph and cells compute to find 99% of the ten nearest, and how does it grow?"""
    vectors = _passages_as_vectors()
    curves: dict[str, list[tuple[float, float]]] = {}
    enough: dict[str, dict[int, float]] = {"hnsw": {}, "inverted_lists": {}}
    real: dict[str, Any] = {}
    for size in SIZES:
        seen = {name: [_neighbours(name, vectors, size, seed) for seed in SEEDS] for name in enough}
        for name, per_seed in seen.items():
            mean = [tuple(np.mean([run[i] for run in per_seed], axis=0)) for i in range(len(per_seed[0]))]
            enough[name][size] = _cost_at(mean, WANTED)
            if size == SIZES[-1]:
                curves[name] = [(float(cost), float(recall)) for cost, recall in mean]
                real[name] = spread(_cost_at(run, WANTED) for run in per_seed)
    noise = np.random.default_rng(0).normal(size=(SIZES[-1] + ASKED, DIMENSIONS)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    on_noise = _neighbours("hnsw", noise, SIZES[-1], 0)
    growth = {name: _slope(list(costs), list(costs.values())) for name, costs in enough.items()}
    metrics: dict[str, Any] = {
        "distances_for_99": {
            name: {_key("n", size): cost for size, cost in costs.items()} for name, costs in enough.items()
        },
        "distances_of_8000": real,
        "share_of_exact": {name: costs[SIZES[-1]] / SIZES[-1] for name, costs in enough.items()},
        "growth": growth,
        "recall": {
            "hnsw": {_key("ef", ef): recall for ef, (_, recall) in zip(IN_VIEW, curves["hnsw"], strict=True)},
            "inverted_lists": {
                _key("probes", probes): recall
                for probes, (_, recall) in zip(PROBES, curves["inverted_lists"], strict=True)
            },
        },
        "recall_on_noise": {_key("ef", ef): recall for ef, (_, recall) in zip(IN_VIEW, on_noise, strict=True)},
    }
    figure = plots.nearest_neighbours(curves, on_noise, enough, WANTED, figures / "nearest_neighbours.svg")
    return Record(
        objective="How many distances does a search in a graph (HNSW) or in cells (IVF) compute for 99% of the ten "
        "nearest, and how does that grow with the number of points?",
        setup=f"{LIBRARY}, in chunks; their BM25 weights in {DIMENSIONS} numbers (singular vectors), unit length; "
        f"{ASKED} of them as queries, others as points, drawn anew for each seed. HNSW: M = {LINKS}, {EF_CONSTRUCTION} "
        f"candidates at insertion, {IN_VIEW[0]} to {IN_VIEW[-1]} in view. IVF: 2 √N cells, {PROBES[0]} to {PROBES[-1]} "
        "opened. Distances to 99% are interpolated between the measured points. Growth is the slope of log distances "
        "against log N. Noise: as many independent normal vectors, one seed.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"N = {size:,}", "HNSW": enough["hnsw"][size], "IVF": enough["inverted_lists"][size]}
                for size in SIZES
            ]
        ),
        figure=figure,
        found="Of 8,000 points the graph compares a query with {share_of_exact[hnsw]:.1%} for 99% recall, cells with "
        "{share_of_exact[inverted_lists]:.1%}. Its distances grow like N to the {growth[hnsw]:.2f}, those of cells "
        "like N to the {growth[inverted_lists]:.2f}.",
        negative="On independent noise of as many dimensions the same graph finds {recall_on_noise[ef_20]:.0%} with "
        "twenty in view where it finds {recall[hnsw][ef_20]:.0%} on text: the method lives on the few directions in "
        "which text differs. At this size exact search takes faiss under a millisecond, so the pipeline keeps it.",
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
    nearest = [set(row.tolist()) for row in squared_distances(queries, points).argsort(1)[:, :NEIGHBOURS]]
    index: HNSW | InvertedLists
    if name == "hnsw":
        index = HNSW(vectors.shape[1], LINKS, EF_CONSTRUCTION, seed)
        index.insert(points)
    else:
        index = InvertedLists(points, k_means(points, round(2 * math.sqrt(size)), 10, seed))
    measured = []
    for setting in IN_VIEW if name == "hnsw" else PROBES:
        index.distances_computed = 0
        recalls = [
            len({point for _, point in index.search(query, NEIGHBOURS, setting)} & true) / NEIGHBOURS
            for query, true in zip(queries, nearest, strict=True)
        ]
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
PLACES = 600
CHUNKERS: Mapping[str, Callable[[str, str, str, int, int], list[Chunk]]] = {
    "borders": chunk_text,
    "windows": fixed_windows,
}


def chunks(figures: Path) -> Record:
    """Do natural borders and the length of a chunk matter for finding a passage?"""
    stripped = [_without_docstrings(document) for document in corpus().everything]
    places = _places(stripped, 0)
    rows: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in CHUNKERS}
    for name, chunker in CHUNKERS.items():
        for length in LENGTHS:
            made = [c for d in stripped for c in chunker(d.text, d.id, d.title, length, length // 6)]
            rows[name][length] = _found_in_chunks(made, places, length)
    best = {name: max(LENGTHS, key=lambda length: float(np.mean(rows[name][length]["hits"]))) for name in CHUNKERS}
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
        "objects": len(places),
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
        f"right is a chunk with at least half of its code. {len(places)} drawn from all modules; BM25 over the chunks "
        f"of all modules; as many chunks are read as fit into {BUDGET:,} characters. Overlap: a sixth of the length. "
        "Whole: functions not longer than a chunk that lie in one.",
        metrics=round_metrics(metrics),
        seeds=[0],
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
        "{windows[c_1200][whole]:.0%}. Of as many characters read, {borders[c_1200][recall]:.3f} of the functions are "
        "found with borders and {windows[c_1200][recall]:.3f} with windows "
        "({borders_minus_windows[c_1200][difference]:+.3f}, {borders_minus_windows[c_1200][low]:+.3f} to "
        "{borders_minus_windows[c_1200][high]:+.3f}).",
        negative="The best length under this budget is {best_length[borders]} for borders and {best_length[windows]} "
        "for windows, chosen on the very queries that are reported; another budget has another best.",
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


def _places(stripped: Sequence[Document], seed: int) -> list[tuple[str, str, int, int]]:
    """(query, document, start, end) of functions whose code is found in the stripped text, drawn with `seed`."""
    texts = {document.id: document.text for document in stripped}
    places = []
    for item in corpus().objects:
        if not is_searchable(item) or len(item.summary.split()) < MIN_QUERY_WORDS:
            continue
        for indent in ("", " " * 4, " " * 8):  # a method's code is kept without what it is indented by
            code = textwrap.indent(item.source, indent)
            if (start := texts[item.module].find(code)) >= 0:
                places.append((item.summary, item.module, start, start + len(code)))
                break
    chosen = np.random.default_rng(seed).choice(len(places), PLACES, replace=False)
    return [places[i] for i in sorted(chosen.tolist())]


def _found_in_chunks(made: Sequence[Chunk], places: Sequence[tuple[str, str, int, int]], length: int) -> dict[str, Any]:
    by_source: dict[str, list[int]] = {}
    for position, chunk in enumerate(made):
        by_source.setdefault(chunk.source, []).append(position)
    bm25 = BM25.build(map(searchable_text, made), K1, B)
    hits, first, whole = [], [], []
    for query, source, start, end in places:
        overlaps = {i: min(made[i].end, end) - max(made[i].start, start) for i in by_source[source]}
        right = {i for i, shared in overlaps.items() if 2 * shared >= min(end - start, length)}
        ranked = [i for i, _ in bm25.search(query, max(1, BUDGET // length))]
        hits.append(float(bool(right & set(ranked))))
        first.append(float(bool(right & set(ranked[:1]))))
        if end - start <= length:
            whole.append(max(overlaps.values()) == end - start)
    return {"chunks": len(made), "hits": hits, "first": first, "whole": statistics.fmean(whole)}


# --- silence ----------------------------------------------------------------------------------------------------------

ASKED_OF_OBJECTS, INVENTED = 300, 300
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
    hand_curve, hand_areas = _hand_written_curve(index)
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
        setup=f"{LIBRARY}, searched by words. {ASKED_OF_OBJECTS} questions about held-out objects and {INVENTED} about "
        "names that nothing has; the other half of each pair of splits certifies: validation modules, exact binomial "
        f"bound, risk {ALLOWED_RISK:.0%} with probability 95%. Wrong: the first quotation lies outside of the asked "
        "definition, or there is nothing to quote. Beside it the hand-written questions, wrong where another module "
        "is cited; the area is the mean risk over all coverages.",
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
        negative="On the hand-written questions the confidence is worth little: area {hand_written[area]:.3f} beside "
        "{hand_written[no_order]:.3f} of a random order. It counts words, and a passage may have the words of a "
        "question without answering it.",
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
        *unanswerable_questions(objects, split, INVENTED, seed),
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


def _hand_written_curve(index: SearchIndex) -> tuple[list[Point], dict[str, Any]]:
    sources = {chunk.source for chunk in index.chunks.values()}
    scores, wrong = [], []
    for question in load_hand_written(EVALS / "questions.jsonl", sources):
        hits = index.search(question.question, READ_CHUNKS, "bm25")
        scores.append(confidence(question.question, hits, index))
        given = compose(question.question, hits, index)
        wrong.append(not (given.citations and given.citations[0].source in question.modules))
    curve = risk_coverage_curve(scores, wrong)
    whole = curve[-1]
    areas = {"area": area_under_curve(curve), "perfect_order": best_area(whole.wrong, whole.n), "no_order": whole.risk}
    return curve, {**areas, "questions": whole.n}


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
        seeds=[0],
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
        "is right it is cited in {cited_where_first:.0%} of the cases, where a later one of ten is, in "
        "{cited_where_later:.0%}.",
        negative="More reading does not help this reader: ten chunks less one is {ten_minus_one[difference]:+.2f} "
        "({ten_minus_one[low]:+.2f} to {ten_minus_one[high]:+.2f}). A chunk of the right module may be the wrong part "
        "of it, so both curves are lenient.",
    )
