"""The ladder's part of experiments_log.md: every experiment of every record, the highest milestone first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.files import read_json
from llmm.ladder.milestones import Milestone
from llmm.ladder.records import read_records, record_path, timings_path

LOG = Path("experiments_log.md")
_LONGEST_LIST = 8


def log_parts(milestones: Sequence[Milestone]) -> dict[str, Callable[[], str]]:
    """The part of the log that the ladder writes."""
    return {"ladder": partial(render, milestones)}


def render(milestones: Sequence[Milestone]) -> str:
    """All records as Markdown. Raises UserError where a record is unreadable."""
    lines: list[str] = []
    for milestone in reversed(milestones):
        if record_path(milestone.id).exists():
            seconds = _seconds(milestone)
            for name, record in read_records(milestone.id)["experiments"].items():
                lines += _entry(milestone, name, record, seconds.get(name, {}))
    return "\n".join(lines) if lines else "No experiment of the ladder has been run.\n"


def _entry(milestone: Milestone, name: str, record: Mapping[str, Any], timings: Mapping[str, Any]) -> list[str]:
    seeds = f" Seeds {', '.join(map(str, record['seeds']))}." if record["seeds"] else " Nothing in it is random."
    lines = [f"## {milestone.label}: {name.replace('_', ' ')}", ""]
    setup = record["setup"].rstrip(".").removesuffix(seeds.rstrip(".")).rstrip(".")  # some setups name them as well
    lines += [f"- **Objective.** {record['objective']}", f"- **Setup.** {setup}.{seeds}"]
    lines += [f"- **Found.** {record['found']}"]
    lines += [f"- **Negative.** {record['negative']}"] if record["negative"] else []
    lines += ["", f"![{name.replace('_', ' ')}]({record['figure']})", ""]
    lines += ["| metric | value |", "|---|---|"]
    lines += [f"| {path} | {value} |" for path, value in _flat(record["metrics"], "")]
    lines += ["", *_table(record["ablation"]), ""]
    if timings:
        measured = [f"{path} {value}" for path, value in _flat(timings, "") if path != "seconds"]
        also = f" Measured in that run: {', '.join(measured)}." if measured else ""
        lines += [f"Took {timings['seconds']:.1f} s.{also}", ""]
    return lines


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(_plain(row.get(column, '')) for column in columns)} |" for row in rows]


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """("accuracy", "0.975 ± 0.002 (n = 5)") for every leaf; mean and sd in one."""
    if isinstance(value, Mapping) and {"mean", "sd", "n"} <= value.keys():
        yield path, _plain(value)
        rest = {key: item for key, item in value.items() if key not in ("mean", "sd", "n")}
        yield from _flat(rest, path) if rest else ()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        if {"mean", "sd", "n"} <= value.keys():
            return f"{_plain(value['mean'])} ± {value['sd']:.2g} (n = {value['n']})"
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        more = ", …" if len(value) > _LONGEST_LIST else ""
        return ", ".join(_plain(item) for item in value[:_LONGEST_LIST]) + more
    return str(value).replace("|", "\\|")


def _seconds(milestone: Milestone) -> Mapping[str, Any]:
    try:
        return read_json(timings_path(milestone.id))["experiments"]
    except (UserError, KeyError):
        return {}
