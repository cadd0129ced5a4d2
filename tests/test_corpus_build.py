"""Cleaning, duplicates, splits and the corpus on disk."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm import lineage
from llmm.corpus import SPLITS, duplicates, load_documents, load_objects, store
from llmm.corpus.build import build_corpus
from llmm.corpus.cleaning import clean_text
from llmm.corpus.document import Document, SourceDocument
from llmm.corpus.duplicates import Shingler, drop_exact, drop_near, jaccard
from llmm.corpus.headings import find_headings
from llmm.corpus.local_files import FilesSource
from llmm.corpus.splits import assign_splits, cut_in_three
from llmm.errors import UserError
from llmm.params import CorpusParams

SETTINGS = {
    "source": "files",
    "path": "set by each test",
    "hub_name": "",
    "hub_config": "",
    "hub_split": "train",
    "text_column": "text",
    "title_column": "",
    "max_documents": 0,
    "min_chars": 10,
    "max_chars": 100_000,
    "near_duplicate_similarity": 0.8,
    "val_fraction": 0.2,
    "test_fraction": 0.2,
}


def build(folder: Path, out: Path, seed: int = 0, **changes: object) -> dict[str, object]:
    params = CorpusParams.model_validate({**SETTINGS, "path": str(folder), **changes})
    source = FilesSource(params.path, params.text_column, params.title_column, params.max_documents)
    return build_corpus(source, params, seed, out)


def words(generator: random.Random, count: int) -> list[str]:
    return [f"w{generator.randrange(10_000)}" for _ in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty different texts."""
    path = tmp_path / "texts"
    path.mkdir()
    for number in range(30):
        (path / f"{number:02}.txt").write_text(" ".join(words(random.Random(number), 100)))
    return path


@given(st.text(st.characters()))
def test_clean_text_keeps_everything_but_newlines_and_half_surrogates(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert "\r" not in cleaned
    assert clean_text(cleaned) == cleaned
    if not set(text) & set("\r\n") and text and text.isprintable():
        assert cleaned == text + "\n"


def test_clean_text_does_not_normalise() -> None:
    assert clean_text("e\u0301 \u00e9 \ufb01") == "e\u0301 \u00e9 \ufb01\n"
    assert clean_text("a\r\nb\rc\ud800") == "a\nb\nc\ufffd\n"


def test_drop_exact_keeps_the_first() -> None:
    assert drop_exact(["a", "b", "a", "c", "b"]) == [0, 1, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=12), max_size=8), st.sampled_from([0.3, 0.5, 0.8, 0.95]))
def test_drop_near_leaves_no_similar_pair(texts: list[list[str]], similarity: float) -> None:
    """Against the definition: sets of runs of five words, all pairs."""

    def runs(text: list[str]) -> set[tuple[str, ...]]:
        padded = text + [""] * (5 - len(text))
        return {tuple(padded[i : i + 5]) for i in range(len(padded) - 4)}

    def similar(first: list[str], second: list[str]) -> bool:
        a, b = runs(first), runs(second)
        return len(a & b) / len(a | b) >= similarity

    expected: list[int] = []
    for index, text in enumerate(texts):
        if not any(similar(text, texts[kept]) for kept in expected):
            expected.append(index)
    assert drop_near([" ".join(text) for text in texts], similarity) == expected


def test_near_duplicates_of_long_texts_are_found() -> None:
    generator = random.Random(1)
    base = words(generator, 2000)
    edited = base.copy()
    edited[1000] = "changed"
    half = base[:1000] + words(generator, 1000)
    texts = [" ".join(text) for text in (base, edited, half)]
    sets = [Shingler()(text) for text in texts]
    assert len(sets[0]) == 1996
    assert drop_near(texts, 0.8) == [0, 2]
    assert drop_near(texts, 0.3) == [0]


def test_jaccard() -> None:
    first, second = np.array([1, 2, 3], np.uint64), np.array([2, 3, 4, 5], np.uint64)
    assert jaccard(first, second) == 2 / 5


@given(st.lists(st.text(max_size=5), min_size=3, max_size=60, unique=True), st.integers(0, 5))
def test_every_split_has_a_document_and_ids_decide(ids: list[str], seed: int) -> None:
    splits = dict(zip(ids, assign_splits(ids, 0.1, 0.1, seed), strict=True))
    assert set(splits.values()) == set(SPLITS)
    shuffled = sorted(ids)
    assert dict(zip(shuffled, assign_splits(shuffled, 0.1, 0.1, seed), strict=True)) == splits


def test_new_documents_move_no_others() -> None:
    ids = [f"document {number}" for number in range(500)]
    before = assign_splits(ids[:400], 0.05, 0.05, 0)
    assert assign_splits(ids, 0.05, 0.05, 0)[:400] == before
    assert before != assign_splits(ids[:400], 0.05, 0.05, 1)
    assert 5 < before.count("val") < 40
    assert 5 < before.count("test") < 40


@given(st.text("ab \n", min_size=30, max_size=400).filter(lambda text: len(text.split()) > 12))
def test_cut_in_three_loses_nothing(text: str) -> None:
    try:
        parts = cut_in_three(SourceDocument("d", "", text), 0.2, 0.2)
    except UserError:
        return  # white space in place of a whole part
    assert "".join(parts[split].text for split in SPLITS) == text
    assert all(part.text.strip() for part in parts.values())


def test_cut_in_three_prefers_paragraphs() -> None:
    text = "".join(f"Paragraph {number} has\ntwo lines.\n\n" for number in range(50))
    parts = cut_in_three(SourceDocument("d", "", text), 0.1, 0.1)
    assert all(part.text.startswith("Paragraph") for part in parts.values())
    assert abs(len(parts["train"].text) / len(text) - 0.8) < 0.05
    with pytest.raises(UserError, match="too short"):
        cut_in_three(SourceDocument("d", "", "ab"), 0.1, 0.1)


def test_headings() -> None:
    text = "Top\n===\n\n## Two ##\n\n```\n# code\n```\nRest\n----\n\nnot\n-\n| a |\n|---|\n\n-----\nplain\n"
    found = find_headings(text)
    assert [(heading.text, heading.level) for heading in found] == [("Top", 1), ("Two", 2), ("Rest", 2)]
    assert [text[heading.start :].split()[0] for heading in found] == ["Top", "##", "Rest"]


def test_build_writes_what_it_says(folder: Path, tmp_path: Path) -> None:
    (folder / "30.txt").write_text((folder / "07.txt").read_text())
    (folder / "31.txt").write_text((folder / "08.txt").read_text() + " one more")
    (folder / "32.txt").write_text("tiny")
    (folder / "33.py").write_text('def f(x):\n    """Doc of f."""\n    return x\n')
    figures = build(folder, tmp_path / "out")
    documents = {split: load_documents(tmp_path / "out", split) for split in SPLITS}
    assert figures["documents"] == {split: len(documents[split]) for split in SPLITS}
    assert sum(map(len, documents.values())) == 31
    assert figures["exact_duplicates"] == figures["near_duplicates"] == 1
    assert figures["skipped"] == {"shorter than corpus.min_chars": 1}
    assert figures["bytes"] == {s: sum(len(d.text.encode()) for d in documents[s]) for s in SPLITS}
    [item] = load_objects(tmp_path / "out")
    assert item.qualname == "33.f"
    assert item.split == next(split for split in SPLITS if "33.py" in {document.id for document in documents[split]})
    assert figures["objects"] == {split: int(split == item.split) for split in SPLITS}
    lineage.open_artifact(tmp_path / "out", "corpus")


def test_no_document_and_no_near_duplicate_is_in_two_splits(folder: Path, tmp_path: Path) -> None:
    for number in range(30):
        text = (folder / f"{number:02}.txt").read_text().split()
        text[50] = "changed"
        (folder / f"copy {number}.txt").write_text(" ".join(text))
    build(folder, tmp_path / "out")
    documents = [(split, document) for split in SPLITS for document in load_documents(tmp_path / "out", split)]
    shingles = Shingler()
    sets = [shingles(document.text) for _, document in documents]
    assert len({document.id for _, document in documents}) == len(documents) == 30
    for first, (split, _) in enumerate(documents):
        for second, (other, _) in enumerate(documents[:first]):
            assert split == other or jaccard(sets[first], sets[second]) < 0.8


def edited(generator: random.Random, text: list[str]) -> list[str]:
    """A copy of a text of 200 words with three of them replaced, removed or put in: at least 177 of 196 runs stay."""
    copy = text.copy()
    for _ in range(3):
        place, change = generator.randrange(len(copy)), generator.choice(["replace", "remove", "insert"])
        copy[place : place + (change != "insert")] = [] if change == "remove" else ["changed"]
    return copy


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_edited_copies_are_never_in_different_splits(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    generator = random.Random(seed)
    folder = tmp_path_factory.mktemp("copies")
    texts = folder / "texts"
    texts.mkdir()
    for family in range(20):
        original = words(generator, 200)
        for text in [original, *(edited(generator, original) for _ in range(3))]:
            (texts / f"{generator.getrandbits(64)}.{family}.md").write_text(" ".join(text))

    def splits_of_families(similarity: float) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        build(texts, folder / str(similarity), seed, near_duplicate_similarity=similarity)
        for split in SPLITS:
            for document in load_documents(folder / str(similarity), split):
                found.setdefault(document.id.split(".")[1], set()).add(split)
        return found

    together = splits_of_families(0.7)  # 200 words, three edits on either side: 166 runs of 226 at least
    assert len(together) == 20
    assert all(len(splits) == 1 for splits in together.values())
    assert any(len(splits) > 1 for splits in splits_of_families(1.0).values()), "they would be torn apart"


def test_many_copies_take_one_comparison_each(monkeypatch: pytest.MonkeyPatch) -> None:
    base = words(random.Random(0), 200)
    texts = [" ".join([*base, f"copy{number}"]) for number in range(200)]
    compared = []
    monkeypatch.setattr(duplicates, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))
    assert drop_near(texts, 0.8) == [0]
    assert len(compared) == 199


def test_build_is_byte_stable(folder: Path, tmp_path: Path) -> None:
    assert build(folder, tmp_path / "a") == build(folder, tmp_path / "b")
    hashes = {lineage.open_artifact(tmp_path / name, "corpus").sha256 for name in "ab"}
    assert len(hashes) == 1
    build(folder, tmp_path / "c", seed=1)
    assert lineage.open_artifact(tmp_path / "c", "corpus").sha256 not in hashes


def test_long_documents_are_cut_and_counted(folder: Path, tmp_path: Path) -> None:
    figures = build(folder, tmp_path / "out", max_chars=100)
    assert figures["skipped"] == {"cut at corpus.max_chars": 30}
    assert {len(document.text) for split in SPLITS for document in load_documents(tmp_path / "out", split)} == {100}


@pytest.mark.parametrize("count", [1, 2])
def test_few_documents_are_split_inside(tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for number in range(count):
        paragraphs = (f"def f{number}_{i}(x):\n    return '{i}-{number}'\n" for i in range(40))
        texts[f"{number}.py"] = "\n\n".join(paragraphs)
        (tmp_path / f"{number}.py").write_text(texts[f"{number}.py"])
    figures = build(tmp_path, tmp_path / "out")
    assert "too few to split by document" in str(figures["split"])
    assert "too few to split by document" in capsys.readouterr().out
    for name, text in texts.items():
        parts = {d.id: d.text for split in SPLITS for d in load_documents(tmp_path / "out", split)}
        assert "".join(parts[f"{name}#{split}"] for split in SPLITS) == text
    objects = load_objects(tmp_path / "out")
    assert len(objects) == 40 * count, "the cuts lie between functions"
    assert {item.split for item in objects} == set(SPLITS)


def test_nothing_left_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short")
    (tmp_path / "b.txt").write_bytes(b"\xff\xff")
    with pytest.raises(UserError) as error:
        build(tmp_path, tmp_path / "out")
    assert str(error.value) == (
        "no document is left of the source (1 not UTF-8, 1 shorter than corpus.min_chars): "
        "check corpus.path and corpus.min_chars"
    )
    assert not (tmp_path / "out").exists()


def test_large_splits_are_written_and_read_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [Document(f"id {number}", "", "text " * number) for number in range(1, 20)]
    for characters, groups in ((store.ROW_GROUP, 1), (200, 5), (1, 19)):
        monkeypatch.setattr(store, "ROW_GROUP", characters)
        store.write_documents(tmp_path, "train", documents)
        assert load_documents(tmp_path, "train") == documents
        assert pq.ParquetFile(tmp_path / "train.parquet").num_row_groups == groups
    store.write_documents(tmp_path, "train", [])
    assert load_documents(tmp_path, "train") == []


def test_missing_and_damaged_corpus_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        load_documents(tmp_path, "train")
    build(folder, tmp_path / "out")
    path = tmp_path / "out" / "train.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="is damaged"):
        load_documents(tmp_path / "out", "train")
    with pytest.raises(UserError, match="is damaged"):
        lineage.open_artifact(tmp_path / "out", "corpus")


def test_rows_with_half_surrogates_are_written(tmp_path: Path) -> None:
    rows = [{"text": f"row {number} has half a pair \ud83d of an emoji"} for number in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build(tmp_path, tmp_path / "out", near_duplicate_similarity=1.0)
    assert "\ufffd" in load_documents(tmp_path / "out", "train")[0].text
