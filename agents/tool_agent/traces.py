"""Tool conversations to learn from, executed with the real tools: every answer follows from a real result."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from agents.tool_agent.tasks import Maker, conversation, plan
from agents.tool_agent.tools import MAX_RESULT_CHARS, Passage, Search, Toolbox, make_toolbox
from agents.tool_agent.values import collect_values
from agents.tool_agent.whole_text import whole_text_values
from llmm.corpus import Document, PythonObject
from llmm.params import IndexParams
from llmm.training.lora.chat import Conversation, Message
from llmm.training.rag.bm25 import BM25
from llmm.training.rag.index import chunk_documents, searchable_text

SLIPS = 0.3  # share of the training tasks with perturbed words
# Share of the training tasks of one call that end with it: the call is harder to learn than the answer, most where the
# result is a number, least where the answer is one line of the result and the model has to see which
ENDED = {"calculator": 0.8, "python": 0.5, "search_docs": 0.5, "signature": 0.2, "follow_up": 0.5}
# Shares of the kinds: about one conversation in eight needs no tool
SHARES = {
    "calculator": 0.275,
    "python": 0.25,
    "search_docs": 0.14,
    "signature": 0.10,
    "chat": 0.125,
    "two_in_one": 0.06,
    "follow_up": 0.05,
    "plan": 0.04,
}


@dataclass(frozen=True)
class ToolConversation:
    """A conversation and the kind of task in it."""

    kind: str
    messages: Conversation


def make_conversations(
    maker: Maker, toolbox: Toolbox, count: int, rng: random.Random, ended: Mapping[str, float] = MappingProxyType({})
) -> list[ToolConversation]:
    """`count` conversations in the shares above, none twice but small talk, which has few variants.

    Of a kind, the share in `ended` of those with one call end there: no tool is run for them.
    """
    made: list[ToolConversation] = []
    seen: set[tuple[Message, ...]] = set()
    for _ in range(20 * count):  # a bound, where there are not enough
        if len(made) == count:
            break
        kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
        messages = tuple(_messages(kind, maker, toolbox, rng, ended))
        if messages in seen and kind != "chat":
            continue
        if len(messages[-1].text) <= MAX_RESULT_CHARS:
            seen.add(messages)
            made.append(ToolConversation(kind, messages))
    return made


def _messages(
    kind: str, maker: Maker, toolbox: Toolbox, rng: random.Random, ended: Mapping[str, float]
) -> list[Message]:
    """One conversation: a task done, or, as a planner of M13 does it, a message taken apart."""
    if kind == "plan":
        return plan(maker.two_in_one(rng))
    task = maker.follow_up(rng, toolbox) if kind == "follow_up" else getattr(maker, kind)(rng)
    if len(task.calls) == 1 and rng.random() < ended.get(kind, 0.0):
        return [*task.history, Message("user", task.prompt), Message("tool_call", task.calls[0].text)]
    return conversation(task, toolbox)


def word_search(documents: Sequence[Document], params: IndexParams) -> Search:
    """BM25 over the chunks of `documents`: what the tool searches while there is no index yet."""
    chunks = chunk_documents(documents, params)
    index = BM25.build([searchable_text(chunk) for chunk in chunks], params.bm25_k1, params.bm25_b)

    def search(query: str, k: int) -> list[Passage]:
        return [Passage(chunks[i].source, chunks[i].text) for i, _ in index.search(query, k)]

    return search


def make_split(
    split: str,
    documents: Sequence[Document],
    objects: Sequence[PythonObject],
    search: Search,
    count: int,
    rng: random.Random,
) -> list[ToolConversation]:
    """Conversations about the names and topics of one split ("train" or "val"), in the phrasings for training."""
    collect = whole_text_values if split == "train" else collect_values
    maker = Maker(
        "TRAIN",
        collect(documents, [item for item in objects if item.split == split], objects),
        "TRAIN" if split == "train" else "DEV",
        SLIPS if split == "train" else 0.0,
    )
    return make_conversations(maker, make_toolbox(search, objects), count, rng, ENDED if split == "train" else {})
