"""What there is: the artifacts of the pipeline with their lineage, and the fourteen milestones."""

from pathlib import Path
from typing import Any

from llmm import paths
from llmm.errors import UserError
from llmm.lineage import Artifact, open_artifact

MILESTONES = Path(__file__).with_name("milestones.yaml")
ARTIFACTS = {
    "corpus": paths.CORPUS,
    "tokenizer": paths.TOKENIZER,
    "tokens": paths.TOKENS,
    "model": paths.MODEL,
    "adapter": paths.ADAPTER,
    "encoder": paths.ENCODER,
    "index": paths.INDEX,
}
IN_USE, NOT_BUILT = "in the pipeline; no exit criteria yet", "not built yet"


def board() -> dict[str, Any]:
    """{"artifacts": one row each with its state, "milestones": one row each with its state}."""
    return {"artifacts": _artifacts(), "milestones": _milestones()}


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


def _milestones() -> list[dict[str, str]]:
    from ruamel.yaml import YAML

    rows = []
    for milestone in YAML(typ="safe", pure=True).load(MILESTONES.read_text(encoding="utf-8")):
        modules = [file for file in Path(milestone["folder"]).glob("*.py") if file.name != "__init__.py"]
        rows.append({**milestone, "state": IN_USE if modules else NOT_BUILT})
    return rows


def render(state: dict[str, Any]) -> None:
    """Print the board as two tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=not Console().is_terminal)
    artifacts = Table(title="Artifacts", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("artifact", "hash", "state"):
        artifacts.add_column(column)
    for row in state["artifacts"]:
        colour = "green" if row["state"] == "ready" else "red"
        artifacts.add_row(row["path"], row["sha256"][:12] or "-", f"[{colour}]{row['state']}[/]")
    milestones = Table(title="\nMilestones", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", "milestone", "phase", "state"):
        milestones.add_column(column)
    for row in state["milestones"]:
        colour = "cyan" if row["state"] == IN_USE else "dim"
        milestones.add_row(row["id"], row["title"], row["phase"], f"[{colour}]{row['state']}[/]")
    console.print(artifacts)
    console.print(milestones)
