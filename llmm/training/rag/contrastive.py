"""Contrastive tuning: a query's vector is drawn to its document's and away from the other documents of the batch.

The loss is `info_nce`; documents of the batch that are right too (equal query or equal document) are no negatives.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmm.corpus import Document, PythonObject
from llmm.device import pick_dtype, precision
from llmm.errors import UserError
from llmm.foundations.optimizers import AdamW
from llmm.training.rag.benchmark import is_searchable, object_text, remove_names
from llmm.training.rag.encoder import DOCUMENT, QUERY, Encoder
from llmm.training.rag.info_nce import info_nce
from llmm.training.rag.sections import find_sections

MIN_PAIRS = 8


@dataclass(frozen=True)
class Pair:
    """Texts that say the same: `queries` are wordings of one, any of which should find `document`."""

    queries: tuple[str, ...]
    document: str


def object_pairs(objects: Sequence[PythonObject]) -> list[Pair]:
    """Summaries, with and without the object's names, and the code that they describe; training objects only."""
    return [
        Pair((remove_names(item.summary, item.qualname) or item.summary, item.summary), object_text(item))
        for item in objects
        if item.split == "train" and is_searchable(item)
    ]


def section_pairs(documents: Sequence[Document]) -> list[Pair]:
    """Headings (or first sentences), alone and behind the title, and the text under them."""
    return [
        Pair((section.heading, f"{section.title}: {section.heading}"), section.body)
        for document in documents
        for section in find_sections(document)
    ]


def same_meaning(queries: Sequence[Sequence[int]], documents: Sequence[Sequence[int]]) -> Tensor:
    """(B, B), True where i ≠ j and the queries or the documents are equal: such a pair must not be pushed apart."""
    size = len(queries)
    same = torch.zeros(size, size, dtype=torch.bool)
    for items in (queries, documents):
        number = {tuple(item): i for i, item in enumerate(items)}
        group = torch.tensor([number[tuple(item)] for item in items])
        same |= group[:, None] == group[None, :]
    return same & ~torch.eye(size, dtype=torch.bool)


@dataclass(frozen=True)
class Recipe:
    """How to tune: peak learning rate of AdamW, temperature τ, steps, pairs in a step."""

    lr: float
    temperature: float
    steps: int
    batch_size: int
    seed: int


def tune(
    encoder: Encoder,
    parameters: list[torch.nn.Parameter],
    pairs: Sequence[Pair],
    recipe: Recipe,
    mask_same: bool = True,
) -> Iterator[float]:
    """Train `parameters` (the adapter's) on `pairs`, yielding the loss of each step.

    Without `mask_same` the batch's other right answers are pushed away like wrong ones.

    Every pass over the pairs is in another order, with another wording of each query; batches hold documents of like
    length, so that little padding is computed. Raises UserError for too few pairs.
    """
    if len(pairs) < MIN_PAIRS:
        raise UserError(
            f"the corpus gives {len(pairs)} pairs of query and document, at least {MIN_PAIRS} are needed to tune the "
            "encoder: add documents with several paragraphs, or objects with docstrings"
        )
    documents = encoder.tokens([pair.document for pair in pairs], DOCUMENT)
    wordings = [encoder.tokens(pair.queries, QUERY) for pair in pairs]
    optimizer = AdamW(parameters, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01)
    device = parameters[0].device
    dtype = pick_dtype("auto", device)
    batches = _batches([len(tokens) for tokens in documents], recipe)
    rng = np.random.default_rng(recipe.seed + 1)
    for step, rows in zip(range(recipe.steps), batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * schedule(step, recipe.steps)
        queries = [wordings[i][rng.integers(len(wordings[i]))] for i in rows]
        chosen = [documents[i] for i in rows]
        with precision(dtype, device):
            vectors = [encoder.forward(texts).float() for texts in (queries, chosen)]
        similarity = vectors[0] @ vectors[1].T
        same = same_meaning(queries, chosen) if mask_same else torch.zeros_like(similarity, dtype=torch.bool)
        loss = info_nce(similarity, recipe.temperature, same.to(similarity.device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        yield loss.item()


def schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: up over a tenth of the steps, down to zero along a cosine."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def _batches(lengths: list[int], recipe: Recipe) -> Iterator[list[int]]:
    """Endless batches of rows: a pass is shuffled, sorted by length within windows of 8 batches, and shuffled again."""
    rng = np.random.default_rng(recipe.seed)
    size = min(recipe.batch_size, len(lengths))
    while True:
        order = rng.permutation(len(lengths)).tolist()
        window = size * 8
        batches = []
        for start in range(0, len(order), window):
            rows = sorted(order[start : start + window], key=lambda i: lengths[i])
            batches += [rows[i : i + size] for i in range(0, len(rows) - size + 1, size)]
        for i in rng.permutation(len(batches)).tolist():
            yield batches[i]
