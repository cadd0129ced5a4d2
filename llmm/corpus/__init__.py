"""Text sources and what is made of them: documents in three splits, and the Python objects that they define.

`load_documents` and `load_objects` read the corpus that the stage `prepare` wrote; the rest is how it is made:

- `stdlib`, `local_files`, `hub`: the three sources, behind `sources.open_source`
- `formats`, `headings`: file formats to text and title
- `cleaning`, `duplicates`, `splits`: what is kept, and in which split
- `python_objects`: functions, classes and methods, read by `ast` and never imported
- `build`: all of it in order; `store`: the corpus on disk
"""

from llmm.corpus.document import Document, PythonObject
from llmm.corpus.headings import Heading, find_headings
from llmm.corpus.store import SPLITS, load_documents, load_objects

__all__ = ["SPLITS", "Document", "Heading", "PythonObject", "find_headings", "load_documents", "load_objects"]
