"""What a vocabulary is worth: speed, compression, fairness, frequencies, and bits per byte."""

import math
import random
import statistics
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from llmm.ladder.records import Record, round_metrics, spread
from llmm.training.tokenizer import plots
from llmm.training.tokenizer.bench import in_turns, size_of
from llmm.training.tokenizer.codec import ByteLevelBPE
from llmm.training.tokenizer.naive import Pair, train_naive
from llmm.training.tokenizer.ngram import witten_bell_nats
from llmm.training.tokenizer.optimal import greedy_size, optimal_size
from llmm.training.tokenizer.peers import merges_of, one_thread, train_by_tokenizers
from llmm.training.tokenizer.texts import ARTICLE_1, HELD_OUT, TRAIN, docstrings, modules
from llmm.training.tokenizer.training import Merge, train_merges
from llmm.training.tokenizer.unigram import viterbi
from llmm.training.tokenizer.unigram_training import train_unigram
from llmm.training.tokenizer.words import count_words, split_words

SEEDS = [0, 1, 2]


def _merges(texts: list[str], n: int) -> list[Pair]:
    return [(merge.left, merge.right) for merge in train_merges(count_words(texts), n)]


def _library_merges(texts: list[str], n: int) -> list[Pair]:
    return merges_of(train_by_tokenizers(texts, 256 + n))


# --- speed ------------------------------------------------------------------------------------------------------------

PARTS = (1, 2, 4, 8, 16)  # modules
SPEED_MERGES = 300


def training_speed(figures: Path) -> Record:
    """How does training grow with the text, and how much of the text does a merge touch?"""
    rows = []
    seconds: dict[str, list[float]] = {"ours": [], "tokenizers": [], "naive": []}
    for n in PARTS:
        texts = modules(TRAIN[:n])
        words = count_words(texts)
        merges = train_merges(words, SPEED_MERGES)
        with one_thread():
            spent, results = in_turns(
                {
                    "ours": partial(_merges, texts, SPEED_MERGES),
                    "tokenizers": partial(_library_merges, texts, SPEED_MERGES),
                }
            )
        few = PARTS[-1] // 4
        if n <= few:  # the naive trainer takes a hundred times as long: ten merges, and in proportion
            spent |= {"naive": in_turns({"naive": partial(train_naive, words, 10)}, 1)[0]["naive"] * 30}
        for name, value in spent.items():
            seconds[name].append(value)
        rows.append(
            {
                "kb": size_of(texts) / 1e3,
                "different_words": len(words),
                "words_changed_a_merge": statistics.fmean(merge.words for merge in merges),
                "share_of_words_changed": statistics.fmean(merge.words for merge in merges) / len(words),
                "same_as_tokenizers": results["ours"] == results["tokenizers"],
            }
        )
    first, last = rows[0], rows[-1]
    metrics = {
        "kb": [row["kb"] for row in rows],
        "different_words_last": last["different_words"],
        "share_of_words_changed_last": last["share_of_words_changed"],
        "words_changed_a_merge_last": last["words_changed_a_merge"],
        "same_merges": sum(row["same_as_tokenizers"] for row in rows),
        "sizes": len(rows),
        "growth_of_text": last["kb"] / first["kb"],
        "growth_of_different_words": last["different_words"] / first["different_words"],
    }
    timings = {
        "seconds_by_size": {name: [round(value, 4) for value in values] for name, values in seconds.items()},
        "ratio_to_tokenizers_one_thread": round(seconds["ours"][-1] / seconds["tokenizers"][-1], 3),
        "growth_from_half": round(seconds["ours"][-1] / seconds["ours"][-2], 3),
    }
    figure = plots.training_speed(rows, figures / "training_speed.svg")
    return Record(
        objective="How much of a text does one merge touch, and how does that grow with the text?",
        setup=f"{SPEED_MERGES} merges of 1 to {PARTS[-1]} modules of the standard library; different words that a "
        "merge changes, beside all different words, which the naive trainer scans at every merge. Seconds stand with "
        "the timings, beside `tokenizers` in one thread; the naive trainer's are those of 10 merges times 30.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [{"changed": f"{row['kb']:.0f} kB"} | {k: v for k, v in row.items() if k != "kb"} for row in rows]
        ),
        figure=figure,
        found="A merge changes {words_changed_a_merge_last:.0f} of {different_words_last} different words, "
        "{share_of_words_changed_last:.3f} of what a recount reads. While the text grows {growth_of_text:.1f} times, "
        "its different words grow {growth_of_different_words:.1f} times. The merges are those of `tokenizers` at "
        "{same_merges} of {sizes} sizes.",
        timings=timings,
    )


# --- compression ------------------------------------------------------------------------------------------------------

SIZES = (256, 512, 1024, 2048, 4096)


def compression(figures: Path) -> Record:
    """Bytes per token against the size of the vocabulary, on text that training saw and on other text."""
    seen, unseen = modules(TRAIN), modules(HELD_OUT)
    merges = _merges(seen, SIZES[-1] - 256)
    curves: dict[str, list[float]] = {"seen": [], "unseen": []}
    unused = []
    for size in SIZES:
        codec = ByteLevelBPE(merges[: size - 256])
        for name, texts in (("seen", seen), ("unseen", unseen)):
            ids = [id for text in texts for id in codec.encode(text)]
            curves[name].append(size_of(texts) / len(ids))
        unused.append(1 - len({id for id in ids if id >= 256}) / max(1, size - 256))
    metrics = {
        "seen": {f"at_{size}": value for size, value in zip(SIZES, curves["seen"], strict=True)},
        "unseen": {f"at_{size}": value for size, value in zip(SIZES, curves["unseen"], strict=True)},
        "unused_at_512": unused[1],
        "unused_at_4096": unused[-1],
        "gain_of_last_doubling_unseen": curves["unseen"][-1] / curves["unseen"][-2] - 1,
        "gain_of_last_doubling_seen": curves["seen"][-1] / curves["seen"][-2] - 1,
    }
    figure = plots.compression(list(SIZES), curves, figures / "compression.svg")
    return Record(
        objective="What does a larger vocabulary buy in bytes per token, and what of it holds on other text?",
        setup=f"Merges of {len(seen)} modules of the standard library ({size_of(seen) / 1e6:.1f} MB); bytes per token "
        f"on them and on {len(unseen)} others; the smaller vocabularies are the first merges of the largest.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {"changed": f"{size} tokens", "seen": a, "unseen": b, "merges unused on unseen text": c}
                for size, a, b, c in zip(SIZES, curves["seen"], curves["unseen"], unused, strict=True)
            ]
        ),
        figure=figure,
        found="4,096 tokens reach {seen[at_4096]:.2f} bytes a token on text that they were made of and "
        "{unseen[at_4096]:.2f} on other modules. The last doubling gives {gain_of_last_doubling_seen:.1%} there and "
        "{gain_of_last_doubling_unseen:.1%} here.",
        negative="Of the merges of the largest vocabulary {unused_at_4096:.1%} never occur in the other modules, of "
        "the smallest one {unused_at_512:.1%}: tokens that no model could train there.",
    )


# --- fertility --------------------------------------------------------------------------------------------------------


def fertility(figures: Path) -> Record:
    """Tokens for the same content in other languages, and for other kinds of text."""
    codec = ByteLevelBPE(_merges(modules(TRAIN), 2048 - 256))
    unseen = modules(HELD_OUT)
    tokens = {name: len(codec.encode(text)) for name, text in ARTICLE_1.items()}
    premium = {name: n / tokens["English"] for name, n in tokens.items()}
    bytes_per_token = {name: len(text.encode()) / tokens[name] for name, text in ARTICLE_1.items()}
    code, prose = "\n".join(unseen), docstrings(unseen)
    domains = {name: len(text.encode()) / len(codec.encode(text)) for name, text in (("code", code), ("docs", prose))}
    worst = max(premium, key=premium.__getitem__)
    metrics = {
        "premium": premium,
        "bytes_per_token": bytes_per_token,
        "code": domains["code"],
        "docstrings": domains["docs"],
        "worst": worst,
        "worst_premium": premium[worst],
        "english_tokens": tokens["English"],
        "bytes_premium_of_worst": len(ARTICLE_1[worst].encode()) / len(ARTICLE_1["English"].encode()),
    }
    figure = plots.fertility(premium, bytes_per_token, figures / "fertility.svg")
    return Record(
        objective="How many tokens does the same content take in other languages, for a vocabulary of Python source?",
        setup=f"2,048 tokens of {len(TRAIN)} modules of the standard library. Article 1 of the Universal Declaration "
        f"of Human Rights in {len(ARTICLE_1)} languages, one sentence pair each; tokens over those of the English "
        "version. Domains: other modules, and their docstrings alone.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {"changed": name, "tokens over English": premium[name], "bytes per token": bytes_per_token[name]}
                for name in ARTICLE_1
            ]
        ),
        figure=figure,
        found="{worst} takes {worst_premium:.1f} times the tokens of English for the same content, French "
        "{premium[French]:.1f} times. Code that was not seen has {code:.2f} bytes a token, docstrings "
        "{docstrings:.2f}.",
        negative="A part of it is UTF-8 and not the merges: in bytes {worst} is {bytes_premium_of_worst:.1f} times as "
        "long as English. And one sentence says little about a language.",
    )


# --- bits per byte ----------------------------------------------------------------------------------------------------

MODEL_SIZES = (256, 512, 1024, 2048)


def bits_per_byte(figures: Path) -> Record:
    """Does a model of better compressed text predict better, measured in bytes?"""
    names = [*TRAIN[:9], *HELD_OUT[:6]]
    found: dict[int, list[float]] = {size: [] for size in MODEL_SIZES}
    nats: dict[int, list[float]] = {size: [] for size in MODEL_SIZES}
    for seed in SEEDS:
        shuffled = random.Random(seed).sample(names, len(names))
        train, test = modules(tuple(shuffled[4:])), modules(tuple(shuffled[:4]))
        merges = _merges(train, MODEL_SIZES[-1] - 256)
        for size in MODEL_SIZES:
            codec = ByteLevelBPE(merges[: size - 256])
            known, new = (np.array([id for text in part for id in codec.encode(text)]) for part in (train, test))
            needed = float(witten_bell_nats(known, new, size, order=3).sum())
            found[size].append(needed / math.log(2) / size_of(test))
            nats[size].append(needed / len(new))
    best = min(MODEL_SIZES, key=lambda size: statistics.fmean(found[size]))
    metrics = {
        "bits_per_byte": {f"at_{size}": spread(values) for size, values in found.items()},
        "nats_per_token": {f"at_{size}": spread(values) for size, values in nats.items()},
        "best_size": best,
        "best": spread(found[best]),
        "gain_over_bytes": spread([a - b for a, b in zip(found[256], found[best], strict=True)]),
    }
    figure = plots.bits_per_byte(list(MODEL_SIZES), found, nats, metrics, figures / "bits_per_byte.svg")
    return Record(
        objective="Which size of the vocabulary lets a small model predict text best, in bits per byte?",
        setup="Interpolated trigrams of tokens (Witten-Bell) on 11 modules of the standard library, scored on 4 "
        f"others, whole; merges of the training modules; {len(SEEDS)} random splits.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{size} tokens",
                    "bits per byte": statistics.fmean(found[size]),
                    "nats per token": statistics.fmean(nats[size]),
                }
                for size in MODEL_SIZES
            ]
        ),
        figure=figure,
        found="Of the sizes tried {best_size} tokens are best, {best[mean]:.3f} bits per byte, "
        "{gain_over_bytes[mean]:.3f} fewer than with bytes.",
        negative="The loss per token says the opposite of anything useful: it rises from "
        "{nats_per_token[at_256][mean]:.2f} to {nats_per_token[at_2048][mean]:.2f} nats while the model gets better.",
    )


# --- what the tokens are ----------------------------------------------------------------------------------------------


def zipf(figures: Path) -> Record:
    """How often is each token used? Rank against frequency, before and after merging."""
    seen, unseen = modules(TRAIN), modules(HELD_OUT)
    merges = _merges(seen, 2048 - 256)
    used = {}
    for size in (256, 512, 2048):
        codec = ByteLevelBPE(merges[: size - 256])
        used[size] = sorted(Counter(id for text in unseen for id in codec.encode(text)).values(), reverse=True)
    entropies = {size: _entropy(values) for size, values in used.items()}
    words = sorted(count_words(unseen).values(), reverse=True)
    metrics = {
        "slope_2048": _slope(used[2048], 10, 500),
        "slope_words": _slope(words, 10, 500),
        "top_100_words": sum(words[:100]) / sum(words),
        "efficiency": {f"at_{size}": entropies[size] / math.log2(size) for size in used},
        "rarer_than_5_of_2048": 1 - sum(value >= 5 for value in used[2048]) / 2048,
    }
    figure = plots.zipf(used, words, metrics, figures / "zipf.svg")
    return Record(
        objective="How unevenly are tokens used, and does merging even it out?",
        setup=f"Vocabularies of {len(seen)} modules, counted on {len(unseen)} others; slope of log frequency against "
        "log rank between ranks 10 and 500; efficiency is entropy over the logarithm of the vocabulary's size.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {"changed": f"{size} tokens", "entropy, bits": entropies[size], "most frequent": used[size][0]}
                for size in used
            ]
        ),
        figure=figure,
        found="Words fall off with a slope of {slope_words:.2f}, tokens of 2,048 with {slope_2048:.2f}: merging "
        "flattens the head. The 100 most frequent words are {top_100_words:.1%} of the text, which is why a cache of "
        "words pays.",
        negative="{rarer_than_5_of_2048:.1%} of 2,048 tokens occur fewer than five times in the other modules: a "
        "model would hardly train them.",
    )


def merge_tree(figures: Path) -> Record:
    """How is a long token made, and how far is the greedy choice from the best?"""
    merges = train_merges(count_words(modules(TRAIN)), 2048 - 256)
    parts = {merge.left + merge.right: merge for merge in merges}
    depths: dict[bytes, int] = {}
    for token, merge in parts.items():
        depths[token] = 1 + max(depths.get(merge.left, 0), depths.get(merge.right, 0))
    shown = max((t for t in parts if t.isalpha()), key=lambda t: (depths[t], len(t), t))
    gaps = []
    for seed in SEEDS:
        rng = random.Random(seed)
        tried = [_tiny(rng) for _ in range(30)]
        gaps.append(sum(optimal_size(words, 2) < greedy_size(words, 2) for words in tried) / len(tried))
    lengths = [len(token) for token in parts]
    passing = sum(_is_passing(token, parts) for token in parts) / len(parts)
    metrics = {
        "deepest": max(depths.values()),
        "mean_depth": statistics.fmean(depths.values()),
        "log2_of_mean_length": math.log2(statistics.fmean(lengths)),
        "longest": max(lengths),
        "first_count": merges[0].frequency,
        "last_count": merges[-1].frequency,
        "texts_where_greedy_is_not_best": spread(gaps),
        "made_only_to_be_merged": passing,
        "shown": shown.decode(),
    }
    figure = plots.merge_tree(shown, parts, figures / "merge_tree.svg")
    return Record(
        objective="How are tokens built from bytes, how deep are they, and how often is greedy merging not the best?",
        setup=f"{len(merges)} merges of {len(TRAIN)} modules. Greedy against the best of all sequences of two merges "
        "on 30 random texts of four words over three letters, three seeds.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"merges {a} to {b}",
                    "count of the last": merges[b - 1].frequency,
                    "mean depth": statistics.fmean(depths[m.left + m.right] for m in merges[a:b]),
                }
                for a, b in ((0, 256), (256, 1024), (1024, len(merges)))
            ]
        ),
        figure=figure,
        found="Tokens are up to {deepest} merges deep, {mean_depth:.1f} on average; the first merge joins a pair that "
        "stands {first_count} times, the last one {last_count} times. On tiny random texts two greedy merges are not "
        "the best two in {texts_where_greedy_is_not_best[mean]:.1%} of the cases.",
        negative="{made_only_to_be_merged:.1%} of the merges leave a token that the training text hardly uses any "
        "more: more than nine in ten of its occurrences went into a longer token.",
    )


SAMPLE = (
    "def unparse_arguments(self, node):\n    return [self._convert(value) for value in "
    "node.elements if value is not None]\n"
)


def segmentation(figures: Path) -> Record:
    """Where do BPE and Unigram cut the same text, at equal size?"""
    size = 600
    texts = modules(TRAIN[:2])
    words = count_words(texts)
    codec = ByteLevelBPE([(m.left, m.right) for m in train_merges(words, size - 256)])
    log_probs = train_unigram({word.encode(): n for word, n in words.items()}, size, 1800)
    cuts = {
        "BPE": [codec.tokens[id] for id in codec.encode(SAMPLE)],
        "Unigram": [token for word in split_words(SAMPLE) for token in viterbi(word.encode(), log_probs)[0]],
    }
    unseen = "\n".join(modules(HELD_OUT[:3]))
    counts = count_words([unseen])
    lengths = {"BPE": 0, "Unigram": 0}
    same = 0
    for word, n in counts.items():
        bpe = [codec.tokens[id] for id in codec.encode_bytes(word.encode())]
        unigram = viterbi(word.encode(), log_probs)[0]
        lengths["BPE"] += n * len(bpe)
        lengths["Unigram"] += n * len(unigram)
        same += n * (bpe == unigram)
    n_bytes = len(unseen.encode())
    vocabularies = set(codec.tokens), set(log_probs)
    metrics = {
        "bytes_per_token": {name: n_bytes / length for name, length in lengths.items()},
        "words_cut_alike": same / counts.total(),
        "tokens_in_both": len(vocabularies[0] & vocabularies[1]) / size,
        "sample_tokens": {name: len(cut) for name, cut in cuts.items()},
    }
    figure = plots.segmentation(cuts, metrics, figures / "segmentation.svg")
    return Record(
        objective="Where do BPE and Unigram cut the same text with vocabularies of the same size?",
        setup=f"{size} tokens of two modules of the standard library, both ways; bytes per token and equal cuts over "
        "the words of three other modules, by frequency; a sample for the eye.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [{"changed": name, "bytes per token": n_bytes / length} for name, length in lengths.items()]
        ),
        figure=figure,
        found="On other modules BPE makes {bytes_per_token[BPE]:.2f} bytes a token and Unigram "
        "{bytes_per_token[Unigram]:.2f}; {words_cut_alike:.1%} of the words are cut alike, and {tokens_in_both:.1%} "
        "of the tokens are in both vocabularies.",
    )


# --- shared -----------------------------------------------------------------------------------------------------------


def _entropy(counts: list[int]) -> float:
    total = sum(counts)
    return -sum(n / total * math.log2(n / total) for n in counts)


def _slope(counts: list[int], first: int, last: int) -> float:
    """Slope of log frequency against log rank, by least squares over the ranks first to last."""
    points = [(math.log(rank), math.log(counts[rank - 1])) for rank in range(first, min(last, len(counts)) + 1)]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def _tiny(rng: random.Random) -> dict[tuple[int, ...], int]:
    return {tuple(rng.choices(range(3), k=rng.randint(2, 6))): rng.randint(1, 4) for _ in range(4)}


def _is_passing(token: bytes, parts: dict[bytes, Merge]) -> bool:
    """Whether later merges took more than nine in ten of the token's occurrences."""
    used = sum(merge.frequency * ((merge.left == token) + (merge.right == token)) for merge in parts.values())
    return used > 0.9 * parts[token].frequency
