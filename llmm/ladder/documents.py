"""Writes the generated parts of the ladder's documents: `python -m llmm.ladder.documents [--check]`.

The checklist and the planted bugs of each milestone's README, the tables of roadmap.md, the ladder's part of
experiments_log.md. `--check` changes nothing and fails where a part is not what specs and records say.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from llmm.files import write_text
from llmm.generated import fill
from llmm.ladder.log import LOG, log_parts
from llmm.ladder.milestones import load_milestones
from llmm.ladder.parts import readme_parts, roadmap_parts

ROADMAP = Path("roadmap.md")
Parts = dict[str, Callable[[], str]]


def documents() -> dict[Path, Parts]:
    """Each document that is there, with the parts that the ladder writes in it."""
    milestones = load_milestones()
    found: dict[Path, Parts] = {ROADMAP: roadmap_parts(milestones), LOG: log_parts(milestones)}
    found |= {m.folder / "README.md": readme_parts(m) for m in milestones if m.is_built}
    return {path: parts for path, parts in found.items() if path.is_file()}


def rendered() -> dict[Path, str]:
    """Each document that has drifted -> what it should say. Other programs' parts are left as they are."""
    drifted = {}
    for path, parts in documents().items():
        text = path.read_text(encoding="utf-8")
        if (filled := fill(text, parts, leave_others=True)) != text:
            drifted[path] = filled
    return drifted


def write() -> list[Path]:
    """Bring every document up to date; returns those that were not."""
    drifted = rendered()
    for path, text in drifted.items():
        write_text(path, text)
    return list(drifted)


def main() -> None:
    """Rewrite the documents, or with `--check` say which are not true any more."""
    parser = argparse.ArgumentParser(prog="python -m llmm.ladder.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where a part has drifted")
    check = parser.parse_args().check
    drifted = list(rendered()) if check else write()
    if drifted:
        print(f"{'drifted' if check else 'rewritten'}: {', '.join(map(str, drifted))}")
    sys.exit(1 if check and drifted else 0)


if __name__ == "__main__":
    main()
