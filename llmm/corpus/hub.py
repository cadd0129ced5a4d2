"""A Hugging Face data set, streamed; a local folder that `datasets` can load goes through the same code."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from llmm.corpus.document import SourceDocument
from llmm.corpus.listing import hash_of, walk
from llmm.corpus.skipped import Skipped
from llmm.corpus.sources import SourceState
from llmm.corpus.tables import rows_to_documents
from llmm.errors import UserError
from llmm.files import sha256_of

_SECONDS_TO_WAIT = 3


@dataclass(frozen=True)
class HubSource:
    """Rows of one split of a data set, `name#row` as ids; at most `limit` of them (0 for all)."""

    name: str
    config: str
    split: str
    text_column: str
    title_column: str
    limit: int = 0

    def state(self, known: SourceState | None = None) -> SourceState:
        """Label and hash: of the files of a local folder, or of the revision that the hub has now.

        Where the hub cannot be asked, the revision counts as unchanged since `known`: a run without network rebuilds
        nothing.
        """
        label = " ".join(part for part in ("data set", self.name, self.config, self.split) if part)
        if Path(self.name).is_dir():
            files = list(walk(Path(self.name)))
            return SourceState("hub", label, hash_of(files), len(files))
        revision = _revision(self.name)
        if revision is None and known is not None and known.label == label:
            return known
        return SourceState("hub", label, sha256_of(label, revision or ""), None)

    def read(self, skipped: Skipped) -> Iterator[SourceDocument]:
        """The rows in the order of the data set."""
        yield from rows_to_documents(self._rows(), self.name, self.text_column, self.title_column, skipped)

    def _rows(self) -> Iterator[dict[str, Any]]:
        if not Path(self.name).is_dir() and _revision(self.name) is None:
            # the library would try again for half a minute
            raise UserError(
                f"corpus.hub_name: {self.name} is no folder here, and {_endpoint()} cannot be reached: "
                "be online, or give a folder of its files"
            )
        import datasets

        try:
            rows = datasets.load_dataset(self.name, self.config or None, split=self.split, streaming=True)
            columns = [column for column in (self.text_column, self.title_column) if column]
            there = rows.column_names
            if there and set(columns) <= set(there):
                rows = rows.select_columns(columns)
            yield from islice(rows, self.limit or None)
        except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
            raise UserError(
                f"corpus.hub_name: {self.name} cannot be read ({_first_line(error)}): give the name of a data set "
                "(and be online), or a folder of its files; check corpus.hub_config and corpus.hub_split"
            ) from None


def _revision(name: str) -> str | None:
    """The commit that the hub has now, '' where it does not say (no such data set, or a private one), None offline."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return None
    url = f"{_endpoint()}/api/datasets/{urllib.parse.quote(name)}"
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS_TO_WAIT) as answer:
            return str(json.load(answer)["sha"])
    except (urllib.error.HTTPError, ValueError, KeyError):
        return ""
    except OSError:
        return None


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
