"""M11: every derived formula against an independent source, each criterion, and what small wrong uses say."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from derivations import assert_derivations_are_tested

from llmm.errors import UserError
from llmm.ladder.milestones import find_milestone
from llmm.statistics import paired_bootstrap
from llmm.training.rag import bench_squad, checks
from llmm.training.rag.bm25 import BM25
from llmm.training.rag.chunking import chunk_text
from llmm.training.rag.contrastive import Recipe, object_pairs, tune
from llmm.training.rag.fixed_windows import fixed_windows
from llmm.training.rag.hnsw import HNSW, draw_level
from llmm.training.rag.hybrid import reciprocal_rank_fusion, score_fusion
from llmm.training.rag.info_nce import info_nce, info_nce_gradient, mutual_information_bound
from llmm.training.rag.inverted_lists import InvertedLists, expected_distances, k_means
from llmm.training.rag.metrics import ndcg_at, reciprocal_rank
from llmm.training.rag.relevance import (
    inverse_document_frequency,
    relevance_weight,
    saturation,
    two_poisson_weight,
)
from llmm.training.rag.rerank import DOCUMENT_TOKENS, log_likelihoods, prompt_of, rerank
from llmm.training.rag.risk_coverage import (
    area_under_curve,
    best_area,
    certified_threshold,
    risk_coverage_curve,
)

README = Path("llmm/training/rag/README.md")
MEASURED = [criterion for criterion in find_milestone("m11").spec.criteria if criterion.check]


def test_every_section_of_the_derivations_names_its_tests():
    assert_derivations_are_tested(README, globals())


@pytest.mark.parametrize("criterion", MEASURED, ids=lambda criterion: criterion.id)
def test_the_reference_meets_the_criterion(criterion):
    assert criterion.holds(getattr(checks, criterion.check)())


# 1. from the odds of relevance to idf


def test_the_weight_is_a_log_odds_ratio_and_its_order_that_of_relevance():
    p, q, prior = np.array([0.7, 0.2, 0.5]), np.array([0.1, 0.15, 0.5]), 0.02
    weights = np.log(p * (1 - q) / (q * (1 - p)))  # (1.3)
    scores, probabilities = [], []
    for words in itertools.product((0, 1), repeat=3):
        x = np.array(words)
        relevant = prior * np.prod(np.where(x, p, 1 - p))
        other = (1 - prior) * np.prod(np.where(x, q, 1 - q))
        probabilities.append(relevant / (relevant + other))
        scores.append(float(weights @ x))
    odds = np.log(np.array(probabilities) / (1 - np.array(probabilities)))
    np.testing.assert_allclose(odds - scores, (odds - scores)[0], atol=1e-12)  # (1.1): the same for all documents
    assert weights[2] == 0  # as frequent in either kind
    # counts of a large collection: the halves no longer matter
    assert relevance_weight(7000, 10_000, 7000 + 99_000, 1_000_000) == pytest.approx(weights[0], abs=1e-3)


def test_idf_is_what_is_left_of_the_weight():
    for n in (1, 30, 60, 99):
        without_knowledge = relevance_weight(0, 0, n, 100)
        assert without_knowledge == pytest.approx(math.log((100 - n + 0.5) / (n + 0.5)), abs=1e-12)  # (1.6)
        assert (without_knowledge < 0) == (n > 50)
        kept = inverse_document_frequency(n, 100)
        assert kept == pytest.approx(math.log(101 / (n + 0.5)), abs=1e-12) and kept > 0  # (1.7)
    assert inverse_document_frequency(1, 10**6) == pytest.approx(relevance_weight(0, 0, 1, 10**6), abs=1e-5)


# 2. from two Poisson laws to saturation


def test_two_poisson_laws_level_off_at_the_weight_of_being_elite():
    p, q = 0.8, 0.1
    assert two_poisson_weight(0, 5.0, 0.5, p, q) == pytest.approx(0, abs=1e-12)
    weights = [two_poisson_weight(count, 5.0, 0.5, p, q) for count in range(40)]
    assert all(later > earlier for earlier, later in itertools.pairwise(weights[:12]))
    elite = math.log(p * (1 - q) / (q * (1 - p)))
    assert two_poisson_weight(200, 30.0, 1e-6, p, q) == pytest.approx(elite, abs=1e-4)  # (2.3)
    # one occurrence says little where elite documents repeat a word often: the curve is S-shaped
    assert two_poisson_weight(1, 6.0, 1.0, p, q) < 0.2 * two_poisson_weight(3, 6.0, 1.0, p, q)


def test_saturation_starts_at_zero_and_halves_at_k1():
    assert saturation(0, 1.5) == 0 and saturation(1.5, 1.5) == 0.5 and saturation(10**9, 1.5) == pytest.approx(1)
    steps = np.diff([saturation(count, 1.5) for count in range(30)])
    assert (steps > 0).all() and (np.diff(steps) < 0).all()


def test_bm25_is_the_product_of_both():
    assert checks.bm25_of_the_derivation_error() <= 1e-12
    short, long = BM25.build(["a", "a b c d e f g h"], 1.5, 1.0, str.split).scores("a")
    assert short > long
    unpunished = BM25.build(["a", "a b c d e f g h"], 1.5, 0.0, str.split).scores("a")
    assert unpunished[0] == unpunished[1]


# 3. InfoNCE


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_negative_is_pushed_by_its_own_probability():
    similarity, none = normal(5, 5).tanh(), torch.zeros(5, 5, dtype=torch.bool)
    gradient = info_nce_gradient(similarity, 0.2, none)
    by_query, by_document = (similarity / 0.2).softmax(1), (similarity / 0.2).softmax(0)
    off = ~torch.eye(5, dtype=torch.bool)
    assert torch.allclose(gradient[off] * 2 * 5 * 0.2, (by_query + by_document)[off])
    assert (gradient[off] > 0).all() and (gradient.diagonal() < 0).all()
    same = none.clone()
    same[0, 1] = True
    assert info_nce_gradient(similarity, 0.2, same)[0, 1] == pytest.approx(0)  # taken out of row and column


def test_a_small_temperature_pushes_the_hardest_negative_alone():
    similarity = torch.tensor([[0.5, 0.4, 0.1], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64)
    none = torch.zeros(3, 3, dtype=torch.bool)

    def hardest(temperature):
        first, second = info_nce_gradient(similarity, temperature, none)[0, 1:]
        return float(first / (first + second))

    assert hardest(0.01) > 0.99 and hardest(10.0) == pytest.approx(0.5, abs=0.01)
    assert hardest(0.01) > hardest(0.1) > hardest(1.0)


def test_cosines_bound_the_loss_from_below():
    def floor(B: int, temperature: float) -> float:
        return math.log(1 + (B - 1) * math.exp(-B / ((B - 1) * temperature)))

    none = torch.zeros(8, 8, dtype=torch.bool)
    corners = F.normalize(torch.eye(8, dtype=torch.float64) - 1 / 8, dim=1)  # of a simplex
    for temperature in (1.0, 0.1):
        bound = floor(8, temperature)
        assert info_nce(corners @ corners.mT, temperature, none).item() == pytest.approx(bound, rel=1e-9)
        free = F.normalize(corners + 0.5 * normal(8, 8), dim=1)
        other = F.normalize(corners + 0.5 * normal(8, 8, seed=1), dim=1)
        assert info_nce(free @ other.mT, temperature, none).item() > bound
    queries, documents = normal(8, 4).requires_grad_(), normal(8, 4, seed=1).requires_grad_()
    descent = torch.optim.Adam([queries, documents], lr=0.05)
    for _ in range(300):  # as low as four dimensions allow, where no simplex of eight corners fits
        descent.zero_grad()
        loss = info_nce(F.normalize(queries, dim=1) @ F.normalize(documents, dim=1).mT, 1.0, none)
        loss.backward()
        descent.step()
    assert floor(8, 1.0) < loss.item() < 1.1 * floor(8, 1.0)
    assert math.log(128) - floor(128, 1.0) < 1 and floor(128, 0.05) < 1e-6  # a batch of 128


def test_the_density_ratio_is_the_best_score_and_shows_the_information():
    joint = np.array([[0.3, 0.05, 0.05], [0.02, 0.28, 0.1], [0.03, 0.02, 0.15]])
    ratio = joint / joint.sum(1, keepdims=True) / joint.sum(0, keepdims=True)
    information = float((joint * np.log(ratio)).sum())
    rng, B = np.random.default_rng(0), 32
    losses = {"best": [], "twice": [], "moved": []}
    for _ in range(800):
        pairs = rng.choice(9, B, p=joint.ravel())
        queries, documents = pairs // 3, pairs % 3
        logits = torch.from_numpy(np.log(ratio)[queries][:, documents])
        for name, scores in (("best", logits), ("twice", 2 * logits), ("moved", logits.roll(1, 1))):
            losses[name].append(float(F.cross_entropy(scores, torch.arange(B))))
    means = {name: sum(values) / len(values) for name, values in losses.items()}
    assert means["best"] < means["twice"] and means["best"] < means["moved"]
    assert information - 0.05 < mutual_information_bound(means["best"], B) < information + 0.02
    assert mutual_information_bound(0.0, B) == math.log(B)
    # (3.5), exactly, by enumeration: what is lost to the information is E ln Z, which is not negative
    rows, columns = joint.sum(1), joint.sum(0)
    for size in (2, 3):
        loss = divergence = 0.0
        for query, drawn in itertools.product(range(3), itertools.product(range(3), repeat=size)):
            probability = joint[query, drawn[0]] * np.prod(columns[list(drawn[1:])])
            ratios = ratio[query, list(drawn)]
            loss += probability * math.log(ratios.sum() / ratios[0])
            divergence += probability * math.log(ratios.mean())
        assert loss == pytest.approx(math.log(size) - information + divergence, abs=1e-12)
        assert divergence > 0 and rows.sum() == pytest.approx(1)


def test_tuning_brings_queries_to_their_documents_and_the_mask_can_be_left_out():
    encoder = checks._encoder()
    pairs = object_pairs(_training_objects())
    recipe = Recipe(0.01, 0.1, 30, 16, 0)
    losses = list(tune(encoder, list(encoder.gpt.parameters()), pairs, recipe))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    twice = [pairs[0]] * 16  # all the same: with the mask there is nothing to tell apart
    assert next(tune(encoder, list(encoder.gpt.parameters()), twice, recipe)) == 0
    unmasked = next(tune(encoder, list(encoder.gpt.parameters()), twice, recipe, mask_same=False))
    assert unmasked == pytest.approx(math.log(16), abs=0.2)


def _training_objects():
    from dataclasses import replace

    return [replace(item, split="train") for item in checks._objects()]


# 4. two rankings into one


def test_ranks_fused_by_hand():
    both = [("x", 9.0)] + [(f"a{i}", 8.0 - i / 10) for i in range(24)] + [("d", 0.1)]
    other = [(f"b{i}", 8.0 - i / 10) for i in range(24)] + [("d", 0.1)]
    fused = dict(reciprocal_rank_fusion([both, other], [1.0, 1.0]))
    assert fused["x"] == pytest.approx(1 / 61) and fused["d"] == pytest.approx(1 / 86 + 1 / 85)
    assert fused["d"] > fused["x"]  # in the twenties of both before the first of one


def test_scores_fused_do_not_depend_on_their_scale():
    first, second = [("a", 3.0), ("b", 1.0)], [("b", 0.9), ("a", 0.2), ("c", 0.1)]
    stretched = [(key, 100 * score + 7) for key, score in first]
    assert score_fusion([first, second], [0.5, 0.5]) == score_fusion([stretched, second], [0.5, 0.5])
    raw = {key: score + dict(second).get(key, 0) for key, score in stretched}
    assert max(raw, key=raw.get) == "a"  # as they are, the larger scale decides alone


def test_one_relevant_document_at_ranks_one_two_and_ten():
    def ranked(place):
        return ["-"] * (place - 1) + ["x"]

    assert [round(ndcg_at(ranked(place), {"x"}, 10), 2) for place in (1, 2, 10)] == [1.0, 0.63, 0.29]
    assert [reciprocal_rank(ranked(place), {"x"}) for place in (1, 2, 10)] == [1.0, 0.5, 0.1]
    assert ndcg_at(ranked(11), {"x"}, 10) == 0


def test_pairs_take_the_difficulty_of_queries_away():
    rng = np.random.default_rng(0)
    difficulty = rng.random(200)
    a, b = (difficulty + shift + 0.05 * rng.normal(size=200) for shift in (0.03, 0.0))
    assert np.var(a - b) == pytest.approx(np.var(a) + np.var(b) - 2 * np.cov(a, b, bias=True)[0, 1])  # (4.5)
    assert paired_bootstrap(a, b, 1000, 0)["low"] > 0
    assert paired_bootstrap(a, rng.permutation(b), 1000, 0)["low"] < 0  # without the pairs nothing is seen


# 5. the nearest of many vectors


def test_each_layer_holds_an_mth_of_the_points():
    levels = np.array([draw_level(1 - u, 4) for u in np.random.default_rng(1).random(50_000)])
    for layer in (1, 2, 3):
        assert (levels >= layer).mean() == pytest.approx(4.0**-layer, rel=0.15)  # (5.2)
    assert (levels + 1).mean() == pytest.approx(1 + 1 / 3, rel=0.02)
    top = [max(draw_level(1 - u, 4) for u in np.random.default_rng(seed).random(1024)) for seed in range(30)]
    assert np.mean(top) == pytest.approx(math.log(1024) / math.log(4), abs=1.0)  # (5.3)


def test_walks_on_a_layer_are_short():
    points, queries = checks._clustered()
    M = 4
    graph = HNSW(points.shape[1], M, 40, seed=2)
    graph.insert(points)
    layers = [[p for p, links in enumerate(graph.links) if len(links) > layer] for layer in range(graph.top_layer)]
    before = []  # points of a layer that are nearer than the nearest one of the layer above: no walk is longer
    steps = []
    for query in queries:
        distance = ((points - query) ** 2).sum(1)
        for lower, upper in itertools.pairwise(layers):
            before.append(int((distance[lower] < distance[upper].min()).sum()))
        here = graph.entry
        for layer in range(graph.top_layer - 1, 0, -1):
            taken = 0
            while True:
                near = min(graph.links[here][layer], key=lambda p: ((points[p] - query) ** 2).sum(), default=here)
                if ((points[near] - query) ** 2).sum() >= ((points[here] - query) ** 2).sum():
                    break
                here, taken = near, taken + 1
            steps.append(taken)
    assert graph.top_layer >= 3
    assert np.mean(before) == pytest.approx(M - 1, rel=0.35)  # (5.4)
    assert 0 < np.mean(steps) <= M - 1
    graph.distances_computed = 0
    for query in queries:
        graph._descend(query, graph.top_layer, 0)
    assert graph.distances_computed / len(queries) <= M * M * math.log(len(points)) / math.log(M)  # (5.5)


def test_cells_cost_least_at_the_root():
    costs = {cells: expected_distances(40_000, cells, 4) for cells in (100, 200, 400, 800, 1600)}
    assert min(costs, key=costs.get) == 400 and costs[400] == 2 * math.sqrt(4 * 40_000)  # (5.7)
    points, queries = checks._clustered()
    index = InvertedLists(points, k_means(points, 16, 5, 0))
    found = [index.search(query, len(points), 16) for query in queries]
    assert all(len(hits) == len(points) for hits in found) and index.distances_computed == 40 * (16 + 800)


# 6. what a cut tears


def test_windows_tear_what_is_longer_than_the_overlap():
    rng = np.random.default_rng(0)
    chunks = fixed_windows("x" * 200_000, "d", "t", 1000, 200)
    for length in (100, 201, 202, 500, 900, 1000):
        starts = rng.integers(1000, 198_000, 4000)
        whole = np.zeros(len(starts), dtype=bool)
        for chunk in chunks:
            whole |= (chunk.start <= starts) & (starts + length <= chunk.end)
        assert whole.mean() == pytest.approx(min(1, (1000 - length + 1) / 800), abs=0.03)  # (6.1)
        assert whole.all() == (length <= 201)


def test_natural_borders_tear_a_function_only_where_none_parts_two_of_them():
    functions = "".join(f"def f{i}(x):\n    return x + {i}\n\n\n" for i in range(60))
    for chunk in chunk_text(functions, "d", "t", 200, 30):
        assert chunk.text.startswith("def f") and chunk.text.count("def f") == chunk.text.count("return")
    methods = "class C:\n" + "".join(f"    def f{i}(self):\n        return {i}\n\n" for i in range(60))
    whole = chunk_text(methods, "d", "t", 200, 30)
    assert all(chunk.text.count("def f") == chunk.text.count("return") for chunk in whole) and len(whole) > 5


# 7. reranking by likelihood


def test_likelihood_and_rank_are_weighed_by_bayes():
    tokens, weight = 12, 0.2
    likelihood, prior = np.array([-30.0, -29.0, -28.5]), np.arange(1, 4.0) ** -weight
    posterior = np.exp(likelihood) ** (1 / tokens) * prior
    by_bayes = np.argsort(-posterior).tolist()
    assert rerank((likelihood / tokens).tolist(), weight) == by_bayes == [0, 1, 2]  # (7.3)
    assert rerank((likelihood / tokens).tolist(), 0.0) == [2, 1, 0]  # without the prior the order is another one
    # a query twice as long, each token as likely as before: the same order
    assert rerank((2 * likelihood / (2 * tokens)).tolist(), weight) == by_bayes
    gpt, tokenizer = checks._gpt(), checks._tokenizer()
    known, other = log_likelihoods(gpt, tokenizer, "", ["a", "b"]), log_likelihoods(gpt, tokenizer, "text", [])
    assert known == [0.0, 0.0] and other == []
    long = log_likelihoods(gpt, tokenizer, "word " * 500, ["def f():\n    pass\n"] * 40)
    assert len(long) == 40 and len(set(np.round(long, 5))) == 1 and np.isfinite(long).all()


def test_a_long_document_does_not_pad_short_ones(monkeypatch: pytest.MonkeyPatch):
    gpt, tokenizer = checks._gpt(), checks._tokenizer()
    short, long = "Some prose.", "A long line of prose. " * 30
    documents = [short, long, *[short] * 30, long]
    hidden, read = gpt.hidden, []
    monkeypatch.setattr(gpt, "hidden", lambda ids: (read.append(ids.numel()), hidden(ids))[1])
    found = log_likelihoods(gpt, tokenizer, "Return it.", documents)
    asked, *lengths = (len(tokenizer.encode(text).ids) for text in ("Return it.", *map(prompt_of, documents)))
    real = sum(min(length, DOCUMENT_TOKENS) + asked for length in lengths)
    assert real <= sum(read) <= 1.1 * real < len(documents) * (DOCUMENT_TOKENS + asked) / 2
    assert len(set(np.round(found, 5))) == 2 and found[1] == pytest.approx(found[-1])


# 8. when to be silent


def test_an_order_that_knows_its_mistakes_has_the_least_area():
    rng = np.random.default_rng(0)
    wrong = rng.random(60) < 0.3
    perfect = area_under_curve(risk_coverage_curve((~wrong).astype(float).tolist(), wrong.tolist()))
    assert perfect == pytest.approx(best_area(int(wrong.sum()), 60))
    for seed in range(1, 20):
        scores = np.random.default_rng(seed).random(60)
        assert area_under_curve(risk_coverage_curve(scores.tolist(), wrong.tolist())) > perfect
    worst = area_under_curve(risk_coverage_curve(wrong.astype(float).tolist(), wrong.tolist()))
    assert worst > wrong.mean()


def test_a_random_order_has_the_overall_risk():
    wrong = [True] * 12 + [False] * 28
    assert area_under_curve(risk_coverage_curve([0.5] * 40, wrong)) == pytest.approx(0.3)
    shuffled = [
        area_under_curve(risk_coverage_curve(np.random.default_rng(seed).random(40).tolist(), wrong))
        for seed in range(400)
    ]
    assert np.mean(shuffled) == pytest.approx(0.3, abs=0.01)


def test_a_certificate_is_the_exact_binomial_bound():
    scores = np.linspace(1, 0, 400).tolist()
    spotless = risk_coverage_curve(scores, [False] * 400)
    assert certified_threshold(spotless, 0.05).answered == 400
    for mistakes, certified in ((8, True), (14, False)):  # P(Bin(400, 0.05) <= e) is 0.0017 and 0.10; it may be 0.005
        wrong = [True] * mistakes + [False] * (400 - mistakes)
        point = certified_threshold(risk_coverage_curve(scores, wrong), 0.05)
        assert (point is not None) == certified
        if point is not None:
            assert point.wrong == mistakes and point.answered == 400
    assert certified_threshold(risk_coverage_curve([0.5] * 10, [True] * 10), 0.05) is None


# 9. the document as a hidden variable


def by_sequence(scores_Z, tokens_ZT):
    return (scores_Z.softmax(0) * tokens_ZT.prod(1)).sum()


def by_token(scores_Z, tokens_ZT):
    return (scores_Z.softmax(0)[:, None] * tokens_ZT).sum(0).prod()


def test_an_answer_teaches_by_the_posterior_less_the_prior():
    scores_Z, tokens_ZT = normal(4).requires_grad_(), normal(4, 3, seed=1).sigmoid()
    (-by_sequence(scores_Z, tokens_ZT).log()).backward()
    prior_Z = scores_Z.detach().softmax(0)
    posterior_Z = prior_Z * tokens_ZT.prod(1) / (prior_Z * tokens_ZT.prod(1)).sum()
    assert torch.allclose(scores_Z.grad, prior_Z - posterior_Z, atol=1e-12)
    blind = scores_Z.detach().clone().requires_grad_()
    (-by_sequence(blind, tokens_ZT[:1].expand(4, 3)).log()).backward()  # a generator that does not look
    assert float(blind.grad.abs().max()) < 1e-12
    marked = scores_Z.detach().clone().requires_grad_()
    (-by_sequence(marked, torch.tensor([[0.0], [0], [1], [0]]).double()).log()).backward()
    assert torch.allclose(marked.grad, prior_Z - F.one_hot(torch.tensor(2), 4))  # (3.2)


def test_one_passage_for_all_tokens_or_one_for_each():
    scores_Z, tokens_ZT = normal(4), normal(4, 3, seed=1).sigmoid()
    assert torch.allclose(by_sequence(scores_Z, tokens_ZT[:, :1]), by_token(scores_Z, tokens_ZT[:, :1]))
    assert torch.allclose(by_sequence(scores_Z[:1], tokens_ZT[:1]), by_token(scores_Z[:1], tokens_ZT[:1]))
    even = torch.zeros(2, dtype=torch.float64)
    halves, whole = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).double(), torch.tensor([[0.9, 0.9], [0.1, 0.1]]).double()
    assert by_token(even, halves) > by_sequence(even, halves)
    assert by_sequence(even, whole) > by_token(even, whole)


# questions about another text


def test_questions_in_squads_format_are_scored_by_every_ranker(tmp_path):
    texts = [
        "Heaps keep the smallest item first. Pushing costs little.",
        "A calendar prints months. Weeks begin on Monday.",
    ]
    paragraphs = [
        {"context": text, "qas": [{"question": question, "answers": [{"text": answer}]}]}
        for text, question, answer in zip(
            texts, ("What do heaps keep first?", "On which day do weeks begin?"), ("smallest", "Monday"), strict=True
        )
    ]
    file = tmp_path / "squad.json"
    file.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    read, asked = bench_squad.read_squad(file)
    assert [read[question.paragraph] for question in asked] == texts
    found = bench_squad.score(read, asked, checks._encoder(), checks._gpt(), checks._tokenizer(), checks.INDEX)
    assert found["rankers"]["bm25"] == dict.fromkeys(found["rankers"]["bm25"], 1.0)
    assert found["minus_bm25"]["hybrid"]["difference"] == round(found["rankers"]["hybrid"]["ndcg@10"] - 1, 4)
    assert found["quotation_holds_answer"]["right_paragraph"] == found["quotation_holds_answer"]["bm25"] == 1.0
    file.write_text(json.dumps({"data": [{"title": "no paragraphs"}]}))
    with pytest.raises(UserError, match="is not in SQuAD's format"):
        bench_squad.read_squad(file)
    with pytest.raises(UserError, match=r"nowhere\.json cannot be read"):
        bench_squad.read_squad(tmp_path / "nowhere.json")
    file.write_text(json.dumps({"data": []}))
    with pytest.raises(UserError, match="holds no question"):
        bench_squad.read_squad(file)
