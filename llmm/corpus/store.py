"""The corpus on disk: three parquet files of documents and one of Python objects."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmm.corpus.document import Document, PythonObject
from llmm.corpus.splits import SPLITS
from llmm.errors import UserError

ROW_GROUP = 1 << 25  # characters written or read at once: beside the texts themselves little else is held
_OBJECT_COLUMNS = {name: "int64" if name in ("start", "end") else "string" for name in PythonObject.__annotations__}


def write_documents(folder: Path, split: str, documents: Sequence[Document]) -> None:
    """Write `<split>.parquet` with the columns id, title, text."""
    rows = ({"id": document.id, "title": document.title, "text": document.text} for document in documents)
    _write(folder / f"{split}.parquet", rows, dict.fromkeys(("id", "title", "text"), "string"))


def write_objects(folder: Path, objects: Sequence[PythonObject]) -> None:
    """Write `objects.parquet`; it has no rows where the source has no Python."""
    _write(folder / "objects.parquet", map(vars, objects), _OBJECT_COLUMNS)


def load_documents(folder: Path, split: str) -> list[Document]:
    """The documents of "train", "val" or "test". Raises UserError where the file is missing or damaged."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    return [Document(**row) for row in _read(Path(folder) / f"{split}.parquet")]


def load_objects(folder: Path) -> list[PythonObject]:
    """All Python objects of the corpus. Raises UserError where the file is missing or damaged."""
    return [PythonObject(**row) for row in _read(Path(folder) / "objects.parquet")]


def _write(path: Path, rows: Iterable[dict[str, Any]], columns: dict[str, str]) -> None:
    # pyarrow takes a quarter of a second to import, and the stage `source` runs every time
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"string": pa.large_string(), "int64": pa.int64()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema))


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows with about `ROW_GROUP` characters together; a single group without rows where there are none."""
    group: list[dict[str, Any]] = []
    size, yielded = 0, False
    for row in rows:
        group.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        if size >= ROW_GROUP:
            yield group
            group, size, yielded = [], 0, True
    if group or not yielded:
        yield group


def _read(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            for group in range(table.num_row_groups):
                yield from table.read_row_group(group).to_pylist()
    except FileNotFoundError:
        raise UserError(f"{path} is not there: `dvc repro` makes it") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): delete it and run `dvc repro`") from None
