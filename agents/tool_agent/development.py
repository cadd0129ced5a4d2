"""Exact calls on development data, to choose by: `python -m agents.tool_agent.development [--tasks N] [--price NATS]`.

Values of the validation split, phrasings of training ("new values") and the development phrasings ("new phrasings",
"two calls", "no tool", where "replies" is the share of right replies). Nothing here looks at a test phrasing or at the
test split, so any number of looks costs nothing.
"""

import argparse
import json
import random

from agents.tool_agent.agent import load_toolbox
from agents.tool_agent.best_call import BEAMS, LEFT_OUT
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.policy import ModelPolicy
from agents.tool_agent.tasks import Maker, Task
from agents.tool_agent.values import collect_values
from llmm import paths
from llmm.corpus import load_documents, load_objects
from llmm.params import load_params
from llmm.training.lora.adapter import load_tuned
from llmm.training.lora.spaced import load_codec

KINDS = ("calculator", "python", "search_docs", "signature")


def development_rates(
    tasks: int, show: int, beams: int = BEAMS, price: float = LEFT_OUT
) -> dict[str, dict[str, float]]:
    """Suite -> kind -> share of exact calls, the first `show` failures of each suite printed on the way."""
    params = load_params()
    objects = load_objects(paths.CORPUS)
    model, _ = load_tuned(paths.ADAPTER, paths.MODEL, paths.TOKENIZER)
    toolbox = load_toolbox()
    codec = load_codec(paths.TOKENIZER)
    policy = ModelPolicy(model, codec, list(toolbox.tools.values()), beams=beams, price=price)
    of_split = [item for item in objects if item.split == "val"]
    values = collect_values(load_documents(paths.CORPUS, "val"), of_split, objects)
    known, new = Maker("TRAIN", values, "DEV"), Maker("DEV", values, "DEV")
    suites = {
        "new_values": (known, KINDS),
        "new_phrasings": (new, KINDS),
        "two_calls": (new, ("two_in_one",)),
        "no_tool": (new, ("chat",)),
    }
    rates: dict[str, dict[str, float]] = {}
    for suite, (maker, kinds) in suites.items():
        rng = random.Random(f"{params.seed} development {suite}")
        drawn: list[tuple[str, Task]] = [(kind, getattr(maker, kind)(rng)) for _ in range(tasks) for kind in kinds]
        traces = run_tasks([(task.prompt, task.history) for _, task in drawn], policy, toolbox, Limits(seconds=3600))
        exact = [
            trace.calls == [call.text for call in task.calls] for (_, task), trace in zip(drawn, traces, strict=True)
        ]
        wrong = [(task, trace) for (_, task), trace, right in zip(drawn, traces, exact, strict=True) if not right]
        for task, trace in wrong[:show]:
            print(f"{suite}: {task.prompt}\n  expected {[call.text for call in task.calls]}\n  got      {trace.calls}")
        by_kind = {kind: [right for (k, _), right in zip(drawn, exact, strict=True) if k == kind] for kind in kinds}
        rates[suite] = {kind: round(sum(found) / len(found), 4) for kind, found in by_kind.items()}
        rates[suite]["all"] = round(sum(exact) / len(exact), 4)
        if suite == "no_tool":
            replied = [trace.answer == task.reply for (_, task), trace in zip(drawn, traces, strict=True)]
            rates[suite]["replies"] = round(sum(replied) / len(replied), 4)
    return rates


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m agents.tool_agent.development", description=__doc__)
    parser.add_argument("--tasks", type=int, default=60, help="tasks of each kind in each suite")
    parser.add_argument("--beams", type=int, default=BEAMS, help="of the search for the best call; 1: none")
    parser.add_argument("--price", type=float, default=LEFT_OUT, help="nats for each number that a call leaves out")
    parser.add_argument("--show", type=int, default=0, help="failures to print of each suite")
    arguments = parser.parse_args()
    rates = development_rates(arguments.tasks, arguments.show, arguments.beams, arguments.price)
    print(json.dumps(rates, indent=2))
