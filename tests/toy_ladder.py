"""A ladder of two toy milestones in a folder of its own: plain Python, so that a whole check takes a second or two."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from conftest import ROOT

LIST = """
    ladder:
      t01:
        phase: Toys
        title: Averages
        folder: toys/averages
        figures: visualizations/t01_averages
        prev: requirements.lock
      t02:
        phase: Toys
        title: Totals
        folder: toys/totals
        figures: visualizations/t02_totals
        prev: data/ladder/reports/t01.json
    planned:
      t03: {phase: More toys, title: Medians, folder: toys/medians}
"""
MODULE = '''
    """The mean and the variance of a list of numbers."""

    from dataclasses import dataclass

    ROUNDS = 3
    SECRET = [value**2 for value in range(3)]


    @dataclass(frozen=True)
    class Summary:
        """Mean and variance together."""

        mean: float
        variance: float

        def spread(self) -> float:
            """The standard deviation."""
            return self._root()

        def _root(self) -> float:
            return self.variance**0.5


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
    from toys.NAME.averages import mean, variance


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
    id: ID
    title: TITLE
    question: "Where does a list of numbers lie, and how far does it spread?"
    modules: [averages]
    contract:
      averages: [mean, variance]
    tests: [tests/test_NAME.py]
    experiments: [draws]
    replay: [draws]
    papers: [papers_notes/0000.00001_NAME.md]
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
      - id: draws-near-one-half
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
    from statistics import mean as average
    from statistics import stdev

    from llmm.ladder.records import Record, round_metrics
    from toys.NAME.averages import mean

    SEEDS = [0, 1, 2]


    def draws(figures: Path) -> Record:
        """How far is the mean of uniform draws from one half?"""
        many, few = means(200), means(20)
        figure = figures / "draws.svg"
        figure.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        return Record(
            objective="How far is the mean of uniform draws from one half?",
            setup="Two hundred draws of Python's generator for each of three seeds, against twenty.",
            metrics=round_metrics({"means": {"mean": average(many), "sd": stdev(many), "n": 3}, "first": many[0]}),
            seeds=SEEDS,
            ablation=round_metrics([{"changed": "base", "sd": stdev(many)}, {"changed": "20 draws", "sd": stdev(few)}]),
            figure=figure,
            found="The mean of the draws came out as {means[mean]:.3f}, close to one half.",
            negative="Twenty draws say little.",
            timings={"ratio": 1.5},
        )


    def means(n: int) -> list[float]:
        generators = [random.Random(seed) for seed in SEEDS]
        return [mean([generator.random() for _ in range(n)]) for generator in generators]
'''
PLANTED = [
    ("one-too-many", "sum(values) / len(values)", "sum(values) / (len(values) + 1)", "mean"),
    ("one-too-few", "sum(values) / len(values)", "sum(values) / max(1, len(values) - 1)", "mean"),
    ("no-division", "sum(values) / len(values)", "sum(values)", "mean"),
    ("raises", "return sum(values) / len(values)", "raise KeyError", "mean"),
    ("cubes", "(value - centre) ** 2", "(value - centre) ** 3", "variance"),
    ("no-centre", "value - centre", "value", "variance"),
    ("sample-variance", "for value in values) / len(values)", "for value in values) / (len(values) - 1)", "variance"),
    ("accepts-nothing", "if not values:", "if values is None:", "refuses-nothing"),
]
TESTS = """
    from toys.NAME.averages import mean


    def test_mean():
        assert mean([2.0]) == 2.0
"""
README = """
    # LABEL

    ## Problem

    A list of numbers is to be summed up by where it lies and by how far it spreads. One number answers the first
    question, another the second, and both must be the ones that a reader would work out by hand on a small list, so
    that nobody needs to trust the program more than their own arithmetic.

    ## Derivations

    The mean is the point that is nearest to all values in the sense of squares. Write the sum of squared distances
    from a point as a function of that point and set its derivative to zero: the distances must cancel, so the point
    is the sum of the values divided by their number.

    $$ m = \\frac{1}{n} \\sum_i x_i $$

    Put this point back and what is left over is the smallest sum of squares that any point can reach. Divided by
    the number of values it is called the variance, and it does not change when all values are moved by the same
    amount, for the mean moves with them.

    $$ v = \\frac{1}{n} \\sum_i (x_i - m)^2 $$

    Multiply out the square to see that the variance is the mean of the squares without the square of the mean. This
    form needs one pass only, but it takes the difference of two large numbers where the values lie far from zero,
    and so it loses digits that the first form keeps.

    $$ v = \\frac{1}{n} \\sum_i x_i^2 - m^2 $$

    The tests hold the first two against values that were worked out by hand.

    ## Implementation plan

    One module with two functions. The first adds the values up and divides, and refuses an empty list, which has no
    mean at all. The second calls the first and averages the squares of what is left. Neither needs anything beyond
    the language, and each can be read in one glance.

    ## Experiments

    Draws from a uniform generator should have a mean near one half. We take two hundred of them for each of three
    seeds, and see by how much the means differ; then the same with twenty draws, where the spread between the seeds
    should be about three times as large, since it falls with the root of the number.

    ## Misconceptions

    That the mean is a typical value: of many lists it is no value at all. That dividing by one less is always
    right: it is when the list is a sample and its mean was estimated from it, and not when the list is all there
    is.

    ## Checklist

    <!-- generated: checklist -->
    <!-- end -->

    ## Planted bugs

    <!-- generated: kills -->
    <!-- end -->

    ## Going further

    Medians are nearest in the sense of distances instead of squares, and a single wild value cannot move them far.
"""
PAPER = """
    # On adding things up (Somebody, 1900)

    ## Claim

    That the sum of the values divided by their number is the best single number for a list, if distances count by
    their squares, and that no other choice does better.

    ## Method

    The author writes the sum of squares as a function of the point, differentiates it, and finds that the
    derivative is zero at one place only, which is a minimum.

    ## Equations and where they live

    The mean, equation one, is `averages:mean`; the spread around it is `averages:variance`.

    ## Reproduced

    Means of draws of three seeds lie at [0.50](../data/ladder/ID.json#draws.means.mean), as near to one half as two
    hundred draws allow them to be.

    ## Doubts

    Why squares? The argument assumes what it wants to show, and a list with one wild value shows at once that another
    measure of distance can be the better one.
"""
# two entries that share nothing: the second is no copy of the first
ENTRIES = {
    "t01": """
    **Predicted.** I thought that `draws` would land within a hundredth of one half, because two hundred
    draws seemed to be a great many to me, and that the seeds would hardly be told apart from each other by their
    means.

    **Found.** Over three seeds the mean is [0.500](data/ladder/ID.json#draws.means.mean) with a deviation of
    [0.018](data/ladder/ID.json#draws.means.sd) between the seeds, and the first seed alone gives
    [0.520](data/ladder/ID.json#draws.first). So a single seed can look much better than the whole.

    ![Means of draws](visualizations/t01_averages/draws.svg)

    **Surprised.** The deviation was twice what I had guessed. One over the root of twelve times two hundred
    explains it: a uniform draw spreads more than I had in mind, and the root shrinks slowly.

    **A misconception that fell.** I believed that a large number of draws makes noise vanish. It makes it smaller
    by its root only, which is a much weaker promise.

    **Open.** How would the picture look for draws whose variance does not exist? The root law must then break down,
    and I do not know what takes its place.
    """,
    "t02": """
    **Predicted.** My bet for `draws` was a value slightly under a half, with twenty samples scattering
    three times wider than two hundred did, since a tenth of the data ought to triple the error.

    **Found.** Averaging gave [0.5000](data/ladder/ID.json#draws.means.mean); scatter amounted to
    [0.0181](data/ladder/ID.json#draws.means.sd), and seed zero reached [0.5203](data/ladder/ID.json#draws.first).
    The bet about its sign came true by luck alone.

    ![Again](visualizations/t02_totals/draws.svg)

    **Surprised.** Scatter shrinks a bit less than my rule of thumb says when only three repetitions are compared,
    because an estimated deviation is itself quite noisy at such small counts.

    **A misconception that fell.** "Three repetitions are plenty." They show that something varies, hardly how much;
    for the amount itself one wants dozens of them.

    **Open.** Which number of repetitions makes an error bar trustworthy within a tenth? Someone could find out here
    by running this experiment a hundred times over with other generators, and by plotting what comes out of it.
    """,
}
TOYS = (("t01", "Averages", "averages"), ("t02", "Totals", "totals"))


def toy_project(folder: Path) -> Path:
    """A project with the ladder's own code, the toy milestones t01 and t02 as they would pass, and t03 planned."""
    framework = [*(ROOT / "llmm").glob("*.py"), *(ROOT / "llmm" / "ladder").glob("*"), ROOT / "llmm/corpus/__init__.py"]
    for source in (source for source in framework if source.is_file() and source.name != "dvc.lock"):
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    for name in ("params.yaml", "requirements.lock", ".gitignore"):
        shutil.copy2(ROOT / name, folder / name)
    write(folder / "llmm/ladder/milestones.yaml", LIST)
    write(folder / "pyproject.toml", "[tool.pytest.ini_options]\n")
    write(folder / "roadmap.md", "<!-- generated: milestones -->\n<!-- end -->\n")
    write(folder / "experiments_log.md", "<!-- generated: ladder -->\n<!-- end -->\n")
    write(folder / "toys/__init__.py", "")
    sections = ["# Journal\n"]
    for id_, title, name in TOYS:
        label = f"M{int(id_[1:])} {title}"
        place = folder / "toys" / name
        put = functools.partial(_put, values={"ID": id_, "TITLE": title, "NAME": name, "LABEL": label})
        put(place / "__init__.py", '"""A toy."""\n')
        put(place / "averages.py", MODULE)
        put(place / "checks.py", CHECKS)
        put(place / "experiments.py", EXPERIMENTS)
        put(place / "milestone.yaml", SPEC)
        put(place / "mutants.yaml", "".join(planted(*bug) for bug in PLANTED))
        put(place / "README.md", README)
        put(folder / f"tests/test_{name}.py", TESTS)
        put(folder / f"papers_notes/0000.00001_{name}.md", PAPER)
        sections.append(f"## {label}\n{dedent(ENTRIES[id_])}".replace("ID.json", f"{id_}.json"))
    write(folder / "learning_journal.md", "\n".join(sections))
    done = python(folder, "-m", "llmm.ladder.documents")
    assert done.returncode == 0, done.stderr
    return folder


def planted(id_: str, replace: str, by_what: str, by: str) -> str:
    """A planted bug as it stands in mutants.yaml."""
    fields = {"id": id_, "bug": f"Is wrong by {id_}.", "module": "averages"}
    fields |= {"replace": f'"{replace}"', "with": f'"{by_what}"', "by": by}
    return "- " + "\n  ".join(f"{key}: {value}" for key, value in fields.items()) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file of the toy project."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path}: {old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def ladder(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m llmm.ladder.run ...` in the toy project."""
    return python(folder, "-m", "llmm.ladder.run", *arguments)


def llmm(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`llmm ...` in the toy project."""
    return python(folder, "-m", "llmm.cli", *arguments)


def python(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """This Python in the toy project, with the toy project's packages."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def _put(path: Path, text: str, values: dict[str, str]) -> None:
    text = dedent(text)
    for key, value in values.items():
        text = text.replace(key, value)
    write(path, text)
