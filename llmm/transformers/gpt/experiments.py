"""What the derivations predict, tried on small models. One function an experiment; figures are drawn in plots.py.

The models are trained here, in seconds, on the standard library's own text, so that the records can be made again on
any machine; `llmm lens` looks into the pipeline's model with the same code.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmm.ladder.records import Record, round_metrics, spread
from llmm.transformers.gpt import plots
from llmm.transformers.gpt.config import GPTConfig
from llmm.transformers.gpt.decode_cost import cache_bytes, cached_flops, uncached_flops
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.ladder_closed import Curves, pair, train_both
from llmm.transformers.gpt.lens import attention_patterns, logit_lens
from llmm.transformers.gpt.likelihood import token_nats
from llmm.transformers.gpt.model import GPT
from llmm.transformers.gpt.sampling import GREEDY, Sampler
from llmm.transformers.gpt.small_models import HELD_OUT, TRAIN, config, held_out_nats, text_of, tokens, train
from llmm.transformers.gpt.speculative import expected_speedup, expected_tokens, speculate

SEEDS = [0, 1, 2]
LINE = "    def wrap(self, text):\n    "


def ladder_closed(figures: Path) -> Record:
    """Do M2's engine and M3's plain rules walk the same curve as torch, and what would part them?"""
    c = config(2, 48, n_kv_head=1, context_len=32)
    curves = [train_both(*pair(c, seed), _batches(seed)) for seed in SEEDS]
    variants = {"angles in float64": [_with_exact_angles(c, seed) for seed in SEEDS],
                "torch in float32": [_against_float32(c, seed) for seed in SEEDS]}  # fmt: skip
    differences = [curve.difference for curve in curves]
    untied = [train_both(*pair(replace(c, tie_embeddings=False), seed), _batches(seed)).difference for seed in SEEDS]
    metrics = {
        "steps": len(curves[0].own),
        "loss_first": spread([curve.own[0] for curve in curves]),
        "loss_last": spread([curve.own[-1] for curve in curves]),
        "difference": spread(differences),
        "largest_difference": max(differences),
        "at_most_1e_10": max(differences) <= 1e-10,
        "weights": spread([curve.weights for curve in curves]),
        "difference_exact_angles": spread([v.difference for v in variants["angles in float64"]]),
        "difference_float32": spread([v.difference for v in variants["torch in float32"]]),
    }
    distances = {name: np.abs(np.subtract(v[0].own, v[0].torch)).tolist() for name, v in variants.items()}
    figure = plots.ladder_closed(curves, distances, figures / "ladder_closed.svg")
    return Record(
        objective="Does a GPT on M2's engine, moved by M3's plain rules, follow the pipeline's GPT in torch?",
        setup=f"{c.n_layer} blocks, width {c.d_model}, {c.n_head} query and {c.n_kv_head} key heads, QK-norm, RoPE, "
        "SwiGLU, tied; 20 steps on 4 windows of 32 bytes of the standard library; Muon on the matrices of the blocks, "
        "AdamW on the rest; float64; the same weights and batches.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": "tied, float64", "largest difference of the losses": float(np.mean(differences))},
                {"changed": "untied", "largest difference of the losses": float(np.mean(untied))},
                *(
                    {"changed": name, "largest difference of the losses": float(np.mean([v.difference for v in found]))}
                    for name, found in variants.items()
                ),
            ]
        ),
        figure=figure,
        found="Over {steps} steps the two losses fall from {loss_first[mean]:.2f} to {loss_last[mean]:.2f} nats a byte "
        "and are never more than {largest_difference:.0e} apart; after the last step no weight differs by more than "
        "{weights[mean]:.0e} on average over the seeds.",
        negative="They are one only where the conventions are: angles worked out in float64 instead of float32 part "
        "the curves by {difference_exact_angles[mean]:.0e}, float32 arithmetic in torch by "
        "{difference_float32[mean]:.0e}.",
    )


def speculative(figures: Path) -> Record:
    """Does the formula predict the passes of the target, and how many guesses pay?"""
    target = train(config(4, 64), 250, seed=0)
    drafts = {steps: train(config(1, 32), steps, seed=0) for steps in (25, 250)}
    guesses = (1, 2, 4, 8)
    points: list[dict[str, Any]] = []
    lean_seconds, seconds = 0.0, dict.fromkeys(guesses, 0.0)
    named: list[tuple[int | str, GPT]] = [*drafts.items(), ("itself, one block", _one_block(target))]
    for name, draft in named:
        for temperature in (1.0, 0.0):
            for K in guesses:
                found = []
                for seed in SEEDS:
                    started = time.perf_counter()
                    found.append(_speculated(target, draft, K, temperature, seed))
                    if name == 250 and temperature == 1.0:
                        seconds[K] += time.perf_counter() - started
                points.append({"draft": name, "temperature": temperature, "guesses": K} | _merged(found))
    for seed in SEEDS:
        started = time.perf_counter()
        generate(target, [_prompt(seed)], 64, sampler=Sampler(1.0), generator=torch.Generator().manual_seed(seed))
        lean_seconds += time.perf_counter() - started

    best = {p["guesses"]: p for p in points if p["draft"] == 250 and p["temperature"] == 1.0}
    costs = (0.02, 0.1, 0.3)
    speeds = {cost: [best[K]["tokens_a_pass"] / (1 + cost * K) for K in guesses] for cost in costs}
    by_formula = {K: expected_speedup(best[K]["alpha"], K, 0.1) for K in guesses}
    errors = [p["tokens_a_pass"] / expected_tokens(p["alpha"], p["guesses"]) - 1 for p in points]
    greedy = [p for p in points if p["draft"] == 250 and p["temperature"] == 0.0 and p["guesses"] == 4]
    metrics = {
        "alpha": spread(best[4]["alphas"]),
        "alpha_greedy": spread(greedy[0]["alphas"]),
        "alpha_of_a_draft_of_25_steps": next(p["alpha"] for p in points if p["draft"] == 25 and p["guesses"] == 4),
        "tokens_a_pass": {f"guesses_{K}": best[K]["tokens_a_pass"] for K in guesses},
        "formula": {f"guesses_{K}": expected_tokens(best[K]["alpha"], K) for K in guesses},
        "largest_error_of_formula": max(map(abs, errors)),
        "mean_error_of_formula": float(np.mean(errors)),
        "best_guesses": {f"cost_{cost:g}".replace(".", "_"): guesses[int(np.argmax(speeds[cost]))] for cost in costs},
        "formula_speed_cost_0_1": max(by_formula.values()),
        "best_speed": {f"cost_{cost:g}".replace(".", "_"): max(speeds[cost]) for cost in costs},
    }
    figure = plots.speculative(points, speeds, guesses, figures / "speculative.svg")
    return Record(
        objective="How many guesses of a draft are kept, and does the formula for independent ones predict the passes?",
        setup="Target of 4 blocks, width 64, 250 steps; drafts of one block, width 32, after 25 and 250 steps, "
        f"and the target's own first block; 64 bytes after {len(SEEDS)} held-out prompts, temperatures 1 and 0; "
        "α over all tested guesses. The price of a guess is a setting.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"draft {p['draft']}, temperature {p['temperature']:g}",
                    "α": p["alpha"],
                    "tokens a pass, 4 guesses": p["tokens_a_pass"],
                    "by formula": expected_tokens(p["alpha"], 4),
                }
                for p in sorted(points, key=lambda p: (p["draft"] != 250, -p["temperature"], str(p["draft"])))
                if p["guesses"] == 4
            ]
        ),
        figure=figure,
        found="The best draft's guesses are kept at a rate of {alpha[mean]:.2f}; with four of them a pass yields "
        "{tokens_a_pass[guesses_4]:.2f} tokens where the formula says {formula[guesses_4]:.2f}. Where a guess costs a "
        "tenth of a pass the best number of guesses is {best_guesses[cost_0_1]}, and the speed "
        "{best_speed[cost_0_1]:.2f} times the target's.",
        negative="Guesses are not independent: the formula is off by up to {largest_error_of_formula:.0%}. Where a "
        "guess costs three tenths of a pass the best speed is {best_speed[cost_0_3]:.2f}, and the formula counts "
        "passes only: with models as small as these, drawing and comparing around them cost as much.",
        timings=_measured_speed(target, drafts[250], best, seconds, lean_seconds),
    )


def cached_cost(figures: Path) -> Record:
    """What does writing n tokens cost with the KV cache, and what without?"""
    c = GPTConfig(vocab_size=512, n_layer=4, n_head=6, n_kv_head=6, d_model=96, d_ff=256, context_len=1024)
    model = GPT(c)
    model.init_weights(torch.Generator().manual_seed(0))
    model.eval()
    lengths = (16, 32, 64, 128, 256, 512)
    counted = {
        "with cache": [(n, _counted(partial(generate, model, [[1]], n))) for n in lengths[:4]],
        "without cache": [(n, _counted(partial(_uncached, model, n))) for n in lengths[:3]],
    }
    formulas = {"with cache": [cached_flops(c, 1, n) for n in lengths],
                "without cache": [uncached_flops(c, 1, n) for n in lengths]}  # fmt: skip
    exact = all(f == n for name in counted for f, (_, n) in zip(formulas[name], counted[name], strict=False))
    growth = {name: values[-1] / values[-2] for name, values in formulas.items()}
    runs = {"with cache": lambda n: generate(model, [[1]], n), "without cache": lambda n: _uncached(model, n)}
    seconds = {name: {n: _median_seconds(run, n) for n in (64, 128)} for name, run in runs.items()}
    metrics = {
        "counted_equals_formula": exact,
        "growth_with_cache": growth["with cache"],
        "growth_without_cache": growth["without cache"],
        "ratio_at_256": formulas["without cache"][4] / formulas["with cache"][4],
        "ratio_at_512": formulas["without cache"][5] / formulas["with cache"][5],
        "share_of_attention_at_512": 1 - 2 * c.n_matmul_params * 512 / formulas["with cache"][5],
        "bytes_at_512": cache_bytes(c, 1, 512),
        "bytes_at_512_one_key_head": cache_bytes(replace(c, n_kv_head=1), 1, 512),
    }
    figure = plots.cached_cost(lengths, formulas, counted, figures / "cached_cost.svg")
    one = replace(c, n_kv_head=1)
    return Record(
        objective="How does the work of writing n tokens grow with n, with the KV cache and without?",
        setup="4 blocks, width 96, 6 heads, vocabulary 512, random weights; n tokens after one; FLOPs of all products "
        "counted as they run (cache up to 128, without up to 64), and by formula up to 512.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {"changed": "with cache", "MFLOP for 512 tokens": formulas["with cache"][5] / 1e6,
                 "times for twice as many": growth["with cache"], "bytes": cache_bytes(c, 1, 512)},
                {"changed": "without cache", "MFLOP for 512 tokens": formulas["without cache"][5] / 1e6,
                 "times for twice as many": growth["without cache"], "bytes": 0},
                {"changed": "with cache, one key head", "MFLOP for 512 tokens": cached_flops(one, 1, 512) / 1e6,
                 "times for twice as many": cached_flops(one, 1, 512) / cached_flops(one, 1, 256),
                 "bytes": cache_bytes(one, 1, 512)},
            ]
        ),
        figure=figure,
        found="Twice as many tokens cost {growth_with_cache:.2f} times the work with the cache and "
        "{growth_without_cache:.2f} times without; at 256 tokens the cache saves a factor of {ratio_at_256:.0f}. "
        "The formulas equal the counted work to the last operation.",
        negative="Linear is the price of the matrices alone: at 512 tokens attention is "
        "{share_of_attention_at_512:.0%} of the work with the cache and grows with every token.",
        timings={
            "with_cache_128_over_64": seconds["with cache"][128] / seconds["with cache"][64],
            "without_cache_128_over_64": seconds["without cache"][128] / seconds["without cache"][64],
            "without_over_with_at_128": seconds["without cache"][128] / seconds["with cache"][128],
        },
    )  # fmt: skip


def nucleus(figures: Path) -> Record:
    """Where between greedy and free drawing is text as repetitive and as surprising as text is?"""
    model = train(config(3, 64), 250, seed=0)
    rows = [_written(model, _nucleus(p)) | {"p": p} for p in (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)]
    others = {
        "temperature 0.7": Sampler(0.7), "top-k 10": Sampler(1.0, top_k=10), "min-p 0.1": Sampler(1.0, min_p=0.1),
        "greedy, penalty 1.2": Sampler(repetition_penalty=1.2),
    }  # fmt: skip
    text = _text_itself(model)
    free = rows[-1]
    at = {row["p"]: row for row in rows}
    crossing = next((row["p"] for row in rows if row["repeated"]["mean"] <= text["repeated"]), 1.0)
    metrics = {
        "text": text,
        "greedy": {key: rows[0][key] for key in ("repeated", "distinct", "nats")},
        "free": {key: free[key] for key in ("repeated", "distinct", "nats")},
        "p_0_9": {key: at[0.9][key] for key in ("repeated", "distinct", "nats")},
        "p_as_repetitive_as_text": crossing,
    }
    figure = plots.nucleus(rows, text, figures / "nucleus.svg")
    measured = {f"p = {row['p']:g}": row for row in [rows[-1], *rows[:-1]]}
    measured |= {name: _written(model, sampler) for name, sampler in others.items()}
    return Record(
        objective="How do repetition, diversity and surprise of what is written depend on p, beside the text?",
        setup=f"3 blocks, width 64, 250 steps; 8 rows of 192 bytes after held-out prompts of 32, {len(SEEDS)} seeds of "
        "the draw (prompts move with the seed); repeated: share of a row's 12-grams that it held before; distinct: "
        "share of different 4-grams; nats under the model itself, without any cut.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name, **{key: row[key]["mean"] for key in ("repeated", "distinct", "nats")}}
                for name, row in measured.items()
            ]
        ),
        figure=figure,
        found="Greedy text repeats {greedy[repeated][mean]:.0%} of its 12-grams, the text itself {text[repeated]:.0%}, "
        "free draws {free[repeated][mean]:.0%}; the nucleus is as repetitive as text from "
        "p = {p_as_repetitive_as_text:.2f} on. Greedy text surprises its model by "
        "{greedy[nats][mean]:.2f} nats a byte, text by {text[nats]:.2f}.",
        negative="No p matches both: at the one that repeats as much as text does, what is written is still likelier "
        "to the model than text is.",
    )


def weight_tying(figures: Path) -> Record:
    """Does one matrix for embedding and LM head cost or help, for a small and for a large vocabulary?"""
    words, held_out_words = _words(1024)
    vocabularies: dict[str, tuple[dict[str, Any], Tensor | None, Tensor | None]] = {
        "128 bytes": ({}, None, None),
        "1024 words": ({"vocab_size": 1024}, words, held_out_words),
    }
    rows = []
    for vocabulary, (sizes, ids, held_out) in vocabularies.items():
        for tied in (True, False):
            models = [train(config(2, 64, tie_embeddings=tied, **sizes), 150, seed, ids=ids) for seed in SEEDS]
            rows.append(
                {
                    "vocabulary": vocabulary,
                    "tied": tied,
                    "losses": [held_out_nats(model, held_out) for model in models],
                    "parameters": sum(p.numel() for p in models[0].parameters()),
                }
            )
    gain = {
        name: [u - t for u, t in zip(rows[i + 1]["losses"], rows[i]["losses"], strict=True)]
        for i, name in ((0, "bytes"), (2, "words"))
    }
    metrics = {
        "gain_of_tying_bytes": spread(gain["bytes"]),
        "gain_of_tying_words": spread(gain["words"]),
        "tied_wins_every_seed_bytes": min(gain["bytes"]) > 0,
        "tied_wins_every_seed_words": min(gain["words"]) > 0,
        "parameters_saved_words": 1 - rows[2]["parameters"] / rows[3]["parameters"],
        "parameters_saved_bytes": 1 - rows[0]["parameters"] / rows[1]["parameters"],
    }
    figure = plots.weight_tying(rows, figures / "weight_tying.svg")
    return Record(
        objective="What does tying the embedding to the LM head do to the held-out loss, by size of the vocabulary?",
        setup="2 blocks, width 64, 150 steps of 8 windows of 64 tokens, the same recipe and batches; bytes, and "
        "the 1023 most frequent words of the training text (the rest one token); loss over 128 windows of held-out "
        "modules.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{row['vocabulary']}, {'tied' if row['tied'] else 'untied'}",
                    "held-out nats a token": float(np.mean(row["losses"])),
                    "parameters": row["parameters"],
                }
                for row in rows
            ]
        ),
        figure=figure,
        found="Untied minus tied, the held-out loss is {gain_of_tying_words[mean]:+.3f} nats (sd "
        "{gain_of_tying_words[sd]:.3f}) with words, where tying saves {parameters_saved_words:.0%} of the parameters, "
        "and {gain_of_tying_bytes[mean]:+.3f} (sd {gain_of_tying_bytes[sd]:.3f}) with bytes.",
        negative="Both trained for the same steps at the same rates; longer runs or a rate "
        "of its own for the LM head may turn it.",
    )


def lens(figures: Path) -> Record:
    """After which block has the model made up its mind?"""
    models = [train(config(4, 64), 150, seed) for seed in SEEDS]
    windows = [tokens(held_out=True)[start : start + 64].tolist() for start in range(0, 3200, 400)]
    depth, settled, sure = [], [], []
    for model in models:
        found = [logit_lens(model, window) for window in windows]
        depth.append(torch.cat([lens.nats for lens in found], 1).mean(1).tolist())
        at = torch.cat([lens.settled() for lens in found])
        settled.append([float((at <= layer).float().mean()) for layer in range(5)])
        sure.append(torch.cat([lens.probability for lens in found], 1).mean(1).tolist())
    falls = [all(a > b for a, b in pairwise(row)) for row in depth]
    by_layer = {f"after_{layer}": spread([row[layer] for row in settled]) for layer in range(5)}
    metrics: dict[str, Any] = {
        "settled": by_layer,
        "nats": {f"after_{layer}": spread([row[layer] for row in depth]) for layer in range(5)},
        "falls_at_every_block": all(falls),
    }
    example = logit_lens(models[0], list(LINE.encode()))
    figure = plots.logit_lens(
        example, [_shown(b) for b in LINE.encode()], _shown, np.array(depth), figures / "lens.svg"
    )
    return Record(
        objective="What does the LM head say after each block, and from where on what the whole model says?",
        setup=f"4 blocks, width 64, 150 steps, {len(SEEDS)} seeds; 8 held-out windows of 64 bytes. Settled: from this "
        "depth on the likeliest byte is the whole model's.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": "whole model" if layer == 4 else f"stopped after {layer} blocks",
                    "share settled": by_layer[f"after_{layer}"]["mean"],
                    "KL from the whole model, nats": metrics["nats"][f"after_{layer}"]["mean"],
                    "mean probability of its answer": float(np.mean([row[layer] for row in sure])),
                }
                for layer in (4, 3, 2, 1, 0)
            ]
        ),
        figure=figure,
        found="One block before the last {settled[after_3][mean]:.0%} of the answers are settled, two before it "
        "{settled[after_2][mean]:.0%}, after the embedding alone {settled[after_0][mean]:.0%}; the divergence from the "
        "whole model is {nats[after_0][mean]:.2f} nats at the embedding and "
        "{nats[after_3][mean]:.2f} before the last block.",
        negative="The lens reads with a norm and a matrix that were trained for the last layer only: what it cannot "
        "read in an early layer may be there in another basis.",
    )


def heads(figures: Path) -> Record:
    """Where do the heads of a small model look?"""
    window = tokens(held_out=True)[1000:1064].tolist()
    seeds_scores, first = [], None
    for seed in SEEDS:
        model = train(config(2, 64), 150, seed)
        first = model if first is None else first
        patterns = attention_patterns(model, window)
        seeds_scores.append(_head_scores(patterns))
    untrained = GPT(config(2, 64))
    untrained.init_weights(torch.Generator().manual_seed(0))
    before = _head_scores(attention_patterns(untrained.eval(), window))
    assert first is not None
    line = list(LINE.encode())
    patterns = attention_patterns(first, line)
    titles = {(layer, head): f"{share:.0%} to the one before" for (layer, head), share in
              np.ndenumerate(patterns.diagonal(-1, 2, 3).mean(-1).numpy())}  # fmt: skip
    metrics: dict[str, Any] = {
        "largest_share_of_previous": spread([max(s["previous"]) for s in seeds_scores]),
        "mean_distance_first_block": spread([float(np.mean(s["distance"][0])) for s in seeds_scores]),
        "mean_distance_last_block": spread([float(np.mean(s["distance"][1])) for s in seeds_scores]),
        "entropy_first_block": spread([float(np.mean(s["entropy"][0])) for s in seeds_scores]),
        "entropy_last_block": spread([float(np.mean(s["entropy"][1])) for s in seeds_scores]),
        "largest_share_of_previous_untrained": max(before["previous"]),
    }
    figure = plots.attention(patterns, [_shown(b) for b in line], figures / "heads.svg", titles)
    return Record(
        objective="Do heads divide the work: which look at the byte before, which far back, which everywhere?",
        setup=f"2 blocks of 4 heads, width 64, 150 steps, {len(SEEDS)} seeds; a held-out window of 64 bytes.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": "trained", "largest share to the byte before": metrics["largest_share_of_previous"]["mean"],
                 "entropy, first block": metrics["entropy_first_block"]["mean"]},
                {"changed": "untrained", "largest share to the byte before": max(before["previous"]),
                 "entropy, first block": float(np.mean(before["entropy"][0]))},
            ]
        ),
        figure=figure,
        found="Training makes a head that gives {largest_share_of_previous[mean]:.0%} of its weight to the byte "
        "before, where no untrained one gives more than {largest_share_of_previous_untrained:.0%}; heads of the first "
        "block look back {mean_distance_first_block[mean]:.1f} bytes on average, those of the last "
        "{mean_distance_last_block[mean]:.1f}.",
        negative="A weight is not a use: what a head reads there may be thrown away by its output matrix.",
    )  # fmt: skip


# --- what the experiments are made of ---------------------------------------------------------------------------------


def _batches(seed: int) -> np.ndarray:
    """(20, 4, 33) bytes of the training text."""
    text = tokens().numpy()
    starts = np.random.default_rng(seed).integers(len(text) - 33, size=(20, 4, 1))
    return text[starts + np.arange(33)]


def _with_exact_angles(c: GPTConfig, seed: int) -> Curves:
    below, above = pair(c, seed)
    d = c.d_head
    angles = np.outer(np.arange(c.context_len), c.rope_theta ** -(np.arange(0, d, 2) / d))
    angles = np.concatenate([angles, angles], 1)
    below.model.cos, below.model.sin = np.cos(angles), np.sin(angles)
    return train_both(below, above, _batches(seed))


def _against_float32(c: GPTConfig, seed: int) -> Curves:
    below, above = pair(c, seed)
    return train_both(below, above.float(), _batches(seed))


def _one_block(model: GPT) -> GPT:
    """The model cut off after its first block: the logit lens as a draft."""
    cut = GPT(replace(model.config, n_layer=1))
    cut.load_state_dict({k: v for k, v in model.state_dict().items() if ".layers." not in k or ".layers.0." in k})
    return cut.eval()


def _prompt(seed: int, length: int = 32) -> list[int]:
    return tokens(held_out=True)[500 * seed + 200 :][:length].tolist()


def _speculated(target: GPT, draft: GPT, K: int, temperature: float, seed: int) -> Any:
    sampler = Sampler(temperature) if temperature else GREEDY
    return speculate(target, draft, _prompt(seed), 64, K, (), sampler, torch.Generator().manual_seed(seed))


def _merged(found: list[Any]) -> dict[str, Any]:
    return {
        "alpha": sum(f.kept for f in found) / sum(f.tested for f in found),
        "alphas": [f.alpha for f in found],
        "tokens_a_pass": sum(len(f.tokens) for f in found) / sum(f.target_passes for f in found),
    }


def _measured_speed(
    target: GPT, draft: GPT, best: dict[int, dict[str, Any]], seconds: dict[int, float], lean_seconds: float
) -> dict[str, Any]:
    """What guessing gained over passes of one token through the same code, beside the formula with a measured price."""
    passes = {name: _seconds_a_pass(model) for name, model in (("target", target), ("draft", draft))}
    cost, plain = passes["draft"] / passes["target"], passes["target"] * 64 * len(SEEDS)
    return {
        "price_of_a_guess": cost,
        "speedup_two_guesses": plain / seconds[2],
        "speedup_two_guesses_by_formula": expected_speedup(best[2]["alpha"], 2, cost),
        "speedup_four_guesses": plain / seconds[4],
        "speedup_four_guesses_by_formula": expected_speedup(best[4]["alpha"], 4, cost),
        "speedup_two_guesses_over_the_lean_step": lean_seconds / seconds[2],
    }


@torch.inference_mode()
def _seconds_a_pass(model: GPT) -> float:
    cache, seconds = model.new_cache(1, 96), []
    for _ in range(64):
        started = time.perf_counter()
        model(torch.tensor([[1]]), cache=cache)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def _counted(run: Callable[[], Any]) -> int:
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return int(counter.get_total_flops())


@torch.inference_mode()
def _uncached(model: GPT, new: int) -> list[int]:
    """`new` greedy tokens after the token 1, the whole text read again for each."""
    text = [1]
    for _ in range(new):
        hidden = model.hidden(torch.tensor([text]))
        text.append(int(model.lm_head(hidden[:, -1]).argmax()))
    return text[1:]


def _median_seconds(run: Callable[[int], Any], n: int) -> float:
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        run(n)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def _nucleus(p: float) -> Sampler:
    return Sampler(1.0, top_p=p) if p else GREEDY


def _written(model: GPT, sampler: Sampler) -> dict[str, Any]:
    """Repetition, diversity and surprise of 8 rows of 192 bytes a seed."""
    found: dict[str, list[float]] = {"repeated": [], "distinct": [], "nats": []}
    for seed in SEEDS:
        prompts = [_prompt(8 * seed + i) for i in range(8)]
        rows = generate(model, prompts, 192, sampler=sampler, generator=torch.Generator().manual_seed(seed))
        nats = token_nats(model, torch.tensor([[*p, *row] for p, row in zip(prompts, rows, strict=True)]))[:, 31:]
        for key, values in (("repeated", [_repeated(r) for r in rows]), ("distinct", [_distinct(r) for r in rows])):
            found[key].append(float(np.mean(values)))
        found["nats"].append(float(nats.mean()))
    return {key: spread(values) for key, values in found.items()}


def _text_itself(model: GPT) -> dict[str, float]:
    """The same three of the held-out text that stands after the prompts."""
    rows = [_prompt(i, 224) for i in range(24)]
    nats = token_nats(model, torch.tensor(rows))[:, 31:]
    after = [row[32:] for row in rows]
    return {
        "repeated": float(np.mean([_repeated(r) for r in after])),
        "distinct": float(np.mean([_distinct(r) for r in after])),
        "nats": float(nats.mean()),
    }


def _ngrams(row: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


def _repeated(row: Sequence[int], n: int = 12) -> float:
    grams = _ngrams(row, n)
    return 1 - len(set(grams)) / len(grams)


def _distinct(row: Sequence[int], n: int = 4) -> float:
    grams = _ngrams(row, n)
    return len(set(grams)) / len(grams)


def _words(size: int) -> tuple[Tensor, Tensor]:
    """Training and held-out text as ids of the most frequent words of the first; 0 is every other word."""
    train_words, held_out = (re.findall(r"\w+|\s+|[^\w\s]", text_of(part).decode()) for part in (TRAIN, HELD_OUT))
    ids = {word: i + 1 for i, (word, _) in enumerate(Counter(train_words).most_common(size - 1))}
    first, second = (torch.tensor([ids.get(word, 0) for word in part]) for part in (train_words, held_out))
    return first, second


def _head_scores(patterns_LHTT: Tensor) -> dict[str, Any]:
    """Of each head: weight on the token before (flat list), mean distance looked back and entropy, by block."""
    T = patterns_LHTT.shape[-1]
    distance_TT = torch.arange(T)[:, None] - torch.arange(T)
    return {
        "previous": patterns_LHTT.diagonal(-1, 2, 3).mean(-1).flatten().tolist(),
        "distance": (patterns_LHTT * distance_TT).sum(-1).mean(-1).tolist(),
        "entropy": torch.special.entr(patterns_LHTT).sum(-1).mean(-1).tolist(),
    }


def _shown(byte: int) -> str:
    return {10: "⏎", 32: "·"}.get(byte, chr(byte) if 32 < byte < 127 else "?")
