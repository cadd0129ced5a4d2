"""Stage agent_eval: the tool agent on new values and new phrasings, beside its baselines.

`python -m pipelines.agent_eval [--no-prefect] [--fresh]` writes data/metrics/agent_eval.json, a row for each item in
data/evaluations/agent_eval.jsonl and the figures in visualizations/agent_eval/.
"""

from pipelines.flows.stage import evaluation_stage
from pipelines.flows.targets import AGENT
from pipelines.stage import run_stage

main = evaluation_stage(AGENT, "pipelines.flows.agent_eval:agent_eval")

if __name__ == "__main__":
    run_stage("agent_eval", main)
