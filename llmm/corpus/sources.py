"""The three sources behind one face: what there is (cheaply, for `data/source.json`), and the documents."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from llmm.corpus.document import SourceDocument
from llmm.corpus.skipped import Skipped
from llmm.params import CorpusParams


@dataclass(frozen=True)
class SourceState:
    """What a source holds at the moment. `sha256` changes when, and only when, its content does.

    `documents` counts files (a table of many texts is one file); None where only reading it all would tell.
    """

    source: str
    label: str
    sha256: str
    documents: int | None


class Source(Protocol):
    """Where text comes from."""

    def state(self, known: SourceState | None = None) -> SourceState:
        """What is there now; `known` is the state of the last run. Raises UserError where there is nothing."""
        ...

    def read(self, skipped: Skipped) -> Iterator[SourceDocument]:
        """The documents in a stable order; what cannot be read is counted in `skipped`. Raises UserError."""
        ...


def open_source(params: CorpusParams) -> Source:
    """The source that the section `corpus` of params.yaml names."""
    if params.source == "stdlib":
        from llmm.corpus.stdlib import StdlibSource

        return StdlibSource(params.max_documents)
    if params.source == "files":
        from llmm.corpus.local_files import FilesSource

        return FilesSource(params.path, params.text_column, params.title_column, params.max_documents)
    from llmm.corpus.hub import HubSource

    return HubSource(
        params.hub_name,
        params.hub_config,
        params.hub_split,
        params.text_column,
        params.title_column,
        params.max_documents,
    )
