"""The agent over what the pipeline made: `run_agent("what is 12 times 7?")`."""

import functools
from dataclasses import dataclass
from pathlib import Path

from agents.tool_agent.assistant_tools import assistant_toolbox
from agents.tool_agent.best_call import BEAMS
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.policy import ModelPolicy, ReplayPolicy
from agents.tool_agent.tools import Passage, Search, Toolbox
from agents.tool_agent.trace import Trace
from llmm import paths
from llmm.corpus import SPLITS, load_documents, load_objects
from llmm.corpus.stdlib import dotted_name
from llmm.lineage import Artifact, open_artifact
from llmm.training.lora.adapter import load_tuned
from llmm.training.lora.spaced import load_codec


@dataclass(frozen=True)
class Agent:
    """A policy with its tools."""

    policy: ModelPolicy
    tools: Toolbox

    def run(self, task: str, limits: Limits | None = None) -> Trace:
        """One task, start to end."""
        return run_tasks([(task, ())], self.policy, self.tools, limits)[0]


def run_agent(task: str, limits: Limits | None = None) -> Trace:
    """Do `task` with the tuned model and the tools of this project's data folder.

    Raises UserError where an artifact is missing, damaged or does not belong to the others.
    """
    return load_agent().run(task, limits)


def replay(trace: Trace, tools: Toolbox, limits: Limits | None = None) -> Trace:
    """The same turns again, with the tools asked anew: equal to `trace` unless a tool has changed."""
    again = run_tasks([(trace.task, trace.history)], ReplayPolicy([trace]), tools, limits)[0]
    if again.stop == "context" and len(again.steps) == len(trace.steps):
        again.stop = trace.stop  # no turn is recorded after it: the time or the context was used up then
    return again


@functools.lru_cache(maxsize=1)
def load_agent(data: Path = paths.DATA) -> Agent:
    """The tuned model, its tokenizer, the index and the documented objects under `data`."""
    tokenizer = data / paths.TOKENIZER.name
    model, _ = load_tuned(data / paths.ADAPTER.name, data / paths.MODEL.name, tokenizer)
    tools = load_toolbox(data)
    codec = load_codec(tokenizer)
    return Agent(ModelPolicy(model, codec, list(tools.tools.values()), beams=BEAMS), tools)


def load_toolbox(data: Path = paths.DATA) -> Toolbox:
    """The four tools over the index and the documented objects under `data`."""
    corpus = data / paths.CORPUS.name
    return assistant_toolbox(load_search(data), load_objects(corpus), functools.partial(_module_texts, corpus))


def _module_texts(corpus: Path) -> dict[str, str]:
    """The source of each module by its dotted name, and any other document by its id."""
    documents = (document for split in SPLITS for document in load_documents(corpus, split))
    return {dotted_name(one.id) if one.id.endswith(".py") else one.id: one.text for one in documents}


def load_search(data: Path = paths.DATA) -> Search:
    """The search function over the index under `data`."""
    from llmm.training.rag.index import open_index

    index, _ = open_index(*(data / path.name for path in _INDEX_PARTS))
    return lambda query, k: [Passage(hit.chunk.source, hit.chunk.text) for hit in index.search(query, k)]


_INDEX_PARTS = (paths.INDEX, paths.ENCODER, paths.MODEL, paths.TOKENIZER, paths.CORPUS)


def artifacts(data: Path = paths.DATA) -> dict[str, Artifact]:
    """The artifacts that an agent is made of, checked."""
    return {kind: open_artifact(data / kind, kind) for kind in ("corpus", "tokenizer", "model", "adapter", "index")}
