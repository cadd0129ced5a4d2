"""`milestone.yaml` as typed objects: what a milestone asks, what a learner writes, when it is passed."""

import hashlib
import json
import math
import operator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from llmm.errors import UserError

SPEC_FILE = "milestone.yaml"
Operator = Literal["<=", ">=", "<", ">", "==", "in"]
Threshold = bool | int | float | str | list[float]
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


class Criterion(BaseModel):
    """An exit criterion: `what` is measured by the function `check` of checks.py or stands at `record` in a record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    what: str
    check: str = ""
    record: str = ""
    op: Operator
    threshold: Threshold
    noisy: bool = False
    why: str
    hint: str

    @field_validator("id")
    @classmethod
    def _dashed(cls, value: str) -> str:
        if value != value.lower() or not value.replace("-", "").isalnum():
            raise ValueError("lower-case words joined by dashes are expected")
        return value

    @field_validator("what", "why", "hint")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if len(value.split()) < 3:
            raise ValueError("a phrase of at least three words is expected")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Criterion":
        if bool(self.check) == bool(self.record):
            raise ValueError("needs either `check` or `record`")
        if self.noisy and self.record:
            raise ValueError("a record is not noisy: `noisy` goes with `check`")
        bounds = self.threshold if isinstance(self.threshold, list) else None
        if (bounds is not None) != (self.op == "in") or (bounds is not None and len(bounds) != 2):
            raise ValueError("`in` goes with a threshold [low, high], any other op with a single value")
        return self

    @property
    def expected(self) -> str:
        """ "<= 1e-08", "in [0.95, 1.05]"."""
        value = json.dumps(self.threshold) if isinstance(self.threshold, bool | list) else self.threshold
        return f"{self.op} {value}"

    def holds(self, value: Any) -> bool:
        """Whether `value` meets the threshold; nothing that is not a number, bool or string does, nor does NaN."""
        if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and math.isnan(value)):
            return False
        if self.op == "==":
            return bool(value == self.threshold) and isinstance(value, bool) == isinstance(self.threshold, bool)
        if isinstance(value, str) or isinstance(self.threshold, str):
            return False
        if isinstance(self.threshold, list):
            return self.threshold[0] <= value <= self.threshold[1]
        return bool(_COMPARE[self.op](value, self.threshold))


class Spec(BaseModel):
    """A milestone's milestone.yaml; see the fields' comments in any of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    question: str
    modules: list[str]
    contract: dict[str, list[str]]
    preload: list[str] = []
    tests: list[str]
    experiments: list[str]
    replay: list[str]
    timed: list[str] = []  # experiments that measure seconds: they run alone, after the others
    papers: list[str]
    criteria: list[Criterion]

    @model_validator(mode="after")
    def _consistent(self) -> "Spec":
        ids = [criterion.id for criterion in self.criteria]
        if twice := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
            raise ValueError(f"criteria: {twice[0]} stands there twice")
        if not any(criterion.check for criterion in self.criteria):
            raise ValueError("criteria: at least one needs a `check`")
        for name, part, whole in (
            ("contract", list(self.contract), self.modules),
            ("replay", self.replay, self.experiments),
            ("timed", self.timed, self.experiments),
        ):
            if unknown := sorted(set(part) - set(whole)):
                raise ValueError(f"{name}: {unknown[0]} is none of {', '.join(whole)}")
        for criterion in self.criteria:
            if criterion.record and criterion.record.partition(".")[0] not in self.experiments:
                raise ValueError(f"criteria.{criterion.id}.record: no experiment {criterion.record.partition('.')[0]}")
        return self

    @property
    def criteria_sha256(self) -> str:
        """Of all thresholds and how they are compared: lowering one changes it."""
        content = [
            criterion.model_dump(include={"id", "check", "record", "op", "threshold"}) for criterion in self.criteria
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def one_line(id_: str, got: str, expected: str) -> str:
    """A criterion as measured: "gradient: 0.2, must be <= 1e-08"."""
    return f"{id_}: {got}, must be {expected}" if expected else f"{id_}: {got}"


def load_spec(folder: Path) -> Spec:
    """`folder`/milestone.yaml. Raises UserError with one line that names the file and the key for any fault."""
    path = folder / SPEC_FILE
    try:
        return Spec.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
        ) from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file that holds a mapping or a list. Raises UserError where it is missing or is no YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no readable YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict | list):
        raise UserError(f"{path} is empty or holds a single value")
    return content
