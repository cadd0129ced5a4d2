"""A folder or a glob of the user's own files."""

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from llmm.corpus.document import SourceDocument
from llmm.corpus.formats import TABLE_SUFFIXES, TEXT_SUFFIXES, NotText, decode, to_text
from llmm.corpus.listing import Named, hash_of, sample, walk
from llmm.corpus.skipped import Skipped
from llmm.corpus.sources import SourceState
from llmm.corpus.stdlib import dotted_name
from llmm.corpus.tables import rows_to_documents
from llmm.errors import UserError

SUFFIXES = TEXT_SUFFIXES + TABLE_SUFFIXES


@dataclass(frozen=True)
class FilesSource:
    """Files under a folder (recursively), of a glob, or a single one; relative paths (and row numbers) are the ids."""

    path: str
    text_column: str
    title_column: str
    limit: int = 0

    def state(self, known: SourceState | None = None) -> SourceState:
        """Label, hash and count of the files with a known ending."""
        files = self._files()[0]
        return SourceState("files", f"files of {self.path}", hash_of(files), len(files))

    def read(self, skipped: Skipped) -> Iterator[SourceDocument]:
        """The documents in the order of their files' names; of tables one document a row."""
        files, others = self._files()
        for name, _ in others:
            skipped.add("another kind of file", name, quiet=True)
        documents = (document for file in sample(files, self.limit) for document in self._read_file(*file, skipped))
        yield from islice(documents, self.limit or None)

    def _files(self) -> tuple[list[Named], list[Named]]:
        """Files that can be read, and the others. Raises UserError where there is nothing to read."""
        base = Path(self.path).expanduser()
        if base.is_dir():
            found = list(walk(base))
        elif base.is_file():
            found = [(base.name, base)]
        elif glob.has_magic(self.path):
            found = _expand(base)
        else:
            raise UserError(f"corpus.path: {self.path} is not there: give a folder, a file or a glob of {_kinds()}")
        known = [file for file in found if file[1].suffix.lower() in SUFFIXES]
        if not known:
            what = "matches no file" if glob.has_magic(self.path) else "holds no file"
            raise UserError(
                f"corpus.path: {self.path} {what} of a known kind ({_kinds()}): {len(found)} others are there"
            )
        return known, [file for file in found if file[1].suffix.lower() not in SUFFIXES]

    def _read_file(self, name: str, path: Path, skipped: Skipped) -> Iterator[SourceDocument]:
        suffix = path.suffix.lower()
        if suffix in TABLE_SUFFIXES:
            rows = _jsonl_rows if suffix == ".jsonl" else _parquet_rows
            columns = [column for column in (self.text_column, self.title_column) if column]
            yield from rows_to_documents(
                rows(name, path, columns, skipped), name, self.text_column, self.title_column, skipped
            )
            return
        try:
            content = decode(path.read_bytes())
        except NotText as reason:
            skipped.add(str(reason), name)
        except OSError as error:
            skipped.add("unreadable", f"{name} ({error.strerror})")
        else:
            title, text = to_text(name, content)
            yield SourceDocument(name, title, text, module=dotted_name(name) if suffix == ".py" else "")


def _expand(pattern: Path) -> list[Named]:
    parts = pattern.parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:fixed])
    # Path.glob finds only folders by a final **
    matches = (Path(match) for match in glob.glob(str(pattern), recursive=True))  # noqa: PTH207
    return sorted((match.relative_to(base).as_posix(), match) for match in matches if match.is_file())


def _kinds() -> str:
    return " ".join(SUFFIXES)


def _jsonl_rows(name: str, path: Path, columns: list[str], skipped: Skipped) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    yield row
                else:
                    skipped.add("no JSON object", f"{name}:{number}")
    except OSError as error:
        skipped.add("unreadable", f"{name} ({error.strerror})")


def _parquet_rows(name: str, path: Path, columns: list[str], skipped: Skipped) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            there = table.schema_arrow.names
            # without the columns asked for the first row shows what there is
            wanted = columns if set(columns) <= set(there) else there
            for batch in table.iter_batches(batch_size=256, columns=wanted):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        skipped.add("unreadable", f"{name} ({str(error).splitlines()[0]})")
