"""What `make repro` prints at its end: what was built, how good it is beside baselines, what it took, what to try next.

`python -m pipelines.summary [--json]`. Reads what the stages have written and names the stages
whose files are missing.
"""

import argparse
import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmm import paths
from llmm.errors import UserError
from llmm.files import read_json

STAGES = (
    "source", "prepare", "tokenizer", "tokenize", "baselines", "pretrain", "lm_eval",
    "finetune", "encoder", "index", "rag_eval", "agent_eval",
)  # fmt: skip
ARTIFACTS = {
    "corpus": (paths.CORPUS, "documents and objects"),
    "tokenizer": (paths.TOKENIZER, "opens in tokenizers and transformers"),
    "tokens": (paths.TOKENS, "token shards"),
    "model": (paths.MODEL, "the GPT; opens in transformers"),
    "adapter": (paths.ADAPTER, "the assistant's LoRA; opens in peft"),
    "encoder": (paths.ENCODER, "the embedding model's LoRA"),
    "index": (paths.INDEX, "chunks, BM25 and vectors"),
}
_READERS = (
    (
        "extractive",
        "definition of the named object looked up",
        {"BM25's best sentence": "bm25_sentence", "the model without a passage": "closed_book"},
    ),
    (
        "generated",
        "written by the model",
        {
            "without a passage": "closed_book",
            "with the right passage (a ceiling)": "gold_context",
            "BM25's best sentence": "bm25_sentence",
        },
    ),
)
_SUITES = {
    "new_values": "new values",
    "new_phrasings": "new phrasings",
    "no_tool": "no call needed",
    "multi_step": "two calls or a follow-up",
    "descriptions": "what an object does",
    "hand_written": "hand-written tasks",
}
_SYSTEMS = {"regex_router": "regex router", "no_tools": "model without tools", "random_weights": "random weights"}
NEXT = (
    ("text of the model", 'llmm generate "def read_json("'),
    ("an answer with citations", 'llmm ask "How do I parse a date?"'),
    ("the tool agent", 'llmm agent "What is 37 * 12?"'),
    ("another size, then the difference", "dvc exp run -S pretrain.n_layer=6 && dvc metrics diff"),
    ("the evaluations in a browser", "make ui"),
    ("your own text", "set corpus.source: files and corpus.path in params.yaml, then make repro"),
)


@dataclass(frozen=True)
class Measure:
    """One figure of merit with its interval, and the baselines that it has to be compared with."""

    what: str
    value: float
    interval: tuple[float, float] | None
    baselines: dict[str, float]
    unit: str = ""
    lower_is_better: bool = False

    @property
    def beats_all(self) -> bool:
        """Whether the value is better than that of every baseline."""
        sign = -1 if self.lower_is_better else 1
        return all(sign * self.value > sign * baseline for baseline in self.baselines.values())


@dataclass
class Summary:
    """Everything that is shown; `missing` names the stages whose files could not be read."""

    source: str = ""
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    sample: dict[str, str] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def collect() -> Summary:
    """Read what the stages have left in this folder. Never raises for a file that is missing or unreadable."""
    summary = Summary()
    metrics = {name: _read(paths.METRICS / f"{name}.json") for name in STAGES if name != "source"}
    summary.source = str(_at(metrics["prepare"], "source") or "")
    for name, (folder, what) in ARTIFACTS.items():
        if folder.is_dir():
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            summary.artifacts.append({"name": name, "path": str(folder), "bytes": size, "what": what})
    for name in STAGES:
        if timing := _read(paths.TIMINGS / f"{name}.json"):
            summary.stages.append({"stage": name, **timing})
    summary.missing = [name for name, found in metrics.items() if not found]
    summary.measures = [
        *_language_model(metrics["lm_eval"], metrics["baselines"]),
        *_retrieval(metrics["rag_eval"]),
        *_agent(metrics["agent_eval"]),
    ]
    sample = _at(metrics["lm_eval"], "sample") or _at(metrics["pretrain"], "sample") or {}
    if isinstance(sample, dict):
        summary.sample = {key: str(sample[key]) for key in ("prompt", "text") if key in sample}
    drawn = [file for file in paths.FIGURES.rglob("*") if file.suffix in (".svg", ".png")]
    # those of the milestones stand in the log
    summary.figures = sorted(str(file) for file in drawn if not re.match(r"m\d+_", file.parent.name))
    return summary


def _language_model(scored: Any, baselines: Any) -> list[Measure]:
    value = _number(scored, "test", "bits_per_byte")
    if value is None:
        return []
    beside = {str(name): float(figure) for name, figure in (_at(baselines, "test") or {}).items() if _is_number(figure)}
    interval = _interval(_at(scored, "test", "interval"))
    return [Measure("language model, test split", value, interval, beside, "bits per byte", lower_is_better=True)]


def _retrieval(metrics: Any) -> list[Measure]:
    found = []
    for suite, words in (("retrieval_names_removed", "names removed"), ("retrieval_with_names", "with names")):
        value = _number(metrics, suite, "hybrid", "ndcg@10")
        if value is not None:
            ends = [_number(metrics, suite, "hybrid", f"ndcg@10_{end}") for end in ("low", "high")]
            beside = _numbers(metrics, {"BM25": (suite, "bm25", "ndcg@10"), "dense": (suite, "dense", "ndcg@10")})
            found.append(Measure(f"hybrid retrieval, {words}", value, _interval(ends), beside, "nDCG@10"))
            again = _number(metrics, suite, "reranked", "ndcg@10")
            if again is not None:
                ends = [_number(metrics, suite, "reranked", f"ndcg@10_{end}") for end in ("low", "high")]
                found.append(
                    Measure("the same, reranked by likelihood", again, _interval(ends), {"hybrid": value}, "nDCG@10")
                )
    for system, what, others in _READERS:
        value = _number(metrics, "questions", system, "f1")
        if value is not None:
            ends = [_number(metrics, "questions", system, f"f1_{end}") for end in ("low", "high")]
            beside = _numbers(metrics, {name: ("questions", other, "f1") for name, other in others.items()})
            found.append(Measure(f"answers, {what}", value, _interval(ends), beside, "F1"))
    cited = _number(metrics, "hand_written", "right_source_cited", "rate")
    if cited is not None:
        ends = [_number(metrics, "hand_written", "right_source_cited", end) for end in ("low", "high")]
        beside = _numbers(metrics, {"BM25's first passage": ("hand_written", "bm25", "recall@1")})
        found.append(Measure("answers to hand-written questions", cited, _interval(ends), beside, "right source cited"))
    return found


def _agent(metrics: Any) -> list[Measure]:
    found = []
    suites = _at(metrics, "suites")
    for suite, systems in suites.items() if isinstance(suites, dict) else []:
        for figure, unit in (("exact", "exact calls"), ("answer", "right answers")):
            value = _number(systems, "agent", figure, "rate")
            if value is not None:
                ends = [_number(systems, "agent", figure, end) for end in ("low", "high")]
                others: dict[str, tuple[str, ...]] = {
                    _SYSTEMS.get(name, name): (name, figure, "rate") for name in systems if name != "agent"
                }
                beside = _numbers(systems, others)
                found.append(Measure(f"agent, {_SUITES.get(suite, suite)}", value, _interval(ends), beside, unit))
    return found


def show(summary: Summary) -> None:
    """Print the summary for a person."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    console.rule(f"[bold]from {summary.source or 'the source'} to an assistant")
    console.print("\n[bold]Built")
    console.print(_artifacts_table(summary))
    console.print("\n[bold]Beside its baselines[/bold] (green: better than all of them)")
    _show_measures(console, summary)
    console.print("\n[bold]Time and memory")
    console.print(_stages_table(summary))
    if summary.sample:
        console.print("\n[bold]What the model writes[/bold] (after the part in grey)")
        text = Text(summary.sample.get("prompt", ""), style="bright_black").append(
            summary.sample.get("text", ""), style=""
        )
        console.print(Padding(text, (0, 2)))
    if summary.figures:
        console.print("\n[bold]Figures")
        for figure in summary.figures:
            console.print(f"  {figure}", style="cyan")
    if summary.missing:
        console.print(f"\n[bold yellow]Not run yet[/bold yellow] (`make repro` does): {', '.join(summary.missing)}")
    console.print("\n[bold]Try next")
    width = max(len(words) for words, _ in NEXT)
    for words, command in NEXT:
        console.print(Text(f"  {words:<{width}}  ").append(command, style="cyan"), soft_wrap=True)


def _artifacts_table(summary: Summary) -> Any:
    table = _table("", "size", "where", "")
    for artifact in summary.artifacts:
        table.add_row(artifact["name"], _size(artifact["bytes"]), artifact["path"], artifact["what"])
    total = sum(artifact["bytes"] for artifact in summary.artifacts)
    table.add_row("[dim]together", f"[dim]{_size(total)}", "", "")
    return table


def _show_measures(console: Any, summary: Summary) -> None:
    """Two lines a measure, which fit a narrow terminal: the figure, then what stands beside it."""
    from rich.padding import Padding
    from rich.text import Text

    for measure in summary.measures:
        interval = f" (95%: {measure.interval[0]:.3f} to {measure.interval[1]:.3f})" if measure.interval else ""
        style = "bold green" if measure.beats_all else "bold yellow"
        line = Text(f"  {measure.what}: ").append(f"{measure.value:.3f}", style)
        console.print(line.append(f" {measure.unit}{interval}"))
        if measure.baselines:
            beside = ", ".join(f"{name} {value:.3f}" for name, value in measure.baselines.items())
            console.print(Padding(Text(f"beside {beside}", "dim"), (0, 0, 0, 6)))


def _stages_table(summary: Summary) -> Any:
    table = _table("stage", "time", "peak memory")
    for stage in summary.stages:
        memory = f"{stage['peak_memory_mib']} MiB" if "peak_memory_mib" in stage else ""
        table.add_row(stage["stage"], _clock(stage.get("seconds")), memory)
    seconds = sum(stage["seconds"] for stage in summary.stages if _is_number(stage.get("seconds")))
    peak = max((stage.get("peak_memory_mib", 0) for stage in summary.stages), default=0)
    table.add_row("[dim]together", f"[dim]{_clock(seconds)}", f"[dim]at most {peak} MiB")
    return table


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=any(columns[2:]))
    for i, column in enumerate(columns):
        table.add_column(
            f"[dim]{column}", justify="right" if column in ("size", "ours", "time", "peak memory") else "left"
        )
        table.columns[i].no_wrap = i < len(columns) - 1
    return table


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _clock(seconds: Any) -> str:
    if not _is_number(seconds):
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02} s"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(tree: Any, *keys: str) -> float | None:
    value = _at(tree, *keys)
    return float(value) if _is_number(value) else None


def _numbers(tree: Any, names: dict[str, tuple[str, ...]]) -> dict[str, float]:
    found = {name: _number(tree, *keys) for name, keys in names.items()}
    return {name: value for name, value in found.items() if value is not None}


def _interval(ends: Any) -> tuple[float, float] | None:
    if isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends)):
        return float(ends[0]), float(ends[1])
    return None


def main() -> None:
    """Print the summary, as JSON with `--json`."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.summary", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for a program to read")
    summary = collect()
    if parser.parse_args().json:
        json.dump(asdict(summary), sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        show(summary)


if __name__ == "__main__":
    main()
