"""The two evaluations of the pipeline, by reference, with everything that they read."""

from llmm import paths
from pipelines.flows.engine import Target

_MODELS = (
    (paths.TOKENIZER, "tokenizer"),
    (paths.MODEL, "model"),
    (paths.ADAPTER, "adapter"),
    (paths.ENCODER, "encoder"),
)
_DATA = ((paths.CORPUS, "corpus"), (paths.INDEX, "index"))

RAG = Target("rag_eval", "llmm.training.rag.evaluation:rag_evaluation", _MODELS, _DATA, (paths.EVALS,))
AGENT = Target("agent_eval", "agents.tool_agent.evaluation:agent_evaluation", _MODELS, _DATA, (paths.EVALS,))
