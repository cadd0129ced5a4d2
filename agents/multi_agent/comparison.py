"""The team beside the agent on messages of two questions: `python -m agents.multi_agent.comparison [--tasks N]`.

The same weights, tools and tasks; values of the test split, questions joined in the words of training and in words that
training never sees. Written to data/experiments/team.json.
"""

import argparse
import json
import random
from typing import Any

from agents.multi_agent.budget import Budget
from agents.multi_agent.crew import Crew, tokens_of
from agents.multi_agent.mcnemar import paired
from agents.multi_agent.planner_workers import PlannerWorkers
from agents.multi_agent.transcript import Transcript
from agents.tool_agent.agent import load_agent
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.phrasings.tables import Split
from agents.tool_agent.tasks import Maker
from agents.tool_agent.values import collect_values
from llmm import paths
from llmm.corpus import load_documents, load_objects
from llmm.files import write_json
from llmm.params import load_params
from llmm.statistics import paired_bootstrap, wilson_interval

FILE = paths.DATA / "experiments" / "team.json"
PHRASINGS: dict[str, Split] = {"known phrasings": "TRAIN", "new phrasings": "TEST"}
_ENDLESS = Limits(seconds=3600)
_UNBOUNDED = 10**9


def compare(count: int, seed: int) -> dict[str, Any]:
    """Exact calls of both, the difference in pairs, McNemar's exact p-value, and tokens read and written."""
    agent = load_agent()
    objects = load_objects(paths.CORPUS)
    of_split = [item for item in objects if item.split == "test"]
    values = collect_values(load_documents(paths.CORPUS, "test"), of_split, objects)
    crew = Crew(agent.policy.model, agent.policy.codec, _ENDLESS, beams=agent.policy.beams)
    team = PlannerWorkers(crew, agent.tools)
    found: dict[str, Any] = {"tasks": count}
    for name, phrasings in PHRASINGS.items():
        rng = random.Random(f"{seed} team {name}")
        maker = Maker(phrasings, values, "TEST")
        tasks = [maker.two_in_one(rng) for _ in range(count)]
        wanted = [[call.text for call in task.calls] for task in tasks]
        traces = run_tasks([(task.prompt, ()) for task in tasks], agent.policy, agent.tools, _ENDLESS)
        transcripts = [Transcript(task.prompt, Budget(_UNBOUNDED, _UNBOUNDED)) for task in tasks]
        team(transcripts)
        alone = [trace.calls == calls for trace, calls in zip(traces, wanted, strict=True)]
        together = [list(one.calls) == calls for one, calls in zip(transcripts, wanted, strict=True)]
        pairs = paired(together, alone)
        planned = [
            tuple(turn.asked for turn in one.turns if turn.who == "worker") == task.parts_as_read
            for one, task in zip(transcripts, tasks, strict=True)
        ]
        found[name] = {
            "agent": _rate(alone),
            "team": _rate(together),
            "team_minus_agent": paired_bootstrap(list(map(float, together)), list(map(float, alone)), 2000, seed),
            "only_team": pairs.only_first,
            "only_agent": pairs.only_second,
            "p_value": pairs.p_value,
            "planned": _rate(planned),
            "agent_tokens": sum(tokens_of(trace, agent.policy.codec) for trace in traces) / count,
            "team_tokens": sum(one.budget.spent_tokens for one in transcripts) / count,
        }
    return found


def _rate(right: list[bool]) -> dict[str, float]:
    low, high = wilson_interval(sum(right), len(right))
    return {"rate": sum(right) / len(right), "low": low, "high": high}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m agents.multi_agent.comparison", description=__doc__)
    parser.add_argument("--tasks", type=int, default=200, help="messages with each kind of phrasing")
    result = compare(parser.parse_args().tasks, load_params().seed)
    write_json(FILE, result)
    print(json.dumps(result, indent=1))
