"""Fills the generated parts of README.md and the log from the metrics: `python -m pipelines.documents [--check]`.

`--check` changes nothing and fails where a part is not what the metrics say. The log holds the ladder's experiments as
well, which `llmm log` writes from their records.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from llmm import paths
from llmm.errors import UserError
from llmm.files import read_json, write_text
from llmm.generated import fill
from llmm.ladder.log import log_parts
from llmm.ladder.milestones import load_milestones
from llmm.training.rag.ranker_table import COLUMNS, LABELS, ranker_rows
from pipelines.summary import Summary, collect

DOCUMENTS = (Path("README.md"), Path("experiments_log.md"), Path("learning_journal.md"))
_OF_MILESTONE = re.compile(r"(M\d+ [^:]+): (.+)")  # a heading that the ladder writes


def _table(columns: str, rows: Sequence[str], *below: str) -> str:
    """A Markdown table under a head of `columns`, "a | b", with the lines `below` it."""
    return "\n".join([f"| {columns} |", f"|{'---|' * (columns.count(' | ') + 1)}", *rows, *below, ""])


def results(summary: Summary) -> str:
    """Each measure beside its baselines."""
    columns = "what | measure | ours | 95% interval | baselines"
    rows = []
    for m in summary.measures:
        interval = f"{m.interval[0]:.3f} to {m.interval[1]:.3f}" if m.interval else ""
        beside = ", ".join(f"{name} {value:.3f}" for name, value in m.baselines.items())
        value = f"**{m.value:.3f}**" if m.beats_all else f"{m.value:.3f}"
        rows.append(f"| {m.what} | {m.unit} | {value} | {interval} | {beside} |")
    return _table(columns, rows, "", "Bold: better than every baseline beside it.")


def costs(summary: Summary) -> str:
    """Time and peak memory of each stage of the run whose metrics are committed; a run that went on is marked."""
    columns = "stage | seconds | peak memory, MiB"
    rows = []
    stages = [stage for stage in summary.stages if stage["stage"] != "source"]  # always runs, 0.3 s, not in git
    for stage in stages:
        in_part = stage.get("batches_reused") or stage.get("went_on_from_step")
        name = f"{stage['stage']} (the rest of a run)" if in_part else stage["stage"]
        rows.append(f"| {name} | {stage['seconds']:.0f} | {stage['peak_memory_mib']} |")
    total = sum(stage["seconds"] for stage in stages)
    peak = max(stage["peak_memory_mib"] for stage in stages)
    trained = next(stage for stage in stages if stage["stage"] == "pretrain")
    where = "the CPU" if trained["device"] == "cpu" else "a GPU"
    speed = f"Pretraining on {where}, in {trained['dtype']}, at {trained['tokens_per_second']:,} tokens a second."
    return _table(columns, [*rows, f"| **together** | **{total:.0f}** | **{peak}** |"], "", speed)


def sample(summary: Summary) -> str:
    """What the pretrained model writes after the first tokens of a test document."""
    text = (summary.sample["prompt"] + summary.sample["text"]).replace("```", "'''")
    return f"```text\n{text.rstrip()}\n```\n"


def log_index(log: str) -> str:
    """A link to every section of the log: the questions of the pipeline, then the experiments of each milestone."""
    headings = re.findall(r"^## (.+)$", log, re.MULTILINE)
    questions = [f"- {_link(heading, heading)}" for heading in headings if not _OF_MILESTONE.match(heading)]
    experiments: dict[str, list[str]] = {}
    for heading in headings:
        if found := _OF_MILESTONE.match(heading):
            experiments.setdefault(found[1], []).append(_link(found[2], heading))
    ladder = [f"- {milestone}: {', '.join(links)}" for milestone, links in experiments.items()]
    return "\n".join(["The pipeline:", "", *questions, "", "The ladder:", "", *ladder, ""])


def _link(words: str, heading: str) -> str:
    """A link in Markdown to a heading of the same file, by the anchor that GitHub gives it."""
    return f"[{words}](#{re.sub(r'[^a-z0-9 _-]', '', heading.lower()).replace(' ', '-')})"


def retrieval_verdict(_: Summary) -> str:
    """Whether the hybrid beats BM25 where the names are removed, and by how much."""
    metrics = read_json(paths.METRICS / "rag_eval.json")
    gain = metrics["retrieval_names_removed"]["hybrid_minus_bm25"]
    interval = f"95% interval of the paired difference {gain['low']:+.3f} to {gain['high']:+.3f}"
    found = f"{gain['difference']:+.3f} nDCG@10, {interval}"
    if metrics["hybrid_beats_bm25"]:
        verdict = f"Yes: {found}, on queries without the names of what they look for."
    else:
        verdict = f"Not shown ({found}, on queries without the names of what they look for): prefer `bm25`."
    again = [
        f"{gain['difference']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}) {words}"
        for suite, words in (("retrieval_names_removed", "without the names"), ("retrieval_with_names", "with them"))
        for gain in [metrics[suite]["reranked_minus_hybrid"]]
    ]
    likely = "Ordering the first twenty anew by how likely the pretrained model finds the query"
    return f"{verdict} {likely}: {', '.join(again)}.\n"


def retrieval_hand_written(_: Summary) -> str:
    """The same question on the questions that people wrote."""
    asked = read_json(paths.METRICS / "rag_eval.json").get("hand_written")
    if asked is None:
        return "The hand-written questions are about the Python standard library; this text is another one.\n"
    hybrid, bm25, cited = (asked[key] for key in ("hybrid", "bm25", "right_source_cited"))
    better = "Fusing pays" if hybrid["mrr"] > bm25["mrr"] else "Fusing does not pay"
    return (
        f"{better} on the {asked['questions']} hand-written questions, of which {cited['n']} have an answer: recall@10 "
        f"{hybrid['recall@10']:.3f} against {bm25['recall@10']:.3f} of BM25, MRR {hybrid['mrr']:.3f} against "
        f"{bm25['mrr']:.3f}. Of those {cited['n']}, {cited['rate']:.0%} are answered with the right source cited.\n"
    )


def recipe_search(_: Summary) -> str:
    """The short runs that chose the recipe, in the order in which they were run."""
    columns = "changed | steps | tokens | parameters | bits per byte, validation"
    rows = []
    for run in read_json(paths.DATA / "experiments" / "recipe_search.json"):
        figures = f"{run['steps']} | {run['tokens']:,} | {run['parameters']:,} | {run['val_bits_per_byte']:.3f}"
        rows.append(f"| {run['changed']} | {figures} |")
    return _table(columns, rows)


def momentum(_: Summary) -> str:
    """Runs by two texts that differ in Muon's momentum, held out from each."""
    scores = {
        "held_out_900": "held out after 900 steps",
        "held_out": "held out at the end",
        "whole_validation": "whole validation split",
        "test": "test split",
    }
    columns = " | ".join(("text", "momentum", "Muon", "seed", "steps of the schedule", *scores.values()))
    rows = []
    for run in read_json(paths.DATA / "experiments" / "momentum.json"):
        found = " | ".join("" if (score := run.get(key)) is None else f"{score:.3f}" for key in scores)
        rows.append(
            f"| {run['text']} | {run['momentum']} | {run['muon_lr']} | {run['seed']} | {run['steps']:,} | {found} |"
        )
    return _table(columns, rows)


def pretrain_gpu_search(_: Summary) -> str:
    """Whole runs on a GPU that differ in one thing or a few, two seeds or more each, two texts."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "pretrain_gpu_search.json"):
        scores = run["scores"]
        found = " | ".join(f"{score:.4f}" for score in scores[:2])
        more = ", ".join(f"{score:.4f}" for score in scores[2:])
        changed = run["changed"] or "the recipe before"
        rows.append(f"| {run['text']} | {changed} | {found} | {more} | {fmean(scores[:2]):.4f} |")
    return _table("text | changed | seed 0 | seed 1 | more seeds | mean of the first two", rows)


def capitals(_: Summary) -> str:
    """Exact calls on development tasks as they are, and with all words in capitals, by who reads them how."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "capitals.json"):
        rates = [run["new_values"]["all"], run["new_phrasings"]["all"], run["no_tool"]["replies"]]
        found = " | ".join(f"{rate:.3f}" for rate in rates)
        rows.append(f"| {run['model']} | {run['messages']} | {run['tasks']} | {found} |")
    return _table("model | messages | tasks of a kind | new values | new phrasings | replies to small talk", rows)


def beams(_: Summary) -> str:
    """Exact calls on development tasks by how many beginnings of a call are kept, and what the searches found."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "beams.json"):
        rates = " | ".join(f"{run[suite]['all']:.3f}" for suite in ("new_values", "new_phrasings", "two_calls"))
        found = " | ".join(f"{run[key]:,}" if run["beams"] > 1 else "" for key in ("searches", "likelier", "certain"))
        rows.append(f"| {run['beams']} | {rates} | {found} |")
    columns = "beams | new values | new phrasings | two calls | searches | a likelier call | certainly the likeliest"
    return _table(columns, rows)


def left_out(_: Summary) -> str:
    """Exact calls on development tasks by what a call pays for a number that it leaves out."""
    shown = [(suite, "all") for suite in ("new_values", "new_phrasings", "two_calls", "no_tool")]
    shown += [(suite, kind) for suite in ("new_values", "new_phrasings") for kind in ("calculator", "python")]
    rows = [
        f"| {run['nats']:g} | {' | '.join(f'{run[suite][kind]:.3f}' for suite, kind in shown)} |"
        for run in read_json(paths.DATA / "experiments" / "left_out.json")
    ]
    columns = (
        "nats a number | new values | new phrasings | two questions | no tool | calculations, new values | programs | "
        "calculations, new phrasings | programs"
    )
    return _table(columns, rows)


def own_mistakes(_: Summary) -> str:
    """Exact first calls on development tasks of what was tried against the mistakes that are left."""
    suites = ("new_values", "new_phrasings", "two_questions")
    rows = []
    for run in read_json(paths.DATA / "experiments" / "own_mistakes.json"):
        forced = [f"{run['forced'][suite]:.3f}" for suite in (*suites, "no_tool")]
        searched = [f"{run['searched'][suite]:.3f}" if "searched" in run else "" for suite in suites]
        rows.append(f"| {run['changed']} | {' | '.join(forced + searched)} |")
    columns = (
        "tried | new values | new phrasings | two questions | no tool | searched: new values | new phrasings | "
        "two questions"
    )
    return _table(columns, rows)


def serve_beams(_: Summary) -> str:
    """What the search for the likeliest call costs a server, by how many ask at once."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "serve_beams.json"):
        for clients, found in run["by_clients"].items():
            speed = f"{found['answers_per_second']:.1f} | {found['seconds_to_end_p50']:.2f} | {found['ratio']:.2f}"
            rows.append(f"| {run['beams']} | {clients} | {speed} |")
    return _table("beams | ask at once | answers a second | seconds to the end, p50 | batched / one at a time", rows)


def induction_start(_: Summary) -> str:
    """Runs that differ in their initial weights: held out on the way, and how well they repeat random tokens."""
    steps = (300, 600, 900, 1650)
    columns = " | ".join(
        ("start", *(f"held out, step {n:,}" for n in steps), "whole validation", "test", "random repetition, step 300")
    )
    rows = []
    for run in read_json(paths.DATA / "experiments" / "induction_start.json"):
        found = [run["held_out"].get(str(n)) for n in steps] + [run.get("whole_validation"), run.get("test")]
        figures = " | ".join("" if value is None else f"{value:.3f}" for value in found)
        repetition = run.get("repetition")
        rows.append(f"| {run['start']} | {figures} | {'' if repetition is None else f'{repetition:.1f}'} |")
    return _table(columns, rows)


def induction_start_characters(_: Summary) -> str:
    """The preset `shakespeare` with both starts, scored on a part of the training split."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "induction_start_characters.json"):
        rows.append(f"| {run['start']} | {run['seed']} | {run['held_out_nats']:.4f} | {run['training']:.3f} |")
    return _table("start | seed | nats a character, held out | training", rows)


def finetune_search(_: Summary) -> str:
    """The runs that chose the fine-tuning, in the order in which they were run."""
    columns = "trained | tokens | nats per token, validation | exact calls, new values | exact calls, new phrasings"
    rows = []
    suites = ("exact_new_values", "exact_new_phrasings")
    for run in read_json(paths.DATA / "experiments" / "finetune_search.json"):
        rates = " | ".join(f"{run[suite]:.3f}" if suite in run else "" for suite in suites)
        rows.append(f"| {run['trained']} | {run['tokens']:,} | {run['val_loss']:.4f} | {rates} |")
    return _table(columns, rows)


def finetune_short(_: Summary) -> str:
    """Short runs of fine-tuning, one change each, on development tasks."""
    columns = "changed | tokens | nats a call, validation | exact calls, new values | exact calls, new phrasings"
    rows = []
    for run in read_json(paths.DATA / "experiments" / "finetune_short.json"):
        rates = f"{run['new_values']:.3f} | {run['new_phrasings']:.3f}"
        rows.append(f"| {run['changed']} | {run['tokens']:,} | {run['nats_per_call']:.3f} | {rates} |")
    return _table(columns, rows)


def finetune_packed(_: Summary) -> str:
    """Runs on packed windows, each told by what it changes of the first row of its half."""
    columns = (
        "changed | tokens, in millions | nats a call | calls right, new values | new phrasings | "
        "two in one message | small talk"
    )
    rows = []
    for run in read_json(paths.DATA / "experiments" / "finetune_packed.json")["runs"]:
        rates = " | ".join(f"{run[suite]:.3f}" for suite in ("new_values", "new_phrasings", "two_calls", "small_talk"))
        rows.append(f"| {run['changed']} | {run['tokens'] / 1e6:.1f} | {run['nats_per_call']:.3f} | {rates} |")
    return _table(columns, rows)


def call_forms(_: Summary) -> str:
    """Short runs of fine-tuning that differ in how a call is written."""
    columns = (
        "the model's form of a call | tokens a conversation | nats a call, validation | nats an answer from a result | "
        "nats a reply to small talk"
    )
    nats = ("nats_per_call", "nats_per_restated_answer", "nats_per_reply")
    rows = []
    for run in read_json(paths.DATA / "experiments" / "call_forms.json")["short"]:
        values = " | ".join(f"{run[name]:.2f}" for name in nats)
        rows.append(f"| {run['form']} | {run['tokens_per_conversation']:.0f} | {values} |")
    return _table(columns, rows)


def call_forms_whole(_: Summary) -> str:
    """Whole runs with the two forms, on tasks to report on and on those to choose by."""
    columns = "split | form of a call | topics of the tasks | new values | new phrasings | two calls | right answers"
    rows = []
    for run in read_json(paths.DATA / "experiments" / "call_forms.json")["whole"]:
        exact = " | ".join(f"{rate:.3f}" for rate in run["exact"])
        answers = ", ".join(f"{rate:.3f}" for rate in run.get("answers", []))
        rows.append(f"| {run['split']} | {run['form']} | {run['topics']} | {exact} | {answers} |")
    return _table(columns, rows)


def call_forms_besides(_: Summary) -> str:
    """What else differs between the whole runs, on the test split and the hand-written tasks."""
    found = read_json(paths.DATA / "experiments" / "call_forms.json")["besides"]
    rows = [f"| {row['figure']} | {row['json']:.3f} | {row['words']:.3f} |" for row in found]
    return _table("test split | calls as JSON | in words", rows)


def call_forms_serving(_: Summary) -> str:
    """Answers a second of the server with the two forms, by how many ask at once."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "call_forms.json")["serving"]:
        rows.append(f"| {run['form']} | {' | '.join(f'{rate:.1f}' for rate in run['answers_per_second'].values())} |")
    return _table("form of a call | answers a second, one asks | four ask | sixteen ask", rows)


def fewer_steps(_: Summary) -> str:
    """What runs of fine-tuning with fewer steps and other conversations give, on development tasks."""
    return _calls_by_nats(read_json(paths.DATA / "experiments" / "fewer_steps.json")["runs"])


def answers_after_lookup(_: Summary) -> str:
    """Right answers once an object has been looked up, by what was asked of it, on development tasks."""
    asked = ("signature", "summary", "no description", "module", "not found")
    rows, found = [], read_json(paths.DATA / "experiments" / "answers_after_lookup.json")
    for run in found["runs"]:
        for suite in ("known", "new"):
            rates = " | ".join(f"{run[suite][kind]['right']:.2f}" for kind in asked)
            rows.append(f"| {run['changed']} | {suite} | {rates} | {run['well_known']['right']:.2f} |")
    tasks = found["runs"][0]
    counts = ", ".join(f"{tasks['known'][kind]['tasks']}" for kind in asked)
    return _table(
        "fine-tuning | phrasings | signature | what it does | the same, of one without a description | module | "
        "anything, of one that is not there | what twenty well-known ones do",
        rows,
        f"\nTasks in the columns: {counts}, {tasks['well_known']['tasks']}. Of {found['lookups_in_suites']} look-ups "
        f"in `agent_eval`'s new values and new phrasings a description answers {found['of_them_descriptions']}.",
    )


def described_whole(_: Summary) -> str:
    """Exact calls on development tasks before and after, through the grammar."""
    return _exact_calls(read_json(paths.DATA / "experiments" / "answers_after_lookup.json")["calls"])


def described_forced(_: Summary) -> str:
    """First calls of every fine-tuning that was tried, by teacher forcing."""
    return _calls_by_nats(read_json(paths.DATA / "experiments" / "answers_after_lookup.json")["teacher_forced"])


def described_test(_: Summary) -> str:
    """The same on the tasks to report on."""
    return _on_the_test_split(read_json(paths.DATA / "experiments" / "answers_after_lookup.json")["test"])


def unseen_phrases_test(_: Summary) -> str:
    """Assistants that learnt from few and from many phrases to search for, on the tasks to report on."""
    return _on_the_test_split(read_json(paths.DATA / "experiments" / "unseen_phrases.json")["test"])


def _on_the_test_split(runs: Sequence[dict[str, Any]]) -> str:
    suites = ("new_values", "new_phrasings", "multi_step", "hand_written", "no_tool")
    rows = []
    for run in runs:
        rates = " | ".join(f"{run[f'{suite}_exact']:.3f}, {run[f'{suite}_answer']:.3f}" for suite in suites)
        rows.append(f"| {run['changed']} | {rates} |")
    return _table(
        "exact calls, right answers, test | new values | new phrasings | several calls | hand-written | no tool", rows
    )


def even_start(_: Summary) -> str:
    """Short runs of fine-tuning whose factors begin otherwise or are moved otherwise, on development tasks."""
    return _calls_by_nats(read_json(paths.DATA / "experiments" / "even_start.json")["starts"])


def even_start_long(_: Summary) -> str:
    """The same over the whole length."""
    return _calls_by_nats(read_json(paths.DATA / "experiments" / "even_start.json")["long"])


def even_start_whole(_: Summary) -> str:
    """The same through the grammar and the search for the likeliest call: exact calls and right replies."""
    return _exact_calls(read_json(paths.DATA / "experiments" / "even_start.json")["whole"])


def shorter_pretraining(_: Summary) -> str:
    """What a pretraining of fewer steps leaves in bits per byte."""
    found = read_json(paths.DATA / "experiments" / "even_start.json")["shorter_pretraining"]
    rows = [
        f"| {run['steps']} | {run['bits_per_byte']['val']:.3f} | {run['bits_per_byte']['test']:.3f} |"
        for run in (found["default"], found)
    ]
    return _table("steps of pretraining | bits per byte, validation | test", rows)


def _exact_calls(runs: Sequence[dict[str, Any]]) -> str:
    suites = ("new_values", "new_phrasings", "two_calls", "no_tool", "replies")
    rows = []
    for run in runs:
        rates = " | ".join(f"{run[suite]:.3f}" for suite in suites)
        rows.append(f"| {run['changed']} | {run['steps']:,} | {rates} |")
    columns = "fine-tuning | steps | new values | new phrasings | two questions | no tool | right replies to these"
    return _table(columns, rows)


def _calls_by_nats(runs: Sequence[dict[str, Any]]) -> str:
    columns = (
        "fine-tuning | steps | new values, nats a call | exact | new phrasings, nats | exact | two questions, nats | "
        "exact | no tool, exact"
    )
    rows = []
    for run in runs:
        suites = ("new_values", "new_phrasings", "two_questions")
        calls = " | ".join(f"{run[suite]['nats']:.2f} | {run[suite]['exact']:.3f}" for suite in suites)
        rows.append(f"| {run['changed']} | {run['steps']:,} | {calls} | {run['no_tool']['exact']:.3f} |")
    return _table(columns, rows)


def strings_of_programs(_: Summary) -> str:
    """Nats of the calls of the Python tool, within the strings of the program and outside of them."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "fewer_steps.json")["strings"]:
        nats = " | ".join(f"{run[key]:.2f}" for key in ("bare", "bare_outside", "quoted", "quoted_outside"))
        rows.append(f"| {run['form']} | {nats} |")
    columns = (
        "strings of a program | asked without quotation marks: inside | outside | asked with them: inside | outside"
    )
    return _table(columns, rows)


def smaller_batches(_: Summary) -> str:
    """The same tokens in smaller steps of fine-tuning."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "fewer_steps.json")["batches"]:
        nats = f"{run['new_values']:.2f} | {run['new_phrasings']:.2f}"
        rows.append(f"| {run['changed']} | {run['steps']:,} | {nats} | {run['seconds']} |")
    return _table("a step | steps | new values, nats a call | new phrasings, nats a call | seconds", rows)


def short_last_block(_: Summary) -> str:
    """A step of fine-tuning whose last feed-forward sees the counted positions alone."""
    rows = [
        f"| {run['form']} | {run['step_ms']:.0f} | {run['compile_s']:.0f} |"
        for run in read_json(paths.DATA / "experiments" / "fewer_steps.json")["last_block"]
    ]
    return _table("last feed-forward | a step, ms | first step with nothing compiled before, s", rows)


def fewer_steps_whole(_: Summary) -> str:
    """The same on the test split, with answers and what the model writes from passages."""
    columns = (
        "fine-tuning | steps | exact calls, test: new values, new phrasings, two calls, hand-written | "
        "right answers, test | exact calls, development | written answers, F1 over the right passage | "
        "over found passages | of these, word for word in one"
    )
    rows = []
    for run in read_json(paths.DATA / "experiments" / "fewer_steps.json")["whole"]:
        exact, answers, development = (
            ", ".join(f"{rate:.3f}" for rate in rates)
            for rates in (
                [*run["test_exact"], run["hand_written_exact"]] if run["test_exact"] else [],
                run["test_answers"] or [],
                run["development_exact"] or [],
            )
        )
        grounded = "" if run["written_grounded"] is None else f"{run['written_grounded']:.3f}"
        written = f"{run['written_gold_f1']:.3f} | {run['written_f1']:.3f} | {grounded}"
        rows.append(f"| {run['changed']} | {run['steps']:,} | {exact} | {answers} | {development} | {written} |")
    return _table(columns, rows)


def two_questions_known(_: Summary) -> str:
    """Messages of two questions in the phrasings of training: both calls exact, by three fine-tunings."""
    rows = []
    for run in read_json(paths.DATA / "experiments" / "fewer_steps.json")["two_questions_known_phrasings"]:
        rates = ("" if run[key] is None else f"{run[key]:.3f}" for key in ("exact", "test_agent", "test_team"))
        rows.append(f"| {run['changed']} | {' | '.join(rates)} |")
    return _table("fine-tuning | agent, validation values | agent, test values | team, test values", rows)


def written_answers_by_version(_: Summary) -> str:
    """How much what the model writes from passages differed from one retraining of the default to the next."""
    found = sorted(read_json(paths.DATA / "experiments" / "fewer_steps.json")["written_gold_f1_of_versions"])
    figures = (found[0], found[len(found) // 4], median(found), found[-(len(found) // 4) - 1], found[-2], found[-1])
    columns = (
        "versions of the default | lowest F1 | a quarter below | median | a quarter above | last but one | highest"
    )
    return _table(columns, [f"| {len(found)} | {' | '.join(f'{value:.2f}' for value in figures)} |"])


def phrasings(_: Summary) -> str:
    """Exact calls on development tasks, tool by tool, where the tables of training phrasings differ."""
    tools = ("calculator", "python", "search_docs", "signature", "all")
    columns = " | ".join(("phrasings in training", "suite", *tools))
    rows = []
    for run in read_json(paths.DATA / "experiments" / "phrasings.json"):
        counts = {**run["phrasings"], "all": sum(run["phrasings"].values())}
        rows.append(f"| {run['trained']} | phrasings | {' | '.join(f'{counts[tool]:,}' for tool in tools)} |")
        for suite in ("new_values", "new_phrasings"):
            rates = " | ".join(f"{run[suite][tool]:.3f}" for tool in tools)
            rows.append(f"| | {suite.replace('_', ' ')} | {rates} |")
    return _table(columns, rows)


def breadth(_: Summary) -> str:
    """Exact calls by the number of phrasings in training."""
    columns = "phrasings in training | how many | tokens | exact calls, new values | exact calls, new phrasings"
    rows = []
    for run in read_json(paths.DATA / "experiments" / "breadth.json"):
        rates = (run[suite] for suite in ("new_values", "new_phrasings"))
        shown = " | ".join(f"{rate['rate']:.3f} ({rate['low']:.2f} to {rate['high']:.2f})" for rate in rates)
        rows.append(f"| {run['trained']} | {run['phrasings']} | {run['tokens']:,} | {shown} |")
    return _table(columns, rows)


def recipe_ladder(_: Summary) -> str:
    """Every rung from GPT-2's recipe to ours: mean over seeds, and the paired gain over the last kept rung."""
    columns = (
        "rung | change | nats a token, validation | minus the last kept rung, seed by seed | bits per byte | parameters"
    )
    rows = []
    below: list[float] = []
    for run in read_json(paths.DATA / "experiments" / "recipe_ladder.json"):
        losses = run["val_nats_per_token"]
        gains = [loss - before for loss, before in zip(losses, below, strict=False)]
        gain = f"{fmean(gains):+.3f} ± {stdev(gains):.3f}" if gains else ""
        name = run["rung"] if run["kept"] else f"({run['rung']})"
        figures = f"{fmean(losses):.3f} | {gain} | {fmean(run['val_bits_per_byte']):.3f} | {run['parameters']:,}"
        rows.append(f"| {name} | {run['changed']} | {figures} |")
        below = losses if run["kept"] else below
    return _table(columns, rows, "", "In brackets: tried on top of the last kept rung, and not kept.")


def shakespeare(_: Summary) -> str:
    """What `llmm bench pretrain --preset shakespeare` found, each seed by itself."""
    columns = (
        "allowed | seed | nats a character, whole validation split | training | wall time | tokens | tokens a second"
    )
    rows = []
    for file in sorted(
        (paths.DATA / "experiments").glob("shakespeare_*.json"), key=lambda f: int(f.stem.split("_")[1])
    ):
        result = read_json(file)
        for run in result["runs"]:
            figures = f"{run['nats_per_character']:.4f} | {run['training']:.3f} | {run['wall_seconds']:.1f} s"
            counts = f"{run['tokens']:,} | {run['tokens_per_second']:,}"
            rows.append(f"| {result['seconds']:.0f} s | {run['seed']} | {figures} | {counts} |")
        spread = f" ± {result['deviation']:.4f}" if result["deviation"] is not None else ""
        rows.append(f"| {result['seconds']:.0f} s | mean | **{result['mean']:.4f}**{spread} | | | | |")
    beside = "; ".join(f"{name} {value:.3f}" for name, value in result["baselines"].items())
    return _table(columns, rows, "", f"Beside it, same split: {beside}.")


def retrieval_xquad(_: Summary) -> str:
    """What `llmm bench retrieval` found on text that nothing was trained on."""
    result = read_json(paths.DATA / "experiments" / "xquad.json")
    rows = [f"| {' | '.join(row)} |" for row in ranker_rows(result)]
    quoted = result["quotation_holds_answer"]
    below = (
        f"{result['questions']:,} questions about {result['paragraphs']} paragraphs. The quoted sentence holds an "
        f"answer in {quoted['bm25']:.1%} with BM25's first three paragraphs, {quoted['hybrid']:.1%} with the hybrid's, "
        f"{quoted['bm25_best_paragraph']:.1%} with BM25's first alone, "
        f"{quoted['right_paragraph']:.1%} with the right one."
    )
    return _table(" | ".join(COLUMNS), rows, "", below)


def rerank_search(_: Summary) -> str:
    """What chose the reranker's prompt and the weight of the first ranking, on validation."""
    found = read_json(paths.DATA / "experiments" / "rerank_search.json")
    columns = "the model reads | weight of ln(rank) | nDCG@10, names removed | with names"
    rows = [
        f"| {run['what']} | {run['rank_weight']} | {run['names_removed']:.3f} | {run['with_names']:.3f} |"
        for run in found["runs"]
    ]
    beside = "; ".join(
        f"{LABELS[name]} {found[name]['names_removed']:.3f} and {found[name]['with_names']:.3f}"
        for name in ("bm25", "hybrid")
    )
    return _table(columns, rows, "", f"{found['queries']} queries of the validation split. Not reranked: {beside}.")


WHO = ("agent", "team")


def team(_: Summary) -> str:
    """What a planner with workers gained over the agent alone on messages of two questions."""
    found = read_json(paths.DATA / "experiments" / "team.json")
    columns = (
        "joined and asked in | agent, exact calls | team, exact calls | difference | only the team / only the agent | "
        "p | taken apart as meant | tokens, agent | team"
    )
    rows = []
    for name in ("known phrasings", "new phrasings"):
        of = found[name]
        agent, together = (f"{of[key]['rate']:.3f} ({of[key]['low']:.2f} to {of[key]['high']:.2f})" for key in WHO)
        gain = of["team_minus_agent"]
        difference = f"{gain['difference']:+.3f} ({gain['low']:+.2f} to {gain['high']:+.2f})"
        rest = f"{of['only_team']} / {of['only_agent']} | {of['p_value']:.1g} | {of['planned']['rate']:.3f}"
        tokens = f"{of['agent_tokens']:.0f} | {of['team_tokens']:.0f}"
        rows.append(f"| {name} | {agent} | {together} | {difference} | {rest} | {tokens} |")
    return _table(columns, rows, "", f"{found['tasks']} messages in each row; p is McNemar's, exact.")


def serve(_: Summary) -> str:
    """The server under load: many rows beside one answer at a time, by how many ask at once."""
    return _serve("serve.json")


def serve_json_calls(_: Summary) -> str:
    """The same with an earlier adapter, whose calls were JSON, and answers written to their end."""
    return _serve("serve_json_calls.json")


def _serve(name: str) -> str:
    found = read_json(paths.DATA / "experiments" / name)
    columns = (
        "ask at once | answers/s, batched | one at a time | ratio | tokens of an answer and its calls | seconds to the "
        "end, batched, p50 | p95 | one at a time, p50 | p95 | seconds to the first text, batched, p50 | p95"
    )
    rows = []
    for at_once, level in found["concurrency"].items():
        batched, single = level["batched"], level["one_at_a_time"]
        rates = [f"{of['requests_per_second']:.1f}" for of in (batched, single)]
        rates += [f"{level['throughput_ratio']:.2f}", f"{batched['tokens'] / found['requests'] / found['rounds']:.0f}"]
        spans = [of["seconds_to_end"] for of in (batched, single)] + [batched["seconds_to_first_text"]]
        times = " | ".join(
            f"{of['p50']:.2f} | {of['p95']:.2f} ({of['p95_low']:.2f} to {of['p95_high']:.2f})" for of in spans
        )
        rows.append(f"| {at_once} | {' | '.join(rates)} | {times} |")
    after = f"{found['requests']} questions in each round, {found['rows']} rows, {found['cores']} cores."
    return _table(columns, rows, "", after)


def step_gpu(_: Summary) -> str:
    """A training step of 124 million parameters on a GPU, beside its peers."""
    return _steps("step_gpu.json")


def step_gpu_h100(_: Summary) -> str:
    """The same on another kind of GPU, in larger micro-batches."""
    return _steps("step_gpu_h100.json")


def step_gpu_before(_: Summary) -> str:
    """The same in smaller micro-batches, before angles and softmax were taken otherwise."""
    return _steps("step_gpu_before.json")


def step_gpu_forms(_: Summary) -> str:
    """What the same arithmetic takes on a GPU, written one way or the other."""
    found = read_json(paths.DATA / "experiments" / "step_gpu_forms.json")
    rows = [f"| {run['form']} | {run['norm']} | {run['milliseconds']:.3f} |" for run in found["forms"]]
    losses = "; ".join(f"{name} {value:.1f}" for name, value in found["cross_entropy_milliseconds"].items())
    steps = "; ".join(f"{name} {value:.3f}" for name, value in found["whole_step"].items())
    shares = ", ".join(f"{name} {share:.1%}" for name, share in found["profile"].items())
    below = (
        f"Of the GPU's time in a step with halves: {shares}. "
        f"{found['what']}, {found['device']}. LM head and cross-entropy of 65,536 tokens over 32,768, milliseconds: "
        f"{losses}. MFU of whole steps on that GPU: {steps}."
    )
    return _table("angles turned as | norm | milliseconds", rows, "", below)


def step_gpu_residual_float32(_: Summary) -> str:
    """The same with the residual stream in float32, on another day."""
    return _steps("step_gpu_residual_float32.json")


def residual_dtype(_: Summary) -> str:
    """What 124 million parameters learn with the residual stream in either precision."""
    columns = "residual stream | seed | tokens | bits per byte, validation | training, last 50 steps"
    rows = []
    for run in read_json(paths.DATA / "experiments" / "residual_dtype.json"):
        figures = f"{run['tokens']:,} | {run['val_bits_per_byte']:.4f} | {run['train_bits_per_byte']:.4f}"
        rows.append(f"| {run['residual_dtype']} | {run['seed']} | {figures} |")
    return _table(columns, rows)


def step_bfloat16_cores(_: Summary) -> str:
    """A training step of the default model on two cores with bfloat16 instructions, beside its peers, in three runs."""
    return _step_runs("step_bfloat16_cores.json")


def step_avx512_bfloat16_cores(_: Summary) -> str:
    """The same on two cores with bfloat16 in AVX-512, four times as fast as their products in float32."""
    return _step_runs("step_avx512_bfloat16_cores.json")


def freed_memory(_: Summary) -> str:
    """A training step where glibc hands freed memory back, and where it keeps it; pairs of runs in turns."""
    columns = "pair | model, ms, handed back | kept | optimizers, ms, handed back | kept | step, handed back / kept"
    return _table(columns, _pairs_of_steps("freed_memory.json", "left", "kept"))


def huge_pages(_: Summary) -> str:
    """A training step with memory in pages of 4 KiB and of 2 MiB; pairs of runs in turns."""
    columns = "model | model, ms, 4 KiB | 2 MiB | optimizers, ms, 4 KiB | 2 MiB | step, 4 KiB / 2 MiB"
    return _table(columns, _pairs_of_steps("huge_pages.json", "small", "huge"))


def compiler_trials(_: Summary) -> str:
    """The first graph where nothing has been compiled before, with and without torch's trials of the compiler."""
    rows = [
        f"| {run['tried']:.1f} | {run['spared']:.1f} |"
        for run in read_json(paths.DATA / "experiments" / "compiler_trials.json")
    ]
    return _table("first graph, s, with the trials | without", rows)


def product_shapes(_: Summary) -> str:
    """A product whose shape is new each time, and one whose shape has come before; medians of 40."""
    rows = [
        f"| {run['cores']} | {run['dtype']} | {run['another']:.2f} | {run['same']:.2f} | "
        f"{run['another'] / run['same']:.1f} |"
        for run in read_json(paths.DATA / "experiments" / "product_shapes.json")
    ]
    return _table("cores | products in | another shape each time, ms | the same shape, ms | ratio", rows)


def varying_shapes(_: Summary) -> str:
    """A step of fine-tuning whose number of targets is another in every batch, and one of a few; pairs in turns."""
    columns = "pair | model, ms, any number | multiples of 64 | optimizers, ms, any number | multiples of 64 | ratio"
    return _table(columns, _pairs_of_steps("varying_shapes.json", "varying", "few"))


def bfloat16_assistant(_: Summary) -> str:
    """Exact calls on development tasks of assistants trained in float32 and in bfloat16."""
    rates = ("new_values", "searches", "new_phrasings", "programs_in_new_words", "two_calls", "no_tool", "replies")
    runs = read_json(paths.DATA / "experiments" / "bfloat16_assistant.json")
    rows = [
        f"| {run['trained']} | {run['steps']:,} | {run['bits_per_byte']:.3f} | {_cells(run, rates)} |" for run in runs
    ]
    columns = (
        "trained | steps | bits per byte, test | new values | of these, searches | new phrasings | "
        "of these, programs | two questions | no tool | right replies to these"
    )
    [seconds] = (run["whole_run_seconds"] for run in runs if "whole_run_seconds" in run)
    return _table(columns, rows, "", f"The whole run of the third row took {seconds} seconds from nothing.")


def unseen_phrases(_: Summary) -> str:
    """Exact calls on development tasks of assistants that learnt from few and from many phrases to search for."""
    found = read_json(paths.DATA / "experiments" / "unseen_phrases.json")
    suites = ("new_values", "searches", "new_phrasings", "two_calls", "no_tool", "replies")
    rows = [
        f"| {run['trained']} | {run['topics']:,} | {run['deeds']:,} | "
        f"{_cells(run, ('unseen_phrases', 'cut_short', *suites))} |"
        for run in found["development"]
    ]
    columns = (
        "trained | noun phrases | verb phrases | unseen phrases | cut short | new values | of these, searches | "
        "new phrasings | two questions | no tool | right replies to these"
    )
    kept = found["kept"]
    below = (
        f"Different phrases in the suite of unseen ones: {kept['unseen']}. In titles and summaries of the validation "
        f"documents, with calls kept for development: {kept['of_titles_and_summaries']}, {kept['of_these_deeds']} of "
        "them verb phrases."
    )
    return _table(columns, rows, "", below)


def wrong_order(_: Summary) -> str:
    """Programs that are wrong, and those of them that sort the other way round."""
    rows = [
        f"| {run['trained']} | {run['tasks']:,} | {run['wrong']} | {run['wrong_order']} |"
        for run in read_json(paths.DATA / "experiments" / "unseen_phrases.json")["programs"]
    ]
    return _table("trained | programs | wrong | of these the wrong order", rows)


def copied_too_often(_: Summary) -> str:
    """Exact calls where a number that is copied more often than the message has it costs something."""
    rows = [
        f"| {run['nats']} | {run['tasks']:,} | {_cells(run, ('calculator', 'python'))} |"
        for run in read_json(paths.DATA / "experiments" / "unseen_phrases.json")["copied_too_often"]
    ]
    return _table("nats a number | tasks of a kind | calculations | programs", rows)


def _cells(run: dict[str, Any], rates: Sequence[str]) -> str:
    return " | ".join(f"{run[rate]:.3f}" if rate in run else "" for rate in rates)


def _pairs_of_steps(name: str, before: str, after: str) -> list[str]:
    rows = []
    for number, run in enumerate(read_json(paths.DATA / "experiments" / name), 1):
        first, second = run[before], run[after]
        parts = " | ".join(f"{first[part]:.0f} | {second[part]:.0f}" for part in ("model_ms", "optimizer_ms"))
        ratio = sum(first.values()) / sum(second.values())
        rows.append(f"| {run.get('model', number)} | {parts} | {ratio:.2f} |")
    return rows


def step_cpu(_: Summary) -> str:
    """The same on two cores without them."""
    return _step_runs("step_cpu.json")


def step_float32_cores(_: Summary) -> str:
    """The same on two cores whose float32 products are the faster ones, with today's sixteen windows a step."""
    return _step_runs("step_float32_cores.json")


def _step_runs(name: str) -> str:
    """Several runs of `llmm bench step` on a CPU: the first as a table, what all of them say of the goals."""
    runs = read_json(paths.DATA / "experiments" / name)
    parts = runs[0]["parts_of_ours"]
    fixed = parts["products"] + parts["attention"]
    lines = [
        f"Of our step: matrix products of the model {parts['products']:.1%}, attention {parts['attention']:.1%}, what "
        f"stands between them {parts['rest']:.1%}, optimizers {parts['optimizer']:.1%}. The products run at "
        f"{parts['products_of_peak']:.0%} of the peak."
    ]
    for way, goal in (("eager", 1.2), ("compiled", 1.0)):
        ratios = [run["ratio_to"][f"transformers, {way}"] for run in runs]
        steps, models = (", ".join(f"{ratio[key]:.2f}" for ratio in ratios) for key in ("step", "model"))
        line = f"transformers, {way}: {steps} of our time in the three runs, {models} for the model alone."
        if ratios[0]["step"] < goal:
            needed = ratios[0]["step"] / goal - fixed
            line += (
                f" For {goal} all but products and attention would have to take {needed:.1%} of the present step, not "
                f"{1 - fixed:.1%}."
            )
        lines.append(line)
    shares = ", ".join(f"{run['systems']['ours, compiled']['share_of_float32_peak']:.1%}" for run in runs)
    lines.append(f"Share of the peak in float32 in the three runs: {shares}.")
    return _steps_table(runs[0]) + "\n\n".join(lines) + "\n"


def _steps(name: str) -> str:
    """What `llmm bench step` found."""
    return _steps_table(read_json(paths.DATA / "experiments" / name))


def _steps_table(result: dict[str, Any]) -> str:
    """A table of the systems of one `llmm bench step`."""
    columns = (
        "training step | windows at once | tokens a second | TFLOP/s | MFU | optimizer's share | "
        "time of theirs / ours (model alone)"
    )
    rows = []
    for system, row in result["systems"].items():
        ratio = result["ratio_to"].get(system)
        beside = f"{ratio['step']:.2f} ({ratio['model']:.2f})" if ratio else ""
        speed = f"{row['micro_batch']} | {row['tokens_per_second']:,} | {row['gflops'] / 1e3:.3g}"
        rows.append(f"| {system} | {speed} | {row['mfu']:.3f} | {row['optimizer_share']:.1%} | {beside} |")
    peaks = ", ".join(f"{peak / 1e3:.3g} TFLOP/s in {dtype}" for dtype, peak in result["matmul_peak_gflops"].items())
    sheet = result["data_sheet_peak_gflops"]
    of = f"{sheet / 1e3:.4g} TFLOP/s of the data sheet" if sheet else f"measured peak in {result['dtype']}"
    size = f"{result['parameters']:,} parameters, {result['tokens_per_step']:,} tokens a step, {result['dtype']}"
    return _table(columns, rows, "", f"{size}. Large products reach {peaks}; MFU is a share of the {of}.")


def step_gpu_search(_: Summary) -> str:
    """What changed the speed of forward and backward on a GPU."""
    columns = "changed | tokens a second | MFU, without the optimizer"
    rows = []
    for run in read_json(paths.DATA / "experiments" / "step_gpu_search.json"):
        rows.append(f"| {run['what']} | {run['tokens_per_second']:,} | {run['mfu_without_optimizer']:.3f} |")
    return _table(columns, rows)


def pretrain_bfloat16_cores(_: Summary) -> str:
    """What `llmm bench pretrain` found on two cores with bfloat16 instructions."""
    columns = "text | allowed | seed | held out | training | wall time | tokens | tokens a second"
    rows = []
    for result in read_json(paths.DATA / "experiments" / "pretrain_bfloat16_cores.json"):
        unit = result["unit"]
        text = "default corpus" if unit == "bits_per_byte" else "tinyshakespeare"
        if result["preset"] == "shakespeare_bf16":
            text += ", compiled, bfloat16"
        for run in result["runs"]:
            figures = f"{run[unit]:.3f} {unit.replace('_', ' ')} | {run['training']:.3f} | {run['wall_seconds']:.0f} s"
            counts = f"{run['tokens']:,} | {run['tokens_per_second']:,}"
            rows.append(f"| {text} | {result['seconds']:.0f} s | {run['seed']} | {figures} | {counts} |")
    return _table(columns, rows)


def shakespeare_search(_: Summary) -> str:
    """The runs that chose the preset `shakespeare`, on a part of the training split."""
    columns = "changed | tokens | parameters | nats a character, held out | training"
    rows = []
    for run in read_json(paths.DATA / "experiments" / "search_characters.json"):
        figures = f"{run['parameters']:,} | {run['held_out_nats']:.4f} | {run['training']:.3f}"
        rows.append(f"| {run['changed']} | {run['tokens']:,} | {figures} |")
    return _table(columns, rows)


def characters_compiled(_: Summary) -> str:
    """The preset `shakespeare` in 100 s, uncompiled and compiled, scored on a part of the training split."""
    columns = "100 s | nats a character, held out | training | wall time | tokens | tokens a second"
    rows = []
    for run in read_json(paths.DATA / "experiments" / "characters_compiled.json"):
        figures = f"{run['held_out_nats']:.4f} | {run['training']:.3f} | {run['wall_seconds']:.1f} s"
        rows.append(f"| {run['run']} | {figures} | {run['tokens']:,} | {run['tokens_per_second']:,} |")
    return _table(columns, rows)


PARTS: dict[str, Callable[[Summary], str]] = {
    "results": results,
    "costs": costs,
    "sample": sample,
    "retrieval-verdict": retrieval_verdict,
    "retrieval-hand-written": retrieval_hand_written,
    "recipe-search": recipe_search,
    "momentum": momentum,
    "pretrain-gpu-search": pretrain_gpu_search,
    "capitals": capitals,
    "beams": beams,
    "left-out": left_out,
    "own-mistakes": own_mistakes,
    "serve-beams": serve_beams,
    "induction-start": induction_start,
    "induction-start-characters": induction_start_characters,
    "finetune-search": finetune_search,
    "finetune-short": finetune_short,
    "finetune-packed": finetune_packed,
    "call-forms": call_forms,
    "call-forms-whole": call_forms_whole,
    "call-forms-besides": call_forms_besides,
    "call-forms-serving": call_forms_serving,
    "answers-after-lookup": answers_after_lookup,
    "described-forced": described_forced,
    "described-test": described_test,
    "described-whole": described_whole,
    "even-start": even_start,
    "even-start-long": even_start_long,
    "even-start-whole": even_start_whole,
    "shorter-pretraining": shorter_pretraining,
    "fewer-steps": fewer_steps,
    "fewer-steps-whole": fewer_steps_whole,
    "two-questions-known": two_questions_known,
    "written-answers-by-version": written_answers_by_version,
    "strings-of-programs": strings_of_programs,
    "smaller-batches": smaller_batches,
    "short-last-block": short_last_block,
    "breadth": breadth,
    "phrasings": phrasings,
    "recipe-ladder": recipe_ladder,
    "shakespeare": shakespeare,
    "shakespeare-search": shakespeare_search,
    "characters-compiled": characters_compiled,
    "rerank-search": rerank_search,
    "retrieval-xquad": retrieval_xquad,
    "team": team,
    "serve": serve,
    "serve-json-calls": serve_json_calls,
    "freed-memory": freed_memory,
    "huge-pages": huge_pages,
    "compiler-trials": compiler_trials,
    "product-shapes": product_shapes,
    "varying-shapes": varying_shapes,
    "bfloat16-assistant": bfloat16_assistant,
    "unseen-phrases": unseen_phrases,
    "unseen-phrases-test": unseen_phrases_test,
    "wrong-order": wrong_order,
    "copied-too-often": copied_too_often,
    "step-gpu": step_gpu,
    "step-gpu-h100": step_gpu_h100,
    "step-gpu-before": step_gpu_before,
    "step-gpu-forms": step_gpu_forms,
    "step-gpu-residual-float32": step_gpu_residual_float32,
    "step-gpu-search": step_gpu_search,
    "residual-dtype": residual_dtype,
    "step-bfloat16-cores": step_bfloat16_cores,
    "step-avx512-bfloat16-cores": step_avx512_bfloat16_cores,
    "step-cpu": step_cpu,
    "step-float32-cores": step_float32_cores,
    "pretrain-bfloat16-cores": pretrain_bfloat16_cores,
}


def render(text: str, summary: Summary) -> str:
    """`text` with its generated parts filled. Raises UserError for a part that nobody generates."""
    parts = {name: partial(part, summary) for name, part in PARTS.items()} | log_parts(load_milestones())
    without_index = fill(text, parts | {"log-index": lambda: ""})
    return fill(without_index, {"log-index": partial(log_index, without_index)}, leave_others=True)


def main() -> None:
    """Rewrite the documents, or with `--check` say which are not true any more."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where a part has drifted")
    check = parser.parse_args().check
    summary = collect()
    drifted = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if (rendered := render(text, summary)) != text:
            drifted.append(str(path))
            if not check:
                write_text(path, rendered)
    if drifted:
        print(f"{'drifted' if check else 'rewritten'}: {', '.join(drifted)}")
    sys.exit(1 if check and drifted else 0)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"documents: {error}", file=sys.stderr)
        sys.exit(1)
