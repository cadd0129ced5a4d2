"""Planted bugs: small wrong variants of a milestone's modules that its checks must catch.

A check suite that lets one live is no check. Each variant is the module's source with one piece of text replaced,
loaded over the original in a process of its own.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmm.errors import UserError
from llmm.ladder import workers
from llmm.ladder.criteria import STRICT, Subject, judge
from llmm.ladder.milestones import Milestone
from llmm.ladder.overlay import Source
from llmm.ladder.spec import Criterion, read_yaml

MUTANTS_FILE = "mutants.yaml"
FEWEST_MUTANTS = 8


class Mutant(BaseModel):
    """A planted bug: in `module` the text `replace`, there once, becomes `with`; the criterion `by` notices it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    bug: str
    module: str
    replace: str
    with_: str = Field(alias="with")
    by: str


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: the criterion that killed it, or "" for a survivor."""

    mutant: Mutant
    killed_by: str

    @property
    def fault(self) -> str:
        """What is wrong with it, in one line; "" if it died as it should."""
        if not self.killed_by:
            return f"{self.mutant.id} lives: no criterion notices that the code {self.mutant.bug.rstrip('.')!r}"
        if self.killed_by != self.mutant.by:
            return (
                f"{self.mutant.id}: {self.mutant.by} does not notice it, {self.killed_by} does: name that one in `by`"
            )
        return ""


def load_mutants(milestone: Milestone) -> list[Mutant]:
    """The planted bugs of a milestone. Raises UserError, naming file and bug, for any fault in them."""
    path = milestone.folder / MUTANTS_FILE
    content = read_yaml(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: a list of planted bugs is expected")
    try:
        mutants = [Mutant.model_validate(entry) for entry in content]
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {first['input']!r:.80}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    killers = {criterion.id for criterion in _killers(milestone)}
    for mutant in mutants:
        if [other.id for other in mutants].count(mutant.id) > 1:
            raise UserError(f"{path}: {mutant.id} stands there twice")
        if mutant.module not in milestone.spec.modules:
            raise UserError(f"{path}: {mutant.id}: {mutant.module} is none of the modules")
        if mutant.by not in killers:
            raise UserError(f"{path}: {mutant.id}: {mutant.by} is no criterion with a steady `check`")
        mutated(milestone, mutant)
    return mutants


def mutated(milestone: Milestone, mutant: Mutant) -> dict[str, Source]:
    """The overlay that plants the bug. Raises UserError where its text does not stand in the module exactly once."""
    module = milestone.folder / f"{mutant.module.replace('.', '/')}.py"
    text = module.read_text(encoding="utf-8")
    where = f"{milestone.folder / MUTANTS_FILE}: {mutant.id}"
    if (count := text.count(mutant.replace)) != 1:
        raise UserError(f"{where}: its `replace` stands {count} times in {module}, expected once")
    changed = text.replace(mutant.replace, mutant.with_)
    try:
        same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text))
    except SyntaxError as error:
        raise UserError(f"{where}: the module is no Python any more: line {error.lineno}: {error.msg}") from None
    if same:
        raise UserError(f"{where}: the replacement changes nothing")
    return {f"{milestone.package}.{mutant.module}": Source(str(module.resolve()), changed)}


def hunt(milestone: Milestone, mutants: Sequence[Mutant]) -> list[Verdict]:
    """Which criterion kills each mutant: the one that it names first, then the others in their order."""
    return list(workers.in_parallel(lambda mutant: _verdict(milestone, mutant), mutants))


def _verdict(milestone: Milestone, mutant: Mutant) -> Verdict:
    subject = Subject(milestone, mutated(milestone, mutant), limits=STRICT, quiet=True)
    order = sorted(_killers(milestone), key=lambda criterion: criterion.id != mutant.by)
    for criterion in order:
        if not judge(criterion, workers.run(subject.call(criterion))).passed:
            return Verdict(mutant, criterion.id)
    return Verdict(mutant, "")


def _killers(milestone: Milestone) -> list[Criterion]:
    """Criteria that can tell a bug: measured on the code, and not on a clock."""
    return [criterion for criterion in milestone.spec.criteria if criterion.check and not criterion.noisy]


def as_json(verdict: Verdict) -> dict[str, Any]:
    """As the report keeps it."""
    return {"id": verdict.mutant.id, "bug": verdict.mutant.bug, "killed_by": verdict.killed_by}
