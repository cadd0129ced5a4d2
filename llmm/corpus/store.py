"""The corpus on disk: three parquet files of documents and one of Python objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmm.corpus.document import Document, PythonObject
from llmm.corpus.splits import SPLITS
from llmm.errors import UserError

_OBJECT_COLUMNS = {name: "int64" if name in ("start", "end") else "string" for name in PythonObject.__annotations__}


def write_documents(folder: Path, split: str, documents: Sequence[Document]) -> None:
    """Write `<split>.parquet` with the columns id, title, text."""
    rows = [{"id": document.id, "title": document.title, "text": document.text} for document in documents]
    _write(folder / f"{split}.parquet", rows, dict.fromkeys(("id", "title", "text"), "string"))


def write_objects(folder: Path, objects: Sequence[PythonObject]) -> None:
    """Write `objects.parquet`; it has no rows where the source has no Python."""
    _write(folder / "objects.parquet", [vars(item) for item in objects], _OBJECT_COLUMNS)


def load_documents(folder: Path, split: str) -> list[Document]:
    """The documents of "train", "val" or "test". Raises UserError where the file is missing or damaged."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    return [Document(**row) for row in _read(Path(folder) / f"{split}.parquet")]


def load_objects(folder: Path) -> list[PythonObject]:
    """All Python objects of the corpus. Raises UserError where the file is missing or damaged."""
    return [PythonObject(**row) for row in _read(Path(folder) / "objects.parquet")]


def _write(path: Path, rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    # pyarrow takes a quarter of a second to import, and the stage `source` runs every time
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"string": pa.large_string(), "int64": pa.int64()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")


def _read(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise UserError(f"{path} is not there: `dvc repro` makes it") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): delete it and run `dvc repro`") from None
    return rows
