"""Tasks made by program: what the user says, the calls that it asks for, and the answer that follows."""

import dataclasses
import functools
import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.tool_agent import values as v
from agents.tool_agent.answers import TOOL_OF, Kind, final_answer
from agents.tool_agent.phrasings.tables import Split, held_out_skeletons, table, two_questions
from agents.tool_agent.templates import choose, expand, fill, perturb, skeleton, slots_of, vary
from agents.tool_agent.tools import Toolbox
from llmm.training.lora.chat import Message, call_text
from llmm.training.lora.truecase import truecased

_SEARCH = re.compile(r"\b(search|docs|documentation|documented|manual|pages?)\b")
PLAN = "plan"  # the system turn that asks for the parts of a message and not for an answer
_TRIES = 60  # to draw what an object does, of one that says so: one look-up in eight is
BETWEEN_PARTS = "\n\n"  # a part may be a program of several lines


@dataclass(frozen=True)
class Call:
    """One call that a task asks for, and the kind of answer that is made of its result."""

    kind: Kind
    arguments: dict[str, str]

    @property
    def tool(self) -> str:
        """Name of the tool."""
        return TOOL_OF[self.kind]

    @property
    def text(self) -> str:
        """The call as the model writes it."""
        return call_text(self.tool, self.arguments)


@dataclass(frozen=True)
class Task:
    """What a user says after `history`, and the calls that it asks for in order, or the fixed reply to it.

    `parts` are the questions of a message that holds several, in its own words.
    """

    prompt: str
    calls: tuple[Call, ...]
    reply: str = ""
    history: tuple[Message, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def parts_as_read(self) -> tuple[str, ...]:
        """The parts in the letters in which a model reads them: truecasing looks at the whole message."""
        read = truecased(self.prompt)
        places = [self.prompt.index(part) for part in self.parts]
        return tuple(read[at : at + len(part)] for at, part in zip(places, self.parts, strict=True))

    def expected_answer(self, toolbox: Toolbox) -> str:
        """The right final answer: made of the results of the right calls."""
        return self.answer_from([toolbox.call(call.text).text for call in self.calls])

    def answer_from(self, results: Sequence[str]) -> str:
        """The final answer once the right calls have these results."""
        if not self.calls:
            return self.reply
        return " ".join(final_answer(call.kind, result) for call, result in zip(self.calls, results, strict=True))


@dataclass(frozen=True)
class Maker:
    """Makes tasks from one split of the phrasings and one of the values. `part` keeps calls of other splits out.

    `slips` is the share of tasks whose words are perturbed, for training.
    """

    phrasings: Split
    values: v.Values
    part: Split
    slips: float = 0.0

    def calculator(self, rng: random.Random, ways: dict[str, list[str]] | None = None) -> Task:
        """Arithmetic in digits, words and stories; in no other `ways` than these, where they are given."""
        return self._made(rng, ways or table("calculator", self.phrasings), "calculator", "expression", _numbers)

    def python(self, rng: random.Random) -> Task:
        """A small program."""
        return self._made(rng, table("python", self.phrasings), "python", "code", _program_values)

    def search_docs(self, rng: random.Random) -> Task:
        """A search for a topic, or for how to do something."""
        return self._made(
            rng,
            table("search", self.phrasings),
            "search_docs",
            "query",
            lambda rng, used: _same(
                topic=v.topic(rng, self.values, names=asks_for_a_search(used)), deed=v.deed(rng, self.values)
            ),
        )

    def signature(self, rng: random.Random) -> Task:
        """What is asked of an object by its name."""
        ways = table("signature", self.phrasings)
        kind: Kind = rng.choices(("signature", "summary", "module"), (2, 1.2, 1))[0]
        return self._made(
            rng, {"{name}": ways[kind]}, kind, "name", lambda rng, _: _same(name=v.name(rng, self.values))
        )

    def described(self, rng: random.Random, toolbox: Toolbox) -> Task:
        """What an object does, of one that says so; where none is found, anything that is asked of an object."""
        for _ in range(_TRIES if self.values.names else 1):
            task = self.signature(rng)
            if task.calls[0].kind == "summary":
                result = toolbox.call(task.calls[0].text)
                if result.ok and not result.text.endswith("\n"):
                    break
        return task

    def chat(self, rng: random.Random) -> Task:
        """What needs no tool: small talk, and what no tool can do."""
        ways = table("chat", self.phrasings)
        reply = rng.choices(list(ways), [len(phrasings) ** 0.5 for phrasings in ways.values()])[0]
        text = self._varied(rng, rng.choice(ways[reply]))
        while text is None:
            text = self._varied(rng, rng.choice(ways[reply]))
        return Task(
            fill(text, _same(thing=rng.choice(v.OBJECTS), place=rng.choice(v.PLACES), person=rng.choice(v.PEOPLE))[0]),
            (),
            reply,
        )

    def two_in_one(self, rng: random.Random) -> Task:
        """Two questions in one message, answered by two calls."""
        makers = [self.calculator, self.signature, self.python, self.calculator]
        first, second = (maker(rng) for maker in rng.sample(makers, 2))
        text = rng.choice(two_questions(self.phrasings))
        parts = tuple(task.prompt.rstrip("?.! ") for task in (first, second))
        prompt = fill(text, {"first": parts[0], "second": parts[1]})
        return Task(prompt, first.calls + second.calls, parts=parts)

    def follow_up(self, rng: random.Random, toolbox: Toolbox) -> Task:
        """A second question that speaks of the first one's result."""
        while True:
            first = self.calculator(rng)
            result = toolbox.call(first.calls[0].text)
            if result.ok and len(result.text) <= 8 and not result.text.startswith("-"):
                break
        ways = table("follow_up", self.phrasings)
        task = self._made(rng, ways, "calculator", "expression", lambda rng, p: _with_last(rng, p, result.text))
        return dataclasses.replace(task, history=tuple(conversation(first, toolbox)))

    def _made(
        self,
        rng: random.Random,
        ways: dict[str, list[str]],
        kind: Kind,
        argument: str,
        draw: Callable[[random.Random, str], tuple[dict[str, str], dict[str, str]]],
    ) -> Task:
        """Draw a phrasing and values until the call belongs to this part of all calls."""
        while True:
            pattern = rng.choices(list(ways), [len(phrasings) ** 0.7 for phrasings in ways.values()])[0]
            phrasing = rng.choice(ways[pattern])
            in_text, in_call = draw(rng, f"{pattern} {phrasing}")
            call = Call(kind, {argument: fill(pattern, in_call)})
            if part_of(call.text) != self.part:
                continue
            text = self._varied(rng, phrasing, beside_slots=kind != "search_docs")
            if text is not None:
                return Task(fill(text, in_text), (call,))

    def _varied(self, rng: random.Random, phrasing: str, beside_slots: bool | None = None) -> str | None:
        """One way to say `phrasing`, slots left open; None where training must not see it.

        Slips are made only where `beside_slots` says how (see `perturb`).
        """
        chosen = choose(phrasing, rng)
        text = vary(chosen, rng)
        if beside_slots is not None and rng.random() < self.slips and " " in text:
            text = perturb(text, rng, beside_slots)
        # neither the bare phrasing, whatever frame is around it, nor what frame and slips make of another one
        held_out = {skeleton(chosen), skeleton(text)} & held_out_skeletons()
        return None if self.phrasings == "TRAIN" and held_out else text


def part_of(call: str) -> Split:
    """Which split a call belongs to, by its hash: so that tasks to report on share none with training."""
    bucket = hashlib.sha256(call.encode()).digest()[0] % 10
    return "TEST" if bucket == 0 else "DEV" if bucket == 1 else "TRAIN"


def conversation(task: Task, toolbox: Toolbox) -> list[Message]:
    """The whole of `task` as it should go: every result is what the tool really says, the answer is made of it."""
    messages = [*task.history, Message("user", task.prompt)]
    results = [toolbox.call(call.text).text for call in task.calls]
    for call, result in zip(task.calls, results, strict=True):
        messages += [Message("tool_call", call.text), Message("tool_result", result)]
    return [*messages, Message("assistant", task.answer_from(results))]


def plan(task: Task) -> list[Message]:
    """The message of `task` as a planner takes it apart, who can only write what it has read."""
    parts = BETWEEN_PARTS.join(task.parts_as_read)
    return [Message("system", PLAN), Message("user", task.prompt), Message("assistant", parts)]


def _same(**slots: str) -> tuple[dict[str, str], dict[str, str]]:
    return slots, slots


@functools.cache
def asks_for_a_search(phrasing: str) -> bool:
    """Whether all that `phrasing` stands for says that documents are to be searched: who does not, and names an object,
    may as well want it looked up."""
    return all(_SEARCH.search(text) for text in expand(phrasing))


def _numbers(rng: random.Random, used: str) -> tuple[dict[str, str], dict[str, str]]:
    """Numbers that suit the phrasing: counts of things are whole, exponents small."""
    slots = slots_of(used)
    whole = bool(slots & {"things", "person"}) or "%{b}" in used or "people" in used
    texts, digits = {}, {}
    for slot in ("a", "b", "c"):
        text, value = v.number(rng, whole=whole, small=whole and slot != "a" and rng.random() < 0.5)
        if ("**{b}" in used and slot == "b") or ("sqrt" in used and rng.random() < 0.5):
            value = str(rng.randint(4, 12) if "**" in used else rng.randint(2, 99) ** 2)
            text = value
        elif "**" in used or "sqrt" in used:
            text, value = v.number(rng, whole=True, small=rng.random() < 0.7)
        if "{c}" in used and "," in text:
            text = value
        texts[slot], digits[slot] = text, value
    person, other = rng.sample(v.PEOPLE, 2)
    return {**texts, "things": rng.choice(v.THINGS), "person": person, "other": other}, digits


def _with_last(rng: random.Random, used: str, last: str) -> tuple[dict[str, str], dict[str, str]]:
    texts, digits = _numbers(rng, used)
    return texts, {**digits, "last": last}


def _program_values(rng: random.Random, used: str) -> tuple[dict[str, str], dict[str, str]]:
    """Values that suit the program: small enough for a short result."""
    word, other = v.word(rng), v.word(rng)
    letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    letter2 = rng.choice([c for c in "abcdefghijklmnopqrstuvwxyz" if c != letter])
    numbers = [
        str(rng.randint(0, 99) if rng.random() < 0.85 else rng.randint(100, 999)) for _ in range(rng.randint(3, 7))
    ]
    if "set(" in used:
        numbers += rng.choices(numbers, k=2)
    shown = (
        ", ".join(numbers)
        if "[{list}]" in used.split(" ", 1)[1] or rng.random() < 0.7
        else rng.choice(
            (
                " ".join(numbers),
                ",".join(numbers),
                "[" + ", ".join(numbers) + "]",
                ", ".join(numbers[:-1]) + " and " + numbers[-1],
            )
        )
    )
    limit = next((top for mark, top in _LIMITS if mark in used), 999)
    n = rng.randint(2, 20 if rng.random() < 0.4 else limit)
    n = min(n, limit)
    m = rng.randint(2, 9) if "[{n}*i" in used else rng.randint(2, 400)
    sentence = " ".join(v.word(rng) for _ in range(rng.randint(2, 6)))
    code = rng.choice(_SNIPPETS).format(n=n % 30 + 2, w=word, l=letter, s=",".join(numbers))
    in_call = {"word": word, "other": other, "letter": letter, "letter2": letter2, "list": ",".join(numbers)}
    in_call |= {"n": str(n), "m": str(m), "sentence": sentence, "code": code}
    return {**in_call, "list": shown}, in_call


# the largest {n} of a program, by a part of it
_LIMITS = (
    ("if all(", 60),
    ("is {n}", 997),
    ("range(2,{n}+1,2)", 40),
    ("range(1,{n}+1,2)", 40),
    ("factorial", 25),
    ("a,b=0,1", 60),
    ("'*{n}", 9),
    ("all({n}%i", 997),
    ("str({n})", 99999),
    ("bin(", 999),
)
# what a user may ask to run as it stands
_SNIPPETS = (
    "print({n}*2)", "len('{w}')", "'{w}'.upper()", "sum([{s}])", "max([{s}])", "'{w}'.find('{l}')",
    "list(range({n}))", "print('{w}'*3)", "[x+1 for x in [{s}]]", "sorted([{s}])[0]", "'{w}'[0]", "'{w}'[-1]",
    "2**{n}", "'{w}'.capitalize()", "x={n}\nx*x", "len([{s}])", "'{l}' in '{w}'", "'-'.join('{w}')", "{n}//3",
    "round({n}/7,2)", "abs(-{n})", "print('{w}')",
)  # fmt: skip


def normal_space(text: str) -> str:
    """`text` with every run of white space as one space."""
    return re.sub(r"\s+", " ", text).strip()
