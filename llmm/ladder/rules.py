"""What a record must have to count as one: question, setup, seeds with spread, an ablation, a figure."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmm.ladder.milestones import Milestone

FEWEST_SEEDS = 3


def record_faults(milestone: Milestone, experiments: Mapping[str, Any]) -> list[str]:
    """One line for each fault in the stored records of a milestone."""
    expected, found = list(milestone.spec.experiments), list(experiments)
    if expected != found:
        return [f"the records are those of {', '.join(found) or 'no experiment'}, the spec has {', '.join(expected)}"]
    return [f"{name}: {fault}" for name, record in experiments.items() for fault in _faults(record)]


def _faults(record: Mapping[str, Any]) -> Iterator[str]:
    for field, fewest in (("objective", 4), ("setup", 8), ("found", 6)):
        if len(str(record.get(field, "")).split()) < fewest:
            yield f"{field} says too little: at least {fewest} words are expected"
    if not record.get("metrics"):
        yield "no metrics"
    seeds = record.get("seeds") or []
    if seeds and len(set(seeds)) < FEWEST_SEEDS:
        yield f"{len(set(seeds))} seeds, expected at least {FEWEST_SEEDS} where something is random"
    if seeds and not any(_is_spread(value) for value in _dicts(record.get("metrics", {}))):
        yield "has seeds, but no metric with mean, sd and n"
    rows = record.get("ablation") or []
    if len(rows) < 2:
        yield "its ablation needs a base row and one with something changed"
    elif any("changed" not in row or len(row) < 2 for row in rows):
        yield 'each row of its ablation needs "changed" and a measure'
    if not Path(record.get("figure", "")).is_file():
        yield f"its figure {record.get('figure')} is not there"


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _dicts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _dicts(item)


def _is_spread(value: Mapping[str, Any]) -> bool:
    return {"mean", "sd", "n"} <= value.keys()
