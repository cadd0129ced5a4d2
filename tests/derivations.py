"""What a milestone's README owes its derivations: every section names tests, every equation cited in code is there."""

import re
from collections.abc import Container
from pathlib import Path

from llmm.ladder.milestones import find_milestone
from llmm.ladder.spec import read_yaml

ELSEWHERE = re.compile(r"\bM(\d+) \(([\d., ]+)\)")  # equations of another milestone: "M5 (11.1, 11.2)"


def assert_derivations_are_tested(readme: Path, tests: Container[str]) -> None:
    """Fail where a section of the derivations names no test or one that is not in `tests`, or a citation is wrong."""
    text = readme.read_text(encoding="utf-8")
    derivations = re.split(
        r"^### ", text.partition("## Derivations")[2].partition("## Implementation plan")[0], flags=re.M
    )
    for section in derivations[1:]:
        named = re.findall(r"`(test_\w+)`", section)
        assert named, section.splitlines()[0]
        assert [name for name in named if name not in tests] == []
    numbers = _equations(text)
    assert len(numbers) == len(set(numbers))
    spec = read_yaml(readme.parent / "milestone.yaml")
    sources = [(readme.parent / f"{module}.py").read_text(encoding="utf-8") for module in spec["modules"]]
    for milestone, others in (found for source in sources for found in ELSEWHERE.findall(source)):
        there = find_milestone(f"m{int(milestone):02}").folder / "README.md"
        assert set(others.split(", ")) <= set(_equations(there.read_text(encoding="utf-8")))
    sources = [ELSEWHERE.sub("", source) for source in sources]
    cited = {number for source in sources for number in re.findall(r"[( ]([1-9]\d?\.[1-9])\)", source)}
    assert len(cited) >= 15
    assert cited <= set(numbers)


def _equations(text: str) -> list[str]:
    """The numbers of a README's equations."""
    return re.findall(r"\\tag\{([\d.]+)\}", text)
