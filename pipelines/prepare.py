"""Stage `prepare`: the source becomes a corpus of documents in three splits."""

import time
from typing import Any

from llmm.corpus.build import build_corpus
from llmm.corpus.sources import open_source
from llmm.errors import UserError
from llmm.files import write_json
from llmm.params import Params
from llmm.paths import CORPUS, METRICS, SOURCE
from pipelines.source import known_state
from pipelines.stage import run_stage


def main(params: Params) -> dict[str, Any]:
    """Write `data/corpus` and `data/metrics/prepare.json`; returns the throughput, in MB of the corpus.

    Raises UserError where the source is not what it was.
    """
    source = open_source(params.corpus)
    known = known_state()
    if known is None:
        raise UserError(f"{SOURCE} is not there: `dvc repro` makes it")
    if source.state(known) != known:
        raise UserError(f"the source is not the one of {SOURCE} any more ({known.label}): run `dvc repro` again")
    started = time.perf_counter()
    figures = build_corpus(source, params.corpus, params.seed, CORPUS)
    seconds = time.perf_counter() - started
    write_json(METRICS / "prepare.json", {"source": known.label, **figures})
    for split, count in figures["documents"].items():
        print(f"{split}: {count} documents, {figures['bytes'][split]:,} bytes, {figures['objects'][split]} objects")
    return {"mb_per_second": round(sum(figures["bytes"].values()) / seconds / 1e6, 2)}


if __name__ == "__main__":
    run_stage("prepare", main)
