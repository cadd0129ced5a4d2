"""The plainest chunker: windows of one length, wherever they cut; what `chunking` is compared with."""

from llmm.training.rag.chunking import Chunk


def fixed_windows(text: str, source: str, title: str, chunk_chars: int, overlap: int) -> list[Chunk]:
    """Windows of `chunk_chars` characters, each beginning `overlap` characters before the end of the last; (6.1) says
    how much they tear.

    Raises ValueError unless 0 <= overlap < chunk_chars.
    """
    if not 0 <= overlap < chunk_chars:
        raise ValueError(f"overlap {overlap} is not in [0, chunk_chars = {chunk_chars})")
    step = chunk_chars - overlap
    starts = range(0, max(len(text) - overlap, 1), step) if text else range(0)
    spans = [(start, min(start + chunk_chars, len(text))) for start in starts]
    return [Chunk(f"{source}#{start}-{end}", source, title, start, end, text[start:end]) for start, end in spans]
