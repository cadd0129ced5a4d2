"""A team that trains in a few minutes: the subject of M13's experiments.

Its world is that of M12's small agent, and its model goes on from that agent's weights. A message holds one to six
errands, and one model learns nearly every role: to do all errands itself, one after the other; to plan, which is to
take the message apart; to do one errand; to lead, which is to hand errands to specialists; and to decide after hearing
what others would do. A role is told by the system turn. The critic alone, who has to say yes or no to a call, is
another model that goes on from the same agent: one word an example taught it nothing beside the other roles.
"""

import dataclasses
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agents.multi_agent.roles import ALONE, CHECK, DEBATE, LEAD, NO, YES, hand_over, says
from agents.tool_agent import small_agent
from agents.tool_agent.small_agent import Job
from agents.tool_agent.small_training import fit
from agents.tool_agent.tasks import BETWEEN_PARTS, PLAN
from llmm.training.lora.chat import ChatCodec, Message
from llmm.training.lora.dataset import encode
from llmm.transformers.gpt import GPT, GPTConfig

ERRANDS: tuple[small_agent.Kind, ...] = ("calculator", "read", "pay")
SPECIALIST = {"calculator": "math", "read": "notes", "pay": "bank"}  # by tool
JOINTS = (", then ", " and ", "; ", ", and then ", ". ")
LONGEST_LEARNT, LONGEST = 4, 6  # errands in a message
CONTEXT = 288
STEPS, CONVERSATIONS = 4000, 40_000
CRITIC_STEPS = 2000
SHARES = {ALONE: 0.3, PLAN: 0.15, "worker": 0.1, LEAD: 0.2, DEBATE: 0.25}
DONE = "Done."


@dataclass(frozen=True)
class TeamJob:
    """A message, its errands in their order, and what the notes say."""

    message: str
    errands: tuple[Job, ...]

    @property
    def calls(self) -> tuple[str, ...]:
        """The right calls, in order."""
        return tuple(errand.calls[0] for errand in self.errands)

    @property
    def notes(self) -> dict[str, str]:
        """What may be read."""
        return {errand.number: errand.note for errand in self.errands if errand.number}


def joined(errands: Sequence[Job], rng: random.Random) -> TeamJob:
    """One message of these errands; a question loses its mark, unless it is the last."""
    parts = [_bare(errand) for errand in errands]
    joint = rng.choice(JOINTS)
    return TeamJob(joint.join(parts), tuple(errands))


def _bare(errand: Job) -> str:
    return errand.prompt.rstrip("?= ")


def wrong_call(errand: Job, rng: random.Random) -> str:
    """The right call with a slip: another digit, two digits changed over, another sign, or another person."""
    call = errand.calls[0]
    while True:
        slip = rng.randrange(3)
        if slip == 0:
            at = rng.choice([match.start() for match in re.finditer(r"\d", call)])
            made = call[:at] + str(rng.randint(0, 9)) + call[at + 1 :]
        elif slip == 1:
            made = re.sub(r"(\d)(\d)", r"\2\1", call, count=1)
        else:
            made = re.sub(r"(?<=\d)[-+*](?=\d)", lambda sign: rng.choice("+-*"), call)
            made = re.sub(r'(?<="to":")[a-z]+', lambda name: rng.choice(small_agent.PEOPLE), made)
        if made != call and small_agent.fits(made):
            return made


def another_call(errand: Job, rng: random.Random) -> str:
    """A call of the same tool that was right for another errand. What a critic learns first is to tell these apart."""
    return small_agent.for_training(errand.kind, rng).calls[0]


def conversation(role: str, rng: random.Random) -> list[Message]:
    """A conversation in which a member of the team does what its role is for."""
    count = rng.randint(1, LONGEST_LEARNT) if role in (ALONE, PLAN, LEAD) else 1
    errands = _different(count, small_agent.for_training, rng)
    job = joined(errands, rng)
    toolbox = small_agent.tools(job.notes)
    if role == PLAN:
        return [
            Message("system", PLAN),
            Message("user", job.message),
            Message("assistant", BETWEEN_PARTS.join(map(_bare, errands))),
        ]
    if role == CHECK:
        right = rng.random() < 0.5
        wrong = rng.choice((wrong_call, another_call))
        call = errands[0].calls[0] if right else wrong(errands[0], rng)
        return [*says(CHECK, call), Message("user", job.message), Message("assistant", YES if right else NO)]
    if role == LEAD:
        messages = [Message("system", LEAD), Message("user", job.message)]
        for errand in errands:
            result = toolbox.call(errand.calls[0]).text
            messages += [
                Message("tool_call", hand_over(SPECIALIST[errand.kind], _bare(errand))),
                Message("tool_result", result),
            ]
        return [*messages, Message("assistant", DONE)]
    if role == DEBATE:
        call = errands[0].calls[0]
        listens = rng.random() < 0.5  # or speaks first
        heard = [call if rng.random() < 0.6 else wrong_call(errands[0], rng) for _ in range(2 * listens)]
        return [
            *says(DEBATE, "\n".join(heard)),
            Message("user", job.message),
            Message("tool_call", call),
            Message("tool_result", toolbox.call(call).text),
            Message("assistant", DONE),
        ]
    messages = [Message("user", job.message)]
    for call in job.calls:
        messages += [Message("tool_call", call), Message("tool_result", toolbox.call(call).text)]
    return [*messages, Message("assistant", DONE)]


def codec() -> ChatCodec:
    """The small agent's."""
    return small_agent.codec()


def sizes() -> GPTConfig:
    """The small agent's, but for a longer context."""
    return dataclasses.replace(small_agent.sizes(), context_len=CONTEXT + 192)


def train(seed: int) -> Iterator[tuple[int, GPT]]:
    """`fit` the small agent of this seed, once it is trained, to conversations of all roles but the critic's."""
    return _go_on(seed, "team", SHARES, STEPS)


def train_critic(seed: int) -> Iterator[tuple[int, GPT]]:
    """The same, to the critic's conversations alone."""
    return _go_on(seed, "critic", {CHECK: 1.0}, CRITIC_STEPS)


def _go_on(seed: int, name: str, shares: Mapping[str, float], steps: int) -> Iterator[tuple[int, GPT]]:
    *_, (_, agent) = small_agent.train(seed)
    rng = random.Random(f"{seed} {name}")
    roles = rng.choices(list(shares), list(shares.values()), k=CONVERSATIONS)
    examples = encode([conversation(role, rng) for role in roles], codec(), CONTEXT)
    return fit(sizes(), examples, steps, seed, agent)


def jobs(errands: int, count: int, seed: int) -> list[TeamJob]:
    """Messages of so many errands each, with values that training leaves out."""
    rng = random.Random(f"{seed} judged {errands}")
    return [joined(_different(errands, small_agent.for_judging, rng), rng) for _ in range(count)]


def _different(count: int, draw: Callable[[small_agent.Kind, random.Random], Job], rng: random.Random) -> list[Job]:
    """Errands of which no two read the same note."""
    made: list[Job] = []
    while len(made) < count:
        new = draw(rng.choice(ERRANDS), rng)
        if not new.number or new.number not in {other.number for other in made}:
            made.append(new)
    return made
