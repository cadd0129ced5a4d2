"""What a milestone's README owes its derivations: every section names tests, every equation cited in code is there."""

import re
from collections.abc import Container
from pathlib import Path

from llmm.ladder.spec import read_yaml


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
    numbers = re.findall(r"\\tag\{([\d.]+)\}", text)
    assert len(numbers) == len(set(numbers))
    spec = read_yaml(readme.parent / "milestone.yaml")
    sources = [(readme.parent / f"{module}.py").read_text(encoding="utf-8") for module in spec["modules"]]
    sources = [re.sub(r"\bM\d+ \([\d., ]+\)", "", source) for source in sources]  # equations of another milestone
    cited = {number for source in sources for number in re.findall(r"[( ]([1-9]\d?\.[1-9])\)", source)}
    assert len(cited) >= 15
    assert cited <= set(numbers)
