"""Exact calls on development data, to choose by: `python -m agents.tool_agent.development [--tasks N] [--price NATS]`.

Values of the validation split, phrasings of training ("new values") and the development phrasings ("new phrasings",
"two calls", "no tool", where "replies" is the share of right replies). The calls that are kept for development hold
few phrases to search for, each many times; "unseen phrases" are all those that the validation documents have and the
training documents have not, in phrasings of training, and "cut_short" says how often a part of one was searched for.
Nothing here looks at a test phrasing or at the test split, so any number of looks costs nothing.
"""

import argparse
import dataclasses
import json
import random
from collections.abc import Callable, Collection
from statistics import fmean

from agents.tool_agent.agent import load_toolbox
from agents.tool_agent.best_call import BEAMS, LEFT_OUT
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.policy import ModelPolicy
from agents.tool_agent.tasks import Call, Maker, Task, part_of
from agents.tool_agent.trace import Trace
from agents.tool_agent.values import Values, collect_values
from agents.tool_agent.whole_text import whole_text_values
from llmm import paths
from llmm.corpus import load_documents, load_objects
from llmm.params import load_params
from llmm.training.lora.adapter import load_tuned
from llmm.training.lora.spaced import load_codec

KINDS = ("calculator", "python", "search_docs", "signature")
SUITES = ("new_values", "new_phrasings", "two_calls", "no_tool", "unseen_phrases")


@dataclasses.dataclass(frozen=True)
class UnseenPhrases(Maker):
    """Makes searches for the phrases of `values` alone, of which one at least has to belong to `part`."""

    def search_docs(self, rng: random.Random) -> Task:
        """See Maker."""
        phrases = {*self.values.topics, *self.values.deeds}
        while True:
            task = super().search_docs(rng)
            if task.calls[0].arguments["query"] in phrases:
                return task


def development_suites() -> dict[str, tuple[Maker, tuple[str, ...]]]:
    """Suite -> who makes its tasks, and of which kinds; without unseen phrases where the corpus has none."""
    objects = load_objects(paths.CORPUS)

    def values_of(split: str, collect: Callable[..., Values]) -> Values:
        return collect(load_documents(paths.CORPUS, split), [item for item in objects if item.split == split], objects)

    values, read = values_of("val", collect_values), values_of("val", whole_text_values)
    learnt = values_of("train", whole_text_values)
    known, new = Maker("TRAIN", values, "DEV"), Maker("DEV", values, "DEV")
    suites: dict[str, tuple[Maker, tuple[str, ...]]] = {
        "new_values": (known, KINDS),
        "new_phrasings": (new, KINDS),
        "two_calls": (new, ("two_in_one",)),
        "no_tool": (new, ("chat",)),
    }
    topics, deeds = set(read.topics) - set(learnt.topics), set(read.deeds) - set(learnt.deeds)
    if any(part_of(Call("search_docs", {"query": phrase}).text) == "TRAIN" for phrase in topics | deeds):
        unseen = Values(values.names, tuple(sorted(topics)), tuple(sorted(deeds)))
        suites["unseen_phrases"] = (UnseenPhrases("TRAIN", unseen, "TRAIN"), ("search_docs",))
    return suites


def development_rates(
    tasks: int, show: int, beams: int = BEAMS, price: float = LEFT_OUT, chosen: Collection[str] = SUITES
) -> dict[str, dict[str, float]]:
    """Suite, of those `chosen`, -> kind -> share of exact calls; the first `show` failures of each are printed."""
    params = load_params()
    model, _ = load_tuned(paths.ADAPTER, paths.MODEL, paths.TOKENIZER)
    toolbox = load_toolbox()
    codec = load_codec(paths.TOKENIZER)
    policy = ModelPolicy(model, codec, list(toolbox.tools.values()), beams=beams, price=price)
    rates: dict[str, dict[str, float]] = {}
    for suite, (maker, kinds) in development_suites().items():
        if suite not in chosen:
            continue
        rng = random.Random(f"{params.seed} development {suite}")
        drawn: list[tuple[str, Task]] = [(kind, getattr(maker, kind)(rng)) for _ in range(tasks) for kind in kinds]
        traces = run_tasks([(task.prompt, task.history) for _, task in drawn], policy, toolbox, Limits(seconds=3600))
        done = [(kind, task, trace) for (kind, task), trace in zip(drawn, traces, strict=True)]
        exact = [trace.calls == [call.text for call in task.calls] for _, task, trace in done]
        wrong = [(task, trace) for (_, task, trace), right in zip(done, exact, strict=True) if not right]
        for task, trace in wrong[:show]:
            print(f"{suite}: {task.prompt}\n  expected {[call.text for call in task.calls]}\n  got      {trace.calls}")
        by_kind = {kind: [right for (k, *_), right in zip(done, exact, strict=True) if k == kind] for kind in kinds}
        rates[suite] = {kind: round(fmean(found), 4) for kind, found in by_kind.items()} | {
            "all": round(fmean(exact), 4)
        }
        if suite == "no_tool":
            rates[suite]["replies"] = round(fmean(trace.answer == task.reply for _, task, trace in done), 4)
        if suite == "unseen_phrases":
            rates[suite]["cut_short"] = round(fmean(_is_cut_short(task, trace) for _, task, trace in done), 4)
    return rates


def _is_cut_short(task: Task, trace: Trace) -> bool:
    """Whether a part of the phrase was searched for."""
    if len(trace.calls) != 1:
        return False
    asked = task.calls[0].arguments["query"]
    written = json.loads(trace.calls[0])["arguments"].get("query", asked)
    return written in asked and written != asked


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m agents.tool_agent.development", description=__doc__)
    parser.add_argument("--tasks", type=int, default=60, help="tasks of each kind in each suite")
    parser.add_argument("--beams", type=int, default=BEAMS, help="of the search for the best call; 1: none")
    parser.add_argument("--price", type=float, default=LEFT_OUT, help="nats for each number that a call leaves out")
    parser.add_argument("--show", type=int, default=0, help="failures to print of each suite")
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=SUITES, help="which suites to run")
    arguments = parser.parse_args()
    rates = development_rates(arguments.tasks, arguments.show, arguments.beams, arguments.price, arguments.suites)
    print(json.dumps(rates, indent=2))
