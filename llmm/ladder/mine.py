"""A learner's own implementation under the same criteria, and their progress, apart from the reference's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.files import sha256_of, write_json
from llmm.ladder.chain import Standing, gate
from llmm.ladder.milestones import Milestone, load_milestones
from llmm.ladder.spec import one_line
from llmm.ladder.stubs import learner_folder

PROGRESS = "progress.json"


def check_mine(milestone: Milestone, root: Path) -> list[Any]:
    """The results of every criterion that is measured on code, with the learner's files in the place of the contract's.

    Each runs in a process of its own with limits of time and memory. The outcome is kept in `root`/progress.json.
    Raises UserError where a file is missing or is no Python.
    """
    from llmm.ladder import workers
    from llmm.ladder.criteria import STRICT, Subject, machine_results
    from llmm.ladder.overlay import learner_sources

    folder = learner_folder(milestone, root)
    if not folder.is_dir():
        raise UserError(f"{folder} is not there: `llmm begin {milestone.id} --into {root}` writes stubs")
    sources = learner_sources(milestone.package, list(milestone.spec.contract), folder.resolve())
    workers.start_server(milestone.spec.preload)
    hashes = _hashes(milestone, root)
    subject = Subject(milestone, sources, path=(str(folder.resolve()),), limits=STRICT)
    results = machine_results(subject, milestone.spec.criteria)
    entry = {
        "criteria": [result.stored() for result in results],
        "criteria_sha256": milestone.spec.criteria_sha256,
        "files": hashes,
    }
    write_json(root / PROGRESS, _progress(root) | {milestone.id: entry})
    return results


def my_standings(root: Path) -> list[Standing]:
    """Where the learner stands on each milestone; one is locked until those below it are passed."""
    progress = _progress(root)
    return gate([_own(milestone, root, progress.get(milestone.id)) for milestone in load_milestones()])


def _own(milestone: Milestone, root: Path, entry: Any) -> Standing:
    if not milestone.is_built:
        return Standing(milestone, "not built", "no exit criteria yet")
    total = sum(bool(criterion.check) for criterion in milestone.spec.criteria)
    standing = Standing(milestone, "not checked", f"`llmm begin {milestone.id} --into {root}`", 0, total)
    if learner_folder(milestone, root).is_dir():
        standing = replace(standing, reason=f"`llmm check {milestone.id} --mine {root}`")
    if entry is None:
        return standing
    failed = [criterion for criterion in entry["criteria"] if not criterion["passed"]]
    standing = replace(standing, met=len(entry["criteria"]) - len(failed), total=len(entry["criteria"]))
    if entry["criteria_sha256"] != milestone.spec.criteria_sha256:
        return replace(standing, state="stale", reason="the criteria have changed since the check")
    if entry["files"] != _hashes(milestone, root):
        return replace(standing, state="stale", reason="your files have changed since the check")
    if failed:
        first = failed[0]
        return replace(standing, state="failing", reason=one_line(first["id"], first["got"], first["expected"]))
    return replace(standing, state="passed", reason="")


def _hashes(milestone: Milestone, root: Path) -> dict[str, str]:
    folder = learner_folder(milestone, root)
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.rglob("*.py"))}


def _progress(root: Path) -> dict[str, Any]:
    path = root / PROGRESS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no readable JSON: delete it and check again")
    return content
