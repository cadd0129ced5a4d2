"""Stage rag_eval: retrieval and question answering over the index, beside their baselines.

`python -m pipelines.rag_eval [--no-prefect] [--fresh]` writes data/metrics/rag_eval.json, a row for each item in
data/evaluations/rag_eval.jsonl and the figures in visualizations/rag_eval/.
"""

from pipelines.flows.stage import evaluation_stage
from pipelines.flows.targets import RAG
from pipelines.stage import run_stage

main = evaluation_stage(RAG, "pipelines.flows.rag_eval:rag_eval")

if __name__ == "__main__":
    run_stage("rag_eval", main)
