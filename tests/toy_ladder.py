"""A ladder of two toy milestones in a folder of its own: plain Python, so that a whole check takes a second or two."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from conftest import ROOT

LIST = """
    ladder:
      t01: {phase: Toys, title: Averages, folder: toys/averages, figures: visualizations/t01_averages, prev: requirements.lock}
      t02: {phase: Toys, title: Totals, folder: toys/totals, figures: visualizations/t02_totals, prev: data/ladder/reports/t01.json}
    planned:
      t03: {phase: More toys, title: Medians, folder: toys/medians}
"""
MODULE = '''
    """The mean and the variance of a list of numbers."""

    ROUNDS = 3


    def mean(values: list[float]) -> float:
        """Arithmetic mean. Raises ValueError where there is no value."""
        if not values:
            raise ValueError("no values")
        return sum(values) / len(values)


    def variance(values: list[float]) -> float:
        """Mean squared distance from the mean, 0 for one value."""
        centre = mean(values)
        return sum((value - centre) ** 2 for value in values) / len(values)


    def helper_of_the_reference(values: list[float]) -> float:
        """Not in the contract."""
        return mean(values) + 1
'''
CHECKS = '''
    """What the averages must satisfy."""

    from llmm.ladder.expect import expect_number
    from toys.{name}.averages import mean, variance


    def mean_error() -> float:
        return abs(expect_number("mean", mean([1.0, 2.0, 6.0])) - 3.0)


    def variance_error() -> float:
        return abs(expect_number("variance", variance([1.0, 2.0, 6.0])) - 14 / 3)


    def refuses_nothing() -> bool:
        try:
            mean([])
        except ValueError:
            return True
        return False
'''
SPEC = """
    id: {id}
    title: {title}
    question: "Where does a list of numbers lie, and how far does it spread?"
    modules: [averages]
    contract:
      averages: [mean, variance]
    tests: [tests/test_{name}.py]
    experiments: [draws]
    replay: [draws]
    papers: [papers_notes/0000.00001_{name}.md]
    criteria:
      - id: mean
        what: "Distance from the mean worked out by hand"
        check: mean_error
        op: "<="
        threshold: 1.0e-12
        why: "All else is built on the mean."
        hint: "Divide the sum by the number of values."
      - id: variance
        what: "Distance from the variance worked out by hand"
        check: variance_error
        op: "<="
        threshold: 1.0e-12
        why: "The spread is measured around the mean."
        hint: "Average the squared distances."
      - id: refuses-nothing
        what: "An empty list is refused"
        check: refuses_nothing
        op: "=="
        threshold: true
        why: "Nothing has no mean at all."
        hint: "Raise ValueError before dividing."
      - id: spread-in-the-record
        what: "Mean of uniform draws, over three seeds"
        record: draws.means.mean
        op: in
        threshold: [0.4, 0.6]
        why: "Uniform draws have mean one half."
        hint: "Look at the generator of the draws."
"""
EXPERIMENTS = '''
    """The experiment of the averages."""

    import random
    from pathlib import Path
    from statistics import mean as average, stdev

    from llmm.ladder.records import Record, round_metrics
    from toys.{name}.averages import mean


    def draws(figures: Path) -> Record:
        """How far is the mean of uniform draws from one half?"""
        seeds = [0, 1, 2]

        def means(n: int) -> list[float]:
            return [mean([random.Random(seed).random() for seed in range(1000 * seed, 1000 * seed + n)]) for seed in seeds]

        many, few = means(200), means(20)
        figure = figures / "draws.svg"
        figure.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        metrics = {{
            "means": {{"mean": average(many), "sd": stdev(many), "n": 3}},
            "first": many[0],
            "base": 20,
        }}
        return Record(
            objective="How far is the mean of uniform draws from one half?",
            setup="Two hundred draws of Python's generator for each of three seeds, against twenty.",
            metrics=round_metrics(metrics),
            seeds=seeds,
            ablation=round_metrics([{{"changed": "base", "sd": stdev(many)}}, {{"changed": "20 draws", "sd": stdev(few)}}]),
            figure=figure,
            found="The mean of the draws came out as {{means[mean]:.3f}}, close to one half.",
            negative="Twenty draws say little.",
            timings={{"nothing": 0.0}},
        )
'''
MUTANTS = """
    - {id: one-too-many, bug: Divides by one more than the count., module: averages, replace: "sum(values) / len(values)", with: "sum(values) / (len(values) + 1)", by: mean}
    - {id: one-too-few, bug: Divides by one less than the count., module: averages, replace: "sum(values) / len(values)", with: "sum(values) / max(1, len(values) - 1)", by: mean}
    - {id: no-division, bug: Forgets to divide., module: averages, replace: "sum(values) / len(values)", with: "sum(values)", by: mean}
    - {id: hangs, bug: Never comes back., module: averages, replace: "return sum(values) / len(values)", with: "raise KeyError", by: mean}
    - {id: cubes, bug: Takes the third power., module: averages, replace: "** 2", with: "** 3", by: variance}
    - {id: no-centre, bug: Forgets the centre., module: averages, replace: "value - centre", with: "value", by: variance}
    - {id: sample-variance, bug: Divides by one less., module: averages, replace: "for value in values) / len(values)", with: "for value in values) / (len(values) - 1)", by: variance}
    - {id: accepts-nothing, bug: Takes an empty list., module: averages, replace: "if not values:", with: "if values is None:", by: refuses-nothing}
"""
TESTS = """
    from toys.{name}.averages import mean


    def test_mean():
        assert mean([2.0]) == 2.0
"""


def toy_project(folder: Path) -> Path:
    """A project with the ladder's own code, the toy milestones t01 and t02, and t03 planned."""
    for source in (
        *(ROOT / "llmm").glob("*.py"),
        *(ROOT / "llmm" / "ladder").glob("*"),
        ROOT / "llmm/corpus/__init__.py",
    ):
        if source.is_file():
            target = folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    write(folder / "llmm/ladder/milestones.yaml", LIST)
    for name in ("params.yaml", "requirements.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    write(folder / "toys/__init__.py", "")
    for id_, title, name in (("t01", "Averages", "averages"), ("t02", "Totals", "totals")):
        place = folder / "toys" / name
        write(place / "__init__.py", "")
        write(place / "averages.py", MODULE)
        for file, text in (("checks.py", CHECKS), ("milestone.yaml", SPEC), ("experiments.py", EXPERIMENTS)):
            write(place / file, dedent(text).format(name=name, id=id_, title=title))
        write(place / "mutants.yaml", MUTANTS)
        write(folder / f"tests/test_{name}.py", dedent(TESTS).format(name=name))
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text).lstrip("\n"))


def ladder(folder: Path, *arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """`python -m llmm.ladder.run ...` in the toy project."""
    return python(folder, "-m", "llmm.ladder.run", *arguments, timeout=timeout)


def python(folder: Path, *arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """This Python in the toy project, with the toy project's packages."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
