"""The `llmm` command. Heavy imports stand inside the commands that need them, so `llmm --help` answers at once."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from llmm.errors import UserError

Command = TypeVar("Command", bound=Callable[..., Any])

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
# resolved at once: `in_project` leaves the folder that a path was given in
FILE_PATH = click.Path(dir_okay=False, path_type=Path, resolve_path=True)
FOLDER_PATH = click.Path(file_okay=False, path_type=Path, resolve_path=True)
mine_option = click.option(
    "--mine", type=FOLDER_PATH, help="Your own implementations in this folder, not the reference."
)


class Words(click.types.StringParamType):
    """Words for the model, which are Unicode: bytes that are none reach Python as lone surrogates."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click."""
        words = str(super().convert(value, param, ctx))
        if any("\ud800" <= character <= "\udfff" for character in words):
            self.fail(f"{words!r} is not text in UTF-8", param, ctx)
        return words


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def llmm(debug: bool) -> None:
    """Large language models from first principles to production, over a text of your own."""


def main() -> None:
    """Entry point: one line for every fault that the user can mend, exit code 2 for wrong usage, 1 for a failed run."""
    try:
        llmm(standalone_mode=False)
    except click.exceptions.Abort:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        if "--debug" in sys.argv[1:2]:
            raise
        print(f"llmm: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `llmm ... | head`
        sys.stderr.close()


def in_project(command: Command) -> Command:
    """Run the command in the project's root, which is here or in a folder above."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        import os

        here = Path.cwd()
        root = next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), None)
        if root is None:
            raise UserError(f"no params.yaml in {here} or above: run this in the project's folder")
        os.chdir(root)
        return command(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


def print_json(value: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


@llmm.command()
@click.argument("prompt", type=Words())
@click.option("--max-new-tokens", default=160, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.option("--temperature", default=1.0, show_default=True, help="0 takes the most likely token each time.")
@click.option("--top-k", default=0, show_default=True, help="Draw from the k most likely tokens, 0 for all.")
@click.option("--top-p", default=0.9, show_default=True, help="Draw from the most likely tokens of this mass.")
@click.option("--min-p", default=0.0, show_default=True, help="Drop tokens so many times less likely than the best.")
@click.option("--repetition-penalty", default=1.0, show_default=True, help="Above 1: tokens that were there get rarer.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(-(2**63), 2**63 - 1), help="Of the draw.")
@as_json
@in_project
def generate(
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    seed: int,
    json_: bool,
) -> None:
    """Continue PROMPT with the pretrained model."""
    from llmm.transformers.gpt.sampling import Sampler

    sampler = Sampler(
        temperature, top_k, top_p, min_p, repetition_penalty
    )  # refuses impossible settings before anything is loaded
    if not prompt:
        raise UserError("the prompt is empty: give it some text, such as `llmm generate 'def main('`")
    import torch

    from llmm.paths import MODEL
    from llmm.training.pretraining.folder import load_model
    from llmm.training.tokenizer.special import END_OF_TEXT
    from llmm.transformers.gpt.generate import stream

    pretrained = load_model(MODEL)
    separator = pretrained.tokenizer.token_to_id(END_OF_TEXT)
    # every training document stood behind the separator
    ids = [separator, *pretrained.tokenizer.encode(prompt).ids]
    tokens: list[int] = []
    if not json_:
        print(prompt, end="", flush=True)
    written = ""
    generator = torch.Generator().manual_seed(seed)
    for _, token in stream(pretrained.gpt, [ids], max_new_tokens, [separator], sampler, generator):
        tokens.append(token)
        text = pretrained.tokenizer.decode(tokens)
        # a character of several bytes is shown once it is whole
        if not json_ and not text.endswith("\ufffd"):
            print(text[len(written) :], end="", flush=True)
            written = text
    if json_:
        text = pretrained.tokenizer.decode(tokens)
        print_json({"prompt": prompt, "text": text, "tokens": len(tokens), "model": pretrained.artifact.short})
    else:
        print()


@llmm.command()
@click.argument("text", type=Words())
@click.option("--figures", type=FOLDER_PATH, help="Draw the lens and the attention of every head into this folder.")
@as_json
@in_project
def lens(text: str, figures: Path | None, json_: bool) -> None:
    """What the pretrained model would say after each of its layers, at every token of TEXT."""
    if not text:
        raise UserError("the text is empty: give it some, such as `llmm lens 'def main('`")
    from llmm.paths import MODEL
    from llmm.training.pretraining.folder import load_model
    from llmm.transformers.gpt import lens_view

    view = lens_view.look(load_model(MODEL), text)
    if figures is not None:
        view.draw(figures)
    print_json(view.as_json()) if json_ else view.render()


@llmm.command()
@click.argument("question", type=Words())
@click.option("--retriever", type=click.Choice(["bm25", "dense", "hybrid"]), help="Default: index.retriever.")
@as_json
@in_project
def ask(question: str, retriever: str | None, json_: bool) -> None:
    """Answer QUESTION from the index, with citations, or say that it is not there."""
    from dataclasses import asdict

    from llmm.training.rag.answer import answer

    found = answer(question, retriever=retriever)
    if json_:
        print_json(asdict(found))
        return
    print(found.text)
    for number, citation in enumerate(found.citations, start=1):
        quote = " ".join(citation.quote.split())
        print(f"  [{number}] {citation.source} {citation.start}-{citation.end}: {quote[:160]}")


def _commands(_: click.Context, __: click.Parameter, values: Sequence[str]) -> list[tuple[list[str], Path]]:
    """Each command's words and the folder it was given in, which `in_project` leaves."""
    import shlex

    try:
        commands = [shlex.split(value) for value in values]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None  # without the command, which may hold a token
    if not all(commands):
        raise click.BadParameter("the command is empty: give one, such as `python server.py`")
    return [(words, Path.cwd()) for words in commands]


def _visible(text: str) -> str:
    """Text that comes from elsewhere, for a terminal: what steers one is shown and not sent."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def _approved(call: str) -> bool:
    """Ask the person on the terminal; without one, no."""
    if not sys.stdin.isatty():
        print(f"llmm: not approved, since there is no terminal to ask on: {_visible(call)}", file=sys.stderr)
        return False
    return click.confirm(f"  run     {_visible(call)}?", default=False, err=True)


@llmm.command()
@click.argument("task", type=Words())
@click.option("--mcp", "mcp_", multiple=True, metavar="COMMAND", callback=_commands, help="MCP server to start.")
@click.option("--server", metavar="URL", help="Ask an OpenAI-compatible server; its key is read from LLMM_API_KEY.")
@click.option("--model", metavar="NAME", help="Of the model on that server.")
@click.option("--trust", is_flag=True, help="Believe the MCP servers about which of their tools only read.")
@click.option("--yes", is_flag=True, help="Approve every call.")
@click.option("--save", type=FILE_PATH, help="Write the trace to this file.")
@as_json
@in_project
def agent(
    task: str,
    mcp_: list[tuple[list[str], Path]],
    server: str | None,
    model: str | None,
    trust: bool,
    yes: bool,
    save: Path | None,
    json_: bool,
) -> None:
    """Do TASK with the tuned model and its tools: calculator, search_docs, signature, python.

    --mcp adds the tools of an MCP server, as in --mcp "python server.py"; it may be given more than once. A call of
    such a tool is shown and waits for a yes, with --trust only where the server does not say that the tool only reads.
    The tuned model was never trained on such tools: the grammar keeps its calls valid, not sensible. --server with
    --model lets another model decide.
    """
    if not task.strip():
        raise UserError("the task is empty: give one, such as `llmm agent 'what is 12 times 7?'`")
    if (server is None) != (model is None):
        raise click.UsageError("--server and --model go together")
    if mcp_ or server is not None:
        import os

        from agents.tool_agent.extended import ModelServer, run_extended

        chosen = None if server is None else ModelServer(server, str(model), os.environ.get("LLMM_API_KEY"))
        trace = run_extended(task, mcp_, chosen, (lambda _: True) if yes else _approved, trust)
    else:
        from agents.tool_agent.agent import run_agent

        trace = run_agent(task)
    if json_:
        print_json(trace.to_json())
    else:
        for step in trace.steps:
            if step.role == "tool_call":
                print(f"  call    {_visible(step.text)}")
                print(f"  result  {_visible(str(step.result))}")
        print(_visible(trace.answer) or f"no answer: the run ended because of {trace.stop}")
    if save is not None:
        try:
            trace.save(save)
        except OSError as error:
            raise UserError(f"{save} cannot be written ({error.strerror})") from None


@llmm.command()
@click.argument("task", type=Words())
@click.option("--tokens", default=6000, show_default=True, type=click.IntRange(1), help="Budget, read and written.")
@click.option("--calls", default=12, show_default=True, type=click.IntRange(1), help="Budget of tool calls.")
@as_json
@in_project
def team(task: str, tokens: int, calls: int, json_: bool) -> None:
    """Do TASK with a planner, which takes it apart, and a worker for each part, under one budget.

    All of them are the tuned model. What the planner writes are parts of TASK, word for word.
    """
    if not task.strip():
        raise UserError(
            "the task is empty: give one, such as `llmm team 'what is 12 times 7 and where is json.loads?'`"
        )
    from agents.multi_agent.team import run_team

    transcript = run_team(task, tokens, calls)
    if json_:
        print_json(transcript.to_json())
        return
    for turn in transcript.turns:
        print(f"{turn.who}: {_visible(turn.asked)}")
        for call, result in zip(turn.calls, turn.results, strict=True):
            print(f"  call    {_visible(call)}\n  result  {_visible(result)}")
        print(
            f"  says    {_visible(turn.answer)}" if turn.answer else f"  says nothing: it ended because of {turn.stop}"
        )
    spent = transcript.budget
    print(_visible(transcript.answer) or f"no answer: {transcript.outcome}")
    print(f"{spent.spent_tokens:,} of {spent.tokens:,} tokens, {spent.spent_calls} of {spent.calls} calls")


@llmm.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--rows", default=16, show_default=True, type=click.IntRange(1, 64), help="Answers written at a time.")
@in_project
def serve(host: str, port: int, rows: int) -> None:
    """A chat page and an OpenAI-compatible API over the assistant, on this machine alone by default.

    The models are called `assistant`, the agent with its tools, and `chat`, the same weights without tools. Nothing
    asks for a key: a --host that other machines reach opens the server to all of them.
    """
    from agents.capstone.server import serve

    serve(host, port, rows)


@llmm.command()
@mine_option
@as_json
@in_project
def status(mine: Path | None, json_: bool) -> None:
    """The board: artifacts of the pipeline, and where each of the fourteen milestones stands."""
    from llmm.ladder.status import board, render

    state = board(mine)
    print_json(state) if json_ else render(state)


@llmm.command()
@click.argument("milestone")
@click.option("--watch", is_flag=True, help="Check again at every change of its files.")
@mine_option
@as_json
@in_project
def check(milestone: str, watch: bool, mine: Path | None, json_: bool) -> None:
    """Measure every exit criterion of MILESTONE now; exit code 1 where one does not hold."""
    from llmm.ladder import commands, show

    def shown(checked: commands.Checked) -> None:
        if json_:
            print_json({"passed": checked.passed, "criteria": show.as_json(checked.results, checked.predicted)})
        else:
            show.render(checked.heading, checked.results, checked.predicted)

    if watch:
        commands.watch(milestone, mine, shown)
    checked = commands.check(milestone, mine)
    shown(checked)
    sys.exit(0 if checked.passed else 1)


@llmm.command("next")
@mine_option
@in_project
def next_(mine: Path | None) -> None:
    """What to read, do and write now; refuses to go on while something fails."""
    from llmm.ladder.commands import next_step

    plan, refusal = next_step(mine)
    print(plan)
    if refusal:
        raise UserError(refusal)


@llmm.command()
@click.argument("milestone")
@click.option("--into", required=True, type=FOLDER_PATH, help="The folder of your own implementations.")
@in_project
def begin(milestone: str, into: Path) -> None:
    """Write stubs of MILESTONE's contract (signatures and docstrings, no solution) for your own implementation."""
    from llmm.ladder.milestones import find_milestone
    from llmm.ladder.stubs import begin

    for path in begin(find_milestone(milestone), into):
        print(path)


@llmm.command()
@in_project
def log() -> None:
    """Write experiments_log.md and the other generated parts of the ladder's documents from records and specs."""
    from llmm.ladder.documents import write

    written = write()
    print(f"rewritten: {', '.join(map(str, written))}" if written else "every document is up to date")


@llmm.command()
@click.argument("name", required=False)
@in_project
def preset(name: str | None) -> None:
    """Set many keys of params.yaml at once; without NAME, list the presets."""
    from llmm.presets import FOLDER, apply_preset, known_presets

    if name is None:
        for known in known_presets():
            comment = (FOLDER / f"{known}.yaml").read_text(encoding="utf-8").splitlines()[0]
            print(f"{known:8} {comment.lstrip('# ')}")
        return
    changes = apply_preset(name)
    print("\n".join(changes) if changes else f"params.yaml is at preset {name} already")
    print("back to the committed values: git checkout params.yaml")


@llmm.group()
def export() -> None:
    """The model in other tools' formats."""


@export.command("hf")
@click.argument("folder", type=FOLDER_PATH)
@click.option("--base", is_flag=True, help="The pretrained model, without the assistant's adapter.")
@in_project
def export_hf(folder: Path, base: bool) -> None:
    """Write FOLDER for `transformers`: weights with the adapter merged in, tokenizer, chat template."""
    from llmm.training.lora.export import export_to_transformers

    difference = export_to_transformers(folder, base)
    print(f"{folder}: opened by transformers, largest difference of logits {difference:.1e}")


@export.command("gguf")
@click.argument("file", type=FILE_PATH)
@click.option("--base", is_flag=True, help="The pretrained model, without the assistant's adapter.")
@click.option("--type", "kind", default="f32", show_default=True, type=click.Choice(["f32", "f16", "q8_0"]))
@in_project
def export_gguf(file: Path, base: bool, kind: Literal["f32", "f16", "q8_0"]) -> None:
    """Write FILE for llama.cpp: weights with the adapter merged in, tokenizer, chat template.

    --type says how matrices are stored: in 32 or 16 bits a weight, or in 8 bits and a scale for every 32 weights.
    """
    from agents.capstone.gguf import export_to_gguf
    from agents.capstone.gguf_tokenizer import PRE_TOKENIZER

    found = export_to_gguf(file, base, kind)
    print(
        f"{file}: {found.bytes / 1e6:.1f} MB, weights {found.weights_sha256[:12]}, opened by transformers, largest "
        f"difference of logits {found.difference:.1e} ({found.stored_difference:.1e} from the weights as stored)"
    )
    print(
        f"no split that llama.cpp knows is exactly ours; with {PRE_TOKENIZER} and marked line ends {found.tokens.words}"
        if found.tokens
        else "the corpus is not there, so llama.cpp's tokens were not compared with ours"
    )


def _revision_or_folder(_: click.Context, __: click.Parameter, value: str) -> str:
    """A folder's whole path, since `in_project` leaves the folder that it was given in; a revision as it is."""
    return str(Path(value).resolve()) if value and Path(value).is_dir() else value


@llmm.command()
@click.argument("file", required=False, type=FILE_PATH)
@in_project
def card(file: Path | None) -> None:
    """The model card with every figure from the metrics at hand; into FILE, or on standard output."""
    from agents.capstone.model_card import make_card, write_card

    if file is None:
        print(make_card(), end="")
        return
    write_card(file)
    print(file)


@llmm.command()
@click.option(
    "--baseline", default="HEAD", show_default=True, metavar="REVISION|FOLDER", callback=_revision_or_folder,
    help="What to compare with.",
)  # fmt: skip
@as_json
@in_project
def gate(baseline: str, json_: bool) -> None:
    """Compare the evaluations in data with a baseline; exit code 1 where a figure got worse by more than noise.

    A git revision has its figures in git and its items in DVC's cache; a folder holds metrics and evaluations.
    """
    from agents.capstone.gate import render, run_gate

    report = run_gate(baseline)
    if json_:
        print_json(report.to_json())
    elif report.regressed:
        print("\n".join(verdict.line for verdict in report.regressed))
    else:
        render(report)
    sys.exit(1 if report.regressed else 0)


@llmm.group()
def bench() -> None:
    """Benchmarks, each beside its peer in one run."""


@bench.command("generate")
@click.option("--new-tokens", default=128, show_default=True, type=click.IntRange(min=8), help="Written by each row.")
@as_json
@in_project
def bench_generate(new_tokens: int, json_: bool) -> None:
    """Cached greedy generation of the pretrained model beside `transformers.generate` on the same weights."""
    from llmm.paths import MODEL
    from llmm.transformers.gpt import bench_generate as generation

    result = generation.bench_generate(MODEL, new_tokens)
    print_json(result) if json_ else generation.render(result)


@bench.command("step")
@click.option("--preset", default="default", show_default=True, help="Whose recipe: a preset, or params.yaml as it is.")
@click.option("--steps", default=8, show_default=True, type=click.IntRange(min=3), help="Steps timed for each.")
@as_json
@in_project
def bench_step(preset: str, steps: int, json_: bool) -> None:
    """A training step beside models of the same sizes: `transformers`', eager and compiled, and plain torch's."""
    from llmm.training.pretraining import bench_step as step

    result = step.bench_step(steps, preset)
    print_json(result) if json_ else step.render(result)


@bench.command("pretrain")
@click.option("--preset", default="default", show_default=True, help="Whose recipe: a preset, or params.yaml as it is.")
@click.option("--seconds", default=100.0, show_default=True, type=click.FloatRange(min=5), help="Wall time of a run.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1), help="Runs, one after the other.")
@click.option("--text", type=FILE_PATH, help="Train on the characters of this file.")
@click.option("--part", default=1.0, show_default=True, type=click.FloatRange(0.1, 1), help="Leave out the text's end.")
@as_json
@in_project
def bench_pretrain(preset: str, seconds: float, seeds: int, text: Path | None, part: float, json_: bool) -> None:
    """Pretraining for a fixed wall time, start and scoring included, beside an n-gram."""
    from llmm.training.pretraining import bench_pretrain as pretraining

    result = pretraining.bench_pretrain(preset, seconds, seeds, text, part)
    print_json(result) if json_ else pretraining.render(result)


@bench.command("tokenizer")
@as_json
@in_project
def bench_tokenizer(json_: bool) -> None:
    """Training and encoding the corpus, beside `tokenizers` and `tiktoken` with the same merges."""
    from llmm.training.tokenizer import bench as tokenizer

    result = tokenizer.bench_tokenizer()
    print_json(result) if json_ else tokenizer.render(result)


@bench.command("retrieval")
@click.argument("questions", type=FILE_PATH)
@as_json
@in_project
def bench_retrieval(questions: Path, json_: bool) -> None:
    """Every ranker and the reader on QUESTIONS, a file in SQuAD's format about text that nothing was trained on."""
    from llmm.params import load_params
    from llmm.paths import PARAMS
    from llmm.training.rag import bench_squad as squad

    result = squad.bench_squad(questions, load_params(PARAMS))
    print_json(result) if json_ else squad.render(result)


@bench.command("serve")
@click.option("--requests", default=48, show_default=True, type=click.IntRange(min=1), help="In each round.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="At each concurrency.")
@click.option("--concurrency", default=(1, 4, 16), show_default=True, multiple=True, type=click.IntRange(1, 64))
@as_json
@in_project
def bench_serve(requests: int, rounds: int, concurrency: Sequence[int], json_: bool) -> None:
    """Throughput and latency of `llmm serve` beside the same server answering one request at a time."""
    from agents.capstone import load

    result = load.bench_serve(requests, concurrency, rounds)
    print_json(result) if json_ else load.render(result)


if __name__ == "__main__":
    main()
