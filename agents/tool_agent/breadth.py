"""How many phrasings must training hold? `python -m agents.tool_agent.breadth`, after `dvc repro`.

The same LoRA, steps and tool (the calculator), with more and more ways to ask. Two questions each time: are calls exact
on new numbers, in the phrasings of training, and are they in phrasings that training never saw?

`narrow`: six frames around an operation ("what is {a} plus {b}?"), two of them held out. The others: so many phrasings
of each of the four operations from the tables, stories among them, with the test phrasings of those operations held
out. No setting was chosen by this.
"""

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.phrasings.calculator import Table
from agents.tool_agent.phrasings.tables import Split, table
from agents.tool_agent.policy import ModelPolicy
from agents.tool_agent.tasks import Call, Maker, Task, conversation, part_of
from agents.tool_agent.tools import Toolbox, make_toolbox
from agents.tool_agent.values import Values
from llmm import paths
from llmm.figures import BASELINE_COLOUR, OURS, new_figure, save_figure
from llmm.files import write_json
from llmm.params import load_params
from llmm.statistics import wilson_interval
from llmm.training.lora.spaced import load_codec

RECORD = paths.DATA / "experiments" / "breadth.json"
FIGURE = paths.FIGURES / "phrasings" / "breadth.svg"
STEPS, CONVERSATIONS, TASKS = 150, 9_000, 300
EVERY = 1000  # more phrasings than any operation has
OPERATIONS = ("{a}+{b}", "{a}-{b}", "{a}*{b}", "{a}/{b}")
WORDS = {"+": ("plus", "+"), "-": ("minus", "-"), "*": ("times", "*"), "/": ("divided by", "/")}
FRAMES = ("what is {x}?", "calculate {x}", "{x} =", "how much is {x}?")
HELD_OUT_FRAMES = ("compute {x}", "tell me what {x} makes")
_NO_VALUES = Values((), (), ())

Draw = Callable[[random.Random], Task]


def narrow_task(rng: random.Random, frames: Sequence[str]) -> Task:
    """Two whole numbers and an operation, as a word or as a sign, in one of `frames`."""
    a, b = (rng.randint(1, 10 ** rng.randint(1, 4)) for _ in range(2))
    sign = rng.choice(list(WORDS))
    asked = f"{a} {rng.choice(WORDS[sign])} {b}"
    return Task(rng.choice(frames).format(x=asked), (Call("calculator", {"expression": f"{a}{sign}{b}"}),))


def some_phrasings(count: int, rng: random.Random) -> Table:
    """`count` phrasings for training of each of the four operations, or all that there are."""
    known = {operation: table("calculator", "TRAIN")[operation] for operation in OPERATIONS}
    return {operation: rng.sample(ways, min(count, len(ways))) for operation, ways in known.items()}


def of_part(draw: Draw, part: str) -> Draw:
    """Like `draw`, calls of this part of all calls alone: tasks to report on share none with training."""

    def drawn(rng: random.Random) -> Task:
        while part_of((task := draw(rng)).calls[0].text) != part:
            pass
        return task

    return drawn


def measure(name: str, phrasings: int, train: Draw, new_values: Draw, new_phrasings: Draw, seed: int) -> dict[str, Any]:
    """Tune a LoRA on conversations of `train` and count exact calls on both kinds of new tasks."""
    from llmm.training.lora.adapter import merge, save_adapter
    from llmm.training.lora.dataset import encode
    from llmm.training.lora.finetune import finetune
    from llmm.transformers.gpt import load_gpt

    rng = random.Random(f"{seed} breadth {name}")
    toolbox = make_toolbox(lambda query, k: [], [])
    codec = load_codec(paths.TOKENIZER)
    recipe = load_params().finetune.model_copy(update={"steps": STEPS})
    made = [conversation(train(rng), toolbox) for _ in range(CONVERSATIONS)]
    examples = encode(made, codec, recipe.seq_len)
    run = finetune(load_gpt(paths.MODEL), recipe, examples, examples[:200], seed)
    tuned = load_gpt(paths.MODEL)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(run.model, Path(folder))
        merge(tuned, Path(folder))
    policy = ModelPolicy(tuned, codec, list(toolbox.tools.values()))
    suites = {"new_values": new_values, "new_phrasings": new_phrasings}
    return {
        "trained": name,
        "phrasings": phrasings,
        "tokens": run.tokens,
        "seconds": round(run.tokens / run.tokens_per_second),
        **{suite: _exact([draw(rng) for _ in range(TASKS)], policy, toolbox) for suite, draw in suites.items()},
    }


def _exact(tasks: Sequence[Task], policy: ModelPolicy, toolbox: Toolbox) -> dict[str, float]:
    asked = [(task.prompt, task.history) for task in tasks]
    traces = run_tasks(asked, policy, toolbox, Limits(seconds=3600))  # no matter how fast the machine is
    right = sum(trace.calls == [call.text for call in task.calls] for task, trace in zip(tasks, traces, strict=True))
    low, high = wilson_interval(right, len(tasks))
    return {"rate": round(right / len(tasks), 4), "low": round(low, 4), "high": round(high, 4)}


def narrow(seed: int) -> dict[str, Any]:
    """Four frames for training, two held out."""

    def asked(frames: Sequence[str], part: str) -> Draw:
        return of_part(lambda rng: narrow_task(rng, frames), part)

    trained, held_out = asked(FRAMES, "TRAIN"), asked(HELD_OUT_FRAMES, "TEST")
    return measure("narrow", len(FRAMES), trained, asked(FRAMES, "TEST"), held_out, seed)


def wide(count: int, seed: int) -> dict[str, Any]:
    """`count` phrasings of each operation for training, all test phrasings of the four held out."""
    ways = some_phrasings(count, random.Random(f"{seed} phrasings {count}"))
    held_out = {operation: table("calculator", "TEST")[operation] for operation in OPERATIONS}

    def asked(phrasings: Split, ways: Table, part: Split) -> Draw:
        return lambda rng: Maker(phrasings, _NO_VALUES, part).calculator(rng, ways)

    trained, new = asked("TRAIN", ways, "TRAIN"), asked("TEST", held_out, "TEST")
    name = "all in the tables" if count == EVERY else f"{count} an operation"
    return measure(name, sum(map(len, ways.values())), trained, asked("TRAIN", ways, "TEST"), new, seed)


def draw(rows: Sequence[dict[str, Any]]) -> Path:
    """Exact calls against the number of phrasings in training, with intervals."""
    figure, axes = new_figure(height=3.2)
    counts = [row["phrasings"] for row in rows]
    for suite, colour, label in (
        ("new_values", BASELINE_COLOUR, "new numbers"),
        ("new_phrasings", OURS, "new phrasings"),
    ):
        rates = [row[suite] for row in rows]
        shares = [100 * rate["rate"] for rate in rates]
        below = [100 * (rate["rate"] - rate["low"]) for rate in rates]
        above = [100 * (rate["high"] - rate["rate"]) for rate in rates]
        axes.errorbar(counts, shares, [below, above], marker="o", color=colour, linewidth=1.2, capsize=2)
        axes.text(counts[-1] * 1.12, shares[-1], label, color=colour, va="center")
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="phrasings in training", ylabel="exact calls, %", ylim=(0, 105), xlim=(3.4, counts[-1] * 3.2))
    title = "How many phrasings must training hold? Equal tokens, the calculator"
    axes.set_title(title, loc="left", fontsize="medium")
    return save_figure(figure, FIGURE)


def main() -> None:
    """Run all settings, narrow first, write the record after each and draw the figure."""
    seed = load_params().seed
    rows = [narrow(seed)]
    for count in (2, 10, EVERY):
        write_json(RECORD, rows)
        print(rows[-1], flush=True)
        rows.append(wide(count, seed))
    write_json(RECORD, rows)
    print(rows[-1], flush=True)
    draw(rows)


if __name__ == "__main__":
    main()
