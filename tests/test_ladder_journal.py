"""The journal's checker lets an honest entry pass, and none that is a template, filler, a copy or not true."""

from textwrap import dedent

import pytest
from toy_ladder import ENTRIES, SPEC, TOYS, write

from llmm.files import write_json
from llmm.ladder.journal import QUESTIONS, entries, entry_of, entry_sha256, journal_faults, predictions, template
from llmm.ladder.milestones import find_milestone

METRICS = {"means": {"mean": 0.500033, "sd": 0.018126, "n": 3}, "first": 0.520299}
HONEST = dedent(ENTRIES["t01"]).replace("ID.json", "t01.json")


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """Writes the text of t01's entry, or whole sections, and returns the first fault of t01's entry, "" if none."""
    monkeypatch.chdir(tmp_path)
    for id_, title, name in TOYS:
        spec = SPEC.replace("NAME", name).replace("ID", id_).replace("TITLE", title)
        write(tmp_path / f"toys/{name}/milestone.yaml", spec)
        write(tmp_path / f"visualizations/{id_}_{name}/draws.svg", "<svg/>")
        write_json(tmp_path / f"data/ladder/{id_}.json", {"experiments": {"draws": {"metrics": METRICS}}})
    from toy_ladder import LIST

    write(tmp_path / "llmm/ladder/milestones.yaml", LIST)

    def fault(entry: str, others: str = "", of: str = "t01") -> str:
        heading = {"t01": "M1 Averages", "t02": "M2 Totals"}[of]
        (tmp_path / "learning_journal.md").write_text(f"# Journal\n\n## {heading}\n{entry}\n{others}")
        milestone = find_milestone(of)
        return next(iter(journal_faults(milestone, milestone.earlier)), "")

    return fault


def test_an_honest_entry_passes(journal):
    assert journal(HONEST) == ""


def test_no_entry_is_told(journal, tmp_path):
    journal(HONEST)
    (tmp_path / "learning_journal.md").write_text("# Journal\n")
    milestone = find_milestone("t01")
    assert "no section `## M1 Averages`" in journal_faults(milestone, [])[0]


def test_the_bare_template_is_refused(journal, tmp_path):
    journal(HONEST)
    bare = template(find_milestone("t01")).partition("\n")[2]
    assert "still asks the template's question" in journal(bare)


def test_the_template_with_words_added_below_each_question_is_refused(journal):
    padded = HONEST
    for name, question in QUESTIONS.items():
        padded = padded.replace(f"**{name}.**", f"**{name}.** _{question}_")
    assert "still asks the template's question" in journal(padded)


LEADS = [f"**{name}.**" for name in QUESTIONS]
TAIL = HONEST[HONEST.index("**Surprised.**") :]
PROOF = "[0.500](data/ladder/t01.json#draws.means.mean) [0.018](data/ladder/t01.json#draws.means.sd) "
PROOF += "[0.520](data/ladder/t01.json#draws.first) `draws` ![p](visualizations/t01_averages/draws.svg)"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor " * 3, "lorem ipsum"),
        ("The result was good and the experiment was good and the model was good. " * 3, "same sentence twice"),
        ("gradient hessian norm optimum margin loss logit bias weight sample batch epoch rate step " * 3, "filler"),
        ("it was good and I did see that it is good as I did see it was good " * 3, "filler"),
        (
            "To be written when there is more time for it than there is at the moment, I hope. " + TAIL[:500],
            "to be wri",
        ),
    ],
)
def test_filler_is_refused(journal, body, told):
    text = "\n\n".join(f"{lead} {body}" for lead in LEADS) + f"\n\n{PROOF}\n"
    assert told.lower() in journal(text).lower()


def test_a_list_of_different_words_is_no_prose(journal):
    vocabulary = [
        f"{first}{second}" for first in ("gra", "hes", "nor", "opt", "mar", "los") for second in "abcdefghijklm"
    ]
    body = " ".join(vocabulary)
    text = "\n\n".join(f"{lead} {number} {body}" for number, lead in zip("abcde", LEADS, strict=True))
    assert "filler" in journal(f"{text}\n\n{PROOF}\n")


def test_a_copy_of_the_entry_below_is_refused_and_the_original_stands(journal):
    copy = HONEST.replace("t01.json", "t02.json").replace("t01_averages", "t02_totals")
    original = f"\n## M1 Averages\n{HONEST}"
    assert "stands word for word in M1 Averages" in journal(copy, original, of="t02")
    slightly_changed = copy.replace("a great many", "very many").replace("only", "merely").replace("noise", "error")
    assert "stands word for word in M1 Averages" in journal(slightly_changed, original, of="t02")
    assert journal(HONEST, f"\n## M2 Totals\n{copy}") == ""


def test_two_honest_entries_are_no_copies(journal):
    other = dedent(ENTRIES["t02"]).replace("ID.json", "t02.json")
    assert journal(other, f"\n## M1 Averages\n{HONEST}", of="t02") == ""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[0.500]", "[0.510]", "[0.510] cites draws.means.mean, which is 0.500033"),
        ("draws.means.sd)", "draws.means.se)", "no se in draws.means.se"),
        ("[0.520](data/ladder/t01.json#draws.first)", "large", "cites 2 numbers"),
        ("So a single seed", "With 0.52 a single seed", "says 0.52 without a link"),
        ("![Means of draws](visualizations/t01_averages/draws.svg)", "", "shows no figure"),
        ("t01_averages/draws.svg", "t01_averages/gone.svg", "gone.svg, which is not there"),
        ("that `draws` would", "that they would", "names no experiment"),
        ("that `draws` would", "that `draws` and the experiment `rolls` would", "no experiment `rolls`"),
        ("**Surprised.**", "**Astonished.**", "no paragraph **Surprised.**"),
        (TAIL, "**Surprised.** No.\n\n**A misconception that fell.** No.\n\n**Open.** No.\n", "says too little"),
        ("shrinks slowly.", "shrinks slowly. TODO", "still says 'TODO'"),
    ],
)
def test_what_is_not_true_or_not_there_is_refused(journal, old, new, told):
    assert old in HONEST
    assert told in journal(HONEST.replace(old, new, 1))


def test_too_few_words_of_ones_own_are_refused(journal):
    short = "\n\n".join(f"{lead} We looked at nine different things and saw them." for lead in LEADS)
    assert "words, expected at least 120" in journal(f"{short}\n\n{PROOF}")


def test_the_hash_is_that_of_the_entry_alone(journal):
    journal(HONEST)
    milestone = find_milestone("t01")
    before = entry_sha256(milestone)
    journal(HONEST, "\n## M2 Totals\n\nSomething else.\n")
    assert entry_sha256(milestone) == before
    journal(HONEST.replace("slowly", "quickly"))
    assert entry_sha256(milestone) != before


def test_predictions_are_the_sentences_that_name_the_experiment(journal):
    journal(HONEST.replace("**Found.**", "It may not. The `draws` may fail.\n\n**Found.**"))
    said = predictions(entry_of(find_milestone("t01")), ["draws", "rolls"])
    assert said["draws"].startswith("I thought that `draws` would land within")
    assert said["draws"].endswith("The `draws` may fail.")
    assert "It may not." not in said["draws"]
    assert "rolls" not in said


def test_sections_of_the_projects_journal_are_found(journal):
    text = "# J\n\nIntro.\n\n## One\n\nA.\n\n### Sub\n\nB.\n\n## Two\n"
    assert [(entry.heading, entry.text) for entry in entries(text)] == [("One", "A.\n\n### Sub\n\nB."), ("Two", "")]
