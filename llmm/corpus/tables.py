"""Rows of a table (jsonl, parquet, a data set of the hub) as documents."""

from collections.abc import Iterable, Iterator
from typing import Any

from llmm.corpus.document import SourceDocument
from llmm.corpus.headings import find_headings
from llmm.corpus.skipped import Skipped
from llmm.errors import UserError


def rows_to_documents(
    rows: Iterable[dict[str, Any]], name: str, text_column: str, title_column: str, skipped: Skipped
) -> Iterator[SourceDocument]:
    """One document a row, with the id `name#number` (from 0); the title is the column's, a heading or the id.

    Rows without a text are counted in `skipped`. Raises UserError where the first row lacks a column.
    """
    for number, row in enumerate(rows):
        if number == 0:
            _check_columns(row, name, text_column, title_column)
        text = row.get(text_column)
        document_id = f"{name}#{number}"
        if not isinstance(text, str):
            skipped.add(f"no text in column {text_column}", document_id)
            continue
        title = row.get(title_column) if title_column else None
        if not title:
            headings = find_headings(text)
            title = headings[0].text if headings else document_id
        yield SourceDocument(document_id, str(title), text)


def _check_columns(row: dict[str, Any], name: str, text_column: str, title_column: str) -> None:
    for key, column in (("text_column", text_column), ("title_column", title_column)):
        if column and column not in row:
            raise UserError(
                f"corpus.{key}: {column} is no column of {name}: there are {', '.join(map(str, row)) or 'none'}"
            )
