"""The three sources: what they read, what they leave out, what they say when there is nothing."""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmm.corpus.document import SourceDocument
from llmm.corpus.hub import HubSource
from llmm.corpus.local_files import FilesSource
from llmm.corpus.skipped import Skipped
from llmm.corpus.stdlib import StdlibSource, stdlib_modules
from llmm.errors import UserError

ROWS = [{"body": f"Text number {number}.", "name": f"Title {number}", "score": number} for number in range(5)]


def read(
    path: Path, text: str = "text", title: str = "", limit: int = 0
) -> tuple[dict[str, SourceDocument], dict[str, int]]:
    skipped = Skipped()
    documents = list(FilesSource(str(path), text, title, limit).read(skipped))
    assert len({document.id for document in documents}) == len(documents)
    return {document.id: document for document in documents}, skipped.as_dict()


def one_line(error: pytest.ExceptionInfo[UserError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder with one file of each kind, some of them nested."""
    folder = tmp_path / "library"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "plain.txt").write_text("Just words.\nNo heading at all.")
    (folder / "notes.md").write_text("intro\n\n# The notes\n\ntext\n\n```\n# no heading\n```\n")
    (folder / "deep" / "manual.rst").write_text("The manual\n==========\n\nText.\n")
    (folder / "deep" / "page.HTML").write_text(
        "<html><head><title>A &amp; B</title><style>p {}</style></head><body><h1>Head</h1>"
        "<p>One <b>two</b>\n three.</p><script>alert(1)</script><ul><li>x</li><li>y</li></ul>"
        "<pre>a\n  b</pre></body></html>"
    )
    (folder / "deep" / "er" / "module.py").write_text('"""Does a thing. And more."""\n\ndef run():\n    """Runs."""\n')
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": row["body"]}) for row in ROWS) + "\n")
    pq.write_table(pa.Table.from_pylist([{"text": row["body"]} for row in ROWS]), folder / "rows.parquet")
    return folder


def test_every_kind_of_file_is_read(library: Path) -> None:
    documents, skipped = read(library)
    assert skipped == {}
    assert set(documents) == {
        "plain.txt",
        "notes.md",
        "deep/manual.rst",
        "deep/page.HTML",
        "deep/er/module.py",
        *(f"rows.{kind}#{number}" for kind in ("jsonl", "parquet") for number in range(5)),
    }
    titles = {name: document.title for name, document in documents.items()}
    assert titles["plain.txt"] == "plain.txt"
    assert titles["notes.md"] == "The notes"
    assert titles["deep/manual.rst"] == "The manual"
    assert titles["deep/page.HTML"] == "A & B"
    assert titles["deep/er/module.py"] == "Does a thing."
    assert titles["rows.jsonl#3"] == "rows.jsonl#3"
    assert documents["rows.parquet#3"].text == "Text number 3."
    assert documents["deep/er/module.py"].module == "deep.er.module"
    assert documents["plain.txt"].module == ""


def test_html_becomes_readable_text(library: Path) -> None:
    documents, _ = read(library / "deep" / "page.HTML")
    assert documents["page.HTML"].text == "# Head\n\nOne two three.\n\n- x\n- y\n\na\n  b"


def test_broken_html_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>one<p>two</b></pre></script> <unknown x='>three &nosuch; <![bad[ four")
    documents, _ = read(tmp_path)
    assert documents["a.html"].text.startswith("one\n\ntwo")


def test_columns_are_chosen_and_titles_taken(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    documents, _ = read(tmp_path, text="body", title="name")
    assert [document.title for document in documents.values()] == [f"Title {number}" for number in range(5)] * 2


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(("text", "title", "key"), [("nope", "", "text_column"), ("body", "nope", "title_column")])
def test_unknown_column_names_those_that_are_there(
    tmp_path: Path, suffix: str, text: str, title: str, key: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    with pytest.raises(UserError) as error:
        read(tmp_path / f"rows.{suffix}", text, title)
    one_line(error, f"corpus.{key}", "nope", f"rows.{suffix}", "body, name, score")


def test_bad_files_are_skipped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.txt").write_text("good", encoding="utf-8-sig")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "utf16.md").write_bytes("text".encode("utf-16"))
    (tmp_path / "binary.py").write_bytes(b"\x7fELF\0\0\0")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "fine"}\n{broken\n[1]\n\n{"text": 5}\n{"text": null}\n\xff\xfe\n')
    (tmp_path / ".hidden.txt").write_text("hidden")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    documents, skipped = read(tmp_path)
    assert {name: document.text for name, document in documents.items()} == {"good.txt": "good", "rows.jsonl#0": "fine"}
    assert skipped == {
        "another kind of file": 1,
        "binary": 2,  # UTF-16 has NUL bytes
        "no JSON object": 3,
        "no text in column text": 2,
        "not UTF-8": 1,
        "unreadable": 2,
    }
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5
    assert all(line.startswith("skipped ") for line in printed)


def test_huge_single_line_file(tmp_path: Path) -> None:
    (tmp_path / "line.txt").write_text("word " * 1_000_000)
    documents, skipped = read(tmp_path)
    assert len(documents["line.txt"].text) == 5_000_000
    assert skipped == {}


def test_a_single_file_and_globs(library: Path) -> None:
    assert set(read(library / "plain.txt")[0]) == {"plain.txt"}
    assert set(read(library / "*.md")[0]) == {"notes.md"}
    assert set(read(library / "**" / "*.py")[0]) == {"deep/er/module.py"}
    assert set(read(library / "*" / "*.rst")[0]) == {"deep/manual.rst"}


def test_the_limit_is_kept_and_stable(library: Path) -> None:
    few, _ = read(library, limit=3)
    assert len(few) == 3
    assert list(few) == list(read(library, limit=3)[0])


@pytest.mark.parametrize(
    ("made", "asked", "words"),
    [
        ([], "nowhere", ["is not there"]),
        ([], "", ["holds no file", "0 others"]),
        (["a.png"], "", ["holds no file", "1 others"]),
        (["a.png"], "*.txt", ["matches no file"]),
        (["a.png"], "*.png", ["matches no file", ".md"]),
    ],
)
def test_nothing_to_read_is_one_line(tmp_path: Path, made: list[str], asked: str, words: list[str]) -> None:
    for name in made:
        (tmp_path / name).touch()
    source = FilesSource(str(tmp_path / asked), "text", "")
    for look in (source.state, lambda: list(source.read(Skipped()))):
        with pytest.raises(UserError) as error:
            look()
        one_line(error, "corpus.path", *words)


def test_state_follows_the_content(library: Path) -> None:
    source = FilesSource(str(library), "text", "")
    first = source.state()
    os.utime(library / "plain.txt", (0, 0))
    assert source.state() == first, "touching a file changes nothing"
    (library / "image.png").write_bytes(b"x")
    assert source.state() == first, "files that are not read do not count"
    (library / "plain.txt").write_text("other")
    edited = source.state()
    assert edited.sha256 != first.sha256
    (library / "plain.txt").rename(library / "renamed.txt")
    assert source.state().sha256 not in (first.sha256, edited.sha256)


def test_stdlib_has_its_modules_and_no_tests() -> None:
    names = [name for name, _ in stdlib_modules()]
    assert {"json", "json.decoder", "asyncio.tasks", "os", "textwrap"} <= set(names)
    assert len(set(names)) == len(names) > 300
    assert not [name for name in names if {"test", "tests", "idle_test"} & set(name.split("."))]
    assert not [name for name in names if name.startswith("_sysconfigdata") or "numpy" in name]


def test_stdlib_documents() -> None:
    documents = {document.id: document for document in StdlibSource().read(Skipped())}
    module = documents["textwrap"]
    assert module.title == "Text wrapping and filling."
    assert module.module == "textwrap"
    assert "class TextWrapper" in module.text
    version = ".".join(map(str, sys.version_info[:3]))
    assert StdlibSource().state().label == f"Python {version} standard library"


def test_interpreter_without_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        stdlib_modules(tmp_path)
    one_line(error, str(tmp_path), "corpus.source: files")


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """A folder as the `datasets` library loads it."""
    folder = tmp_path / "data_set"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "train-0.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), folder / "test-0.parquet")
    return folder


def test_hub_reads_a_local_folder(data_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(data_set.parent / "home"))
    documents = list(HubSource(str(data_set), "", "train", "body", "name", limit=3).read(Skipped()))
    assert [document.title for document in documents] == ["Title 0", "Title 1", "Title 2"]
    assert documents[2].id == f"{data_set}#2"
    assert documents[2].text == "Text number 2."
    assert len(list(HubSource(str(data_set), "", "test", "body", "").read(Skipped()))) == 2


def test_hub_faults_are_one_line(data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for source, words in [
        (HubSource(str(data_set), "", "train", "nope", ""), ["corpus.text_column", "body, name, score"]),
        (HubSource(str(data_set), "", "nope", "body", ""), ["corpus.hub_name", "hub_split"]),
        (HubSource(str(data_set), "nope", "train", "body", ""), ["corpus.hub_name", "hub_config"]),
        (
            HubSource(str(tmp_path / "no-such"), "", "train", "body", ""),
            ["corpus.hub_name", "no-such", "cannot be reached"],
        ),
    ]:
        with pytest.raises(UserError) as error:
            list(source.read(Skipped()))
        one_line(error, *words)


def test_hub_state_of_a_folder_follows_its_files(data_set: Path) -> None:
    source = HubSource(str(data_set), "", "train", "body", "")
    first = source.state()
    assert source.state(first) == first
    pq.write_table(pa.Table.from_pylist(ROWS[:4]), data_set / "train-0.parquet")
    assert source.state(first).sha256 != first.sha256


def test_hub_state_without_network_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    revision: list[str | None] = ["abc"]
    monkeypatch.setattr("llmm.corpus.hub._revision", lambda name: revision[0])
    source = HubSource("owner/name", "", "train", "text", "")
    known = source.state()
    revision[0] = None
    assert source.state(known) == known
    revision[0] = "def"
    assert source.state(known).sha256 != known.sha256
