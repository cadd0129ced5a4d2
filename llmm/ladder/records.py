"""What an experiment leaves behind: a `Record` for each, all of a milestone's in one deterministic JSON file.

Seconds and speed-ups differ from run to run, so they are kept in a file of their own under `data/timings`.
"""

import math
import re
import statistics
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.paths import DATA, TIMINGS

RECORDS = DATA / "ladder"
_DECIMAL = re.compile(r"\d+\.\d+|\d+e[-+]?\d+")
_FIELD = re.compile(r"\{[^{}]*\}")


class Record(BaseModel):
    """One experiment: the question, how to repeat it, what came out.

    `metrics` must come out the same in every run. `found` and `negative` name numbers only by reference to them
    ("{accuracy[mean]:.3f}"), so that no text can say anything else than the run did. `ablation` is a table, one dict a
    row, whose column "changed" says what was different. `timings` (measured seconds and ratios) are kept apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    objective: str
    setup: str
    metrics: dict[str, Any]
    seeds: list[int]
    ablation: list[dict[str, Any]]
    figure: Path
    found: str
    negative: str = ""
    timings: dict[str, Any] = {}

    @field_validator("metrics", "ablation")
    @classmethod
    def _json_values(cls, value: Any) -> Any:
        return _checked(value, "")

    @field_validator("timings")
    @classmethod
    def _seconds_of_the_whole_are_measured_around_it(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "seconds" in value:
            raise ValueError("timings: `seconds` is the time of the whole experiment: choose another name")
        return value

    @model_validator(mode="after")
    def _text_refers_to_metrics(self) -> "Record":
        for name in ("found", "negative"):
            text = getattr(self, name)
            if literal := _DECIMAL.search(_FIELD.sub("", text)):
                raise ValueError(f"{name}: writes the number {literal[0]} out, instead of {{a_metric:.3f}}")
            _filled(text, self.metrics, name)
        return self

    def stored(self) -> dict[str, Any]:
        """The record as it is stored: text filled in, timings left out."""
        fields = self.model_dump(exclude={"timings", "figure"})
        texts = {name: _filled(getattr(self, name), self.metrics, name) for name in ("found", "negative")}
        return fields | texts | {"figure": self.figure.as_posix()}


def spread(values: Iterable[Any]) -> dict[str, float]:
    """Mean, standard deviation (n - 1) and number of at least two `values`, one a seed: {"mean", "sd", "n"}."""
    found = [float(value) for value in values]
    return {"mean": statistics.fmean(found), "sd": statistics.stdev(found), "n": len(found)}


def round_metrics(value: Any, digits: int = 6) -> Any:
    """`value` with every float in it rounded to `digits` significant digits; numpy's numbers become Python's.

    Keeps the bytes of a record the same where the last bits of a sum depend on the machine.
    """
    if isinstance(value, Mapping):
        return {str(key): round_metrics(item, digits) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy's and torch's arrays and scalars
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [round_metrics(item, digits) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{digits}g}")
    return value


def record_path(milestone: str) -> Path:
    """Where the records of a milestone stand."""
    return RECORDS / f"{milestone}.json"


def timings_path(milestone: str) -> Path:
    """Where the measured seconds of a milestone's experiments stand."""
    return TIMINGS / f"ladder_{milestone}.json"


def write_records(milestone: str, inputs: Mapping[str, str], records: Mapping[str, Record]) -> None:
    """Write the records of all experiments of `milestone`, made by the files whose sha256 `inputs` holds."""
    stored = {name: record.stored() for name, record in records.items()}
    write_json(record_path(milestone), {"milestone": milestone, "inputs": dict(inputs), "experiments": stored})


def read_records(milestone: str) -> dict[str, Any]:
    """{"milestone", "inputs", "experiments": name -> stored record}. Raises UserError where it is not there."""
    path = record_path(milestone)
    if not path.exists():
        raise UserError(f"{path} is not there: `make ladder` runs the experiments")
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("experiments"), dict):
        raise UserError(f"{path} holds no records: `dvc repro -f` its experiments stage")
    return found


def metric(experiments: Mapping[str, Any], path: str) -> Any:
    """The value at `path`, "<experiment>.<metric>[.<key or index>...]". Raises UserError, naming the step not found."""
    experiment, _, rest = path.partition(".")
    if experiment not in experiments:
        known = ", ".join(experiments) or "none has been run"
        raise UserError(f"no experiment {experiment} in the record: {known}")
    value: Any = experiments[experiment]["metrics"]
    for step in rest.split(".") if rest else []:
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            known = ", ".join(map(str, value)) if isinstance(value, dict) else f"a {type(value).__name__}"
            raise UserError(f"no {step} in {path}: the record has {known}") from None
    return value


def explain_invalid(error: ValidationError) -> str:
    """The first fault of a record in one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"


def _checked(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where}{key!r}: keys are strings")
            _checked(item, f"{where}{key}.")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            _checked(item, f"{where}{index}.")
    elif not isinstance(value, str | int | float | bool | None):
        name = type(value).__name__
        raise ValueError(f"{where.rstrip('.')} is a {name}: use round_metrics, which makes plain numbers of it")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where.rstrip('.')} is {value}: say what happened by a bool or a string")
    return value


def _filled(text: str, metrics: Mapping[str, Any], name: str) -> str:
    try:
        return string.Formatter().vformat(text, (), metrics)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: {error} while filling in {text!r}") from None
