"""The board: the artifacts of the pipeline with their lineage, and where each of the fourteen milestones stands."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from llmm import paths
from llmm.errors import UserError
from llmm.ladder.chain import Standing, standings
from llmm.lineage import Artifact, open_artifact

ARTIFACTS = {
    "corpus": paths.CORPUS,
    "tokenizer": paths.TOKENIZER,
    "tokens": paths.TOKENS,
    "model": paths.MODEL,
    "adapter": paths.ADAPTER,
    "encoder": paths.ENCODER,
    "index": paths.INDEX,
}
# state -> (sign, colour)
LOOKS = {
    "passed": ("●", "green"),
    "failing": ("✗", "bold red"),
    "stale": ("◐", "yellow"),
    "not checked": ("○", "cyan"),
    "locked": ("·", "dim"),
    "not built": ("·", "dim"),
}


def board(mine: Path | None = None) -> dict[str, Any]:
    """{"artifacts": a row each with its state, "milestones": a row each with its state}; with `mine` the learner's."""
    if mine is None:
        return {"artifacts": _artifacts(), "milestones": _rows(standings())}
    from llmm.ladder.mine import my_standings

    return {"milestones": _rows(my_standings(mine))}


def _rows(found: Sequence[Standing]) -> list[dict[str, Any]]:
    return [
        {
            "id": s.milestone.id,
            "phase": s.milestone.phase,
            "title": s.milestone.title,
            "folder": s.milestone.folder.as_posix(),
            "state": s.state,
            "reason": s.reason,
            "criteria_met": s.met,
            "criteria": s.total,
        }
        for s in found
    ]


def _artifacts() -> list[dict[str, str]]:
    opened: dict[str, Artifact] = {}
    rows = []
    for kind, folder in ARTIFACTS.items():
        row = {"kind": kind, "path": str(folder), "sha256": "", "state": "ready"}
        try:
            artifact = opened[kind] = open_artifact(folder, kind)
            row["sha256"] = artifact.sha256
            for parent in artifact.made_from:
                if parent in opened:
                    artifact.require(opened[parent])
        except UserError as error:
            row["state"] = str(error)
        rows.append(row)
    return rows


def render(state: dict[str, Any]) -> None:
    """Print the board as tables."""
    from rich.console import Console

    console = Console(soft_wrap=not Console().is_terminal, highlight=False)
    if "artifacts" in state:
        console.print(_artifact_table(state["artifacts"]))
    console.print(_milestone_table(state["milestones"]))
    passed = [row for row in state["milestones"] if row["state"] == "passed"]
    console.print(f"\n{len(passed)} of {len(state['milestones'])} milestones passed; `llmm next` says what to do now")


def _artifact_table(rows: Sequence[dict[str, str]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Artifacts", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("artifact", "hash", "state"):
        table.add_column(column, header_style="dim")
    for row in rows:
        colour = "green" if row["state"] == "ready" else "red"
        table.add_row(row["path"], row["sha256"][:12] or "-", f"[{colour}]{escape(row['state'])}[/]")
    return table


def _milestone_table(rows: Sequence[dict[str, Any]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="\nMilestones", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", "milestone", "state", "criteria", ""):
        table.add_column(column, header_style="dim", overflow="fold")
    for number, (phase, members) in enumerate(groupby(rows, key=lambda row: row["phase"]), start=1):
        table.add_row("", f"[bold]Phase {number}  {phase}[/]")
        for row in members:
            sign, colour = LOOKS[row["state"]]
            met = f"{row['criteria_met']}/{row['criteria']}" if row["criteria"] else ""
            reason = "" if row["state"] == "not built" else escape(row["reason"])
            title = f"{row['id']}  {row['title']}"
            shown = [f"[{colour}]{text}[/]" for text in (title, row["state"], met)]
            table.add_row(f"[{colour}]{sign}[/]", *shown, reason)
    return table
