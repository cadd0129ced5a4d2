"""The subject of the experiment `preferences`: a small model of Python modules that is to write more letters.

A made-up taste with a number to it, so that what preferences are said to lead to can be held against what they were
drawn from. Answers are 32 bytes after 32 of a prompt; the reward is the share of letters in the answer, in standard
deviations of the base model's own answers. Of two answers the better one is preferred with the probability that Bradley
and Terry give it.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llmm.foundations.optimizers import AdamW
from llmm.foundations.optimizers.schedules import warmup_stable_decay
from llmm.training.lora.adapter import TARGETS
from llmm.training.lora.low_rank import LoRALinear, attach
from llmm.training.lora.preferences import answer_log_p, dpo_loss
from llmm.training.lora.small_base import SCALE
from llmm.training.pretraining.small_runs import training_ids, validation_ids
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import Sampler
from llmm.transformers.gpt.small_models import T

START = T // 2  # the answer's first place
RANK = 4
STEPS, BATCH, WARM_UP, RATE = 64, 32, 10, 0.003


def prompts(text: Tensor, count: int, seed: int) -> Tensor:
    """Beginnings of `count` windows of a text (N,): (count, START)."""
    starts = torch.randint(len(text) - START, (count, 1), generator=torch.Generator().manual_seed(seed))
    return text[starts + torch.arange(START)]


def answered(model: GPT, prompts_BS: Tensor, seed: int) -> Tensor:
    """Every prompt with an answer drawn from the model: (B, T)."""
    generator = torch.Generator().manual_seed(seed)
    answers = generate(model, prompts_BS.tolist(), T - START, sampler=Sampler(temperature=1.0), generator=generator)
    return torch.cat([prompts_BS, torch.tensor(answers)], 1)


def share_of_letters(ids_BT: Tensor) -> Tensor:
    """Letters among the bytes of each answer, as a share: (B,)."""
    bytes_BA = ids_BT[:, START:]
    return ((bytes_BA | 32) - ord("a") < 26).logical_and((bytes_BA | 32) >= ord("a")).double().mean(1)


@dataclass(frozen=True)
class Taste:
    """The reward in units of the base's own spread."""

    mean: float
    sd: float

    def __call__(self, ids_BT: Tensor) -> Tensor:
        """The reward of each answer: (B,)."""
        return (share_of_letters(ids_BT) - self.mean) / self.sd


@dataclass(frozen=True)
class Pairs:
    """Answers (N, 2, T), the preferred one first, and what the base gives them: ln p (N, 2)."""

    ids_N2T: Tensor
    log_base_N2: Tensor

    def first(self, count: int) -> "Pairs":
        """The first `count` of them."""
        return Pairs(self.ids_N2T[:count], self.log_base_N2[:count])


def draw_pairs(base: GPT, count: int, seed: int) -> tuple[Pairs, Taste]:
    """Two answers of the base to each prompt, in the order of a preference that is drawn by Bradley and Terry."""
    asked = prompts(torch.from_numpy(training_ids().astype("int64")), count, seed).repeat_interleave(2, 0)
    ids_BT = answered(base, asked, seed)
    share_B = share_of_letters(ids_BT)
    taste = Taste(float(share_B.mean()), float(share_B.std()))
    reward_N2 = taste(ids_BT).view(count, 2)
    drawn_N = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    first_N = drawn_N < torch.sigmoid(reward_N2[:, 0] - reward_N2[:, 1])
    order_N2 = torch.where(first_N[:, None], torch.tensor([0, 1]), torch.tensor([1, 0]))
    ids_N2T = ids_BT.view(count, 2, T).take_along_dim(order_N2[:, :, None], 1)
    with torch.inference_mode():
        log_base_N2 = answer_log_p(base, ids_N2T.flatten(0, 1), START).view(count, 2)
    return Pairs(ids_N2T, log_base_N2.clone()), taste


def tuned_by_preferences(base: GPT, pairs: Pairs, beta: float | None, seed: int) -> GPT:
    """A copy of `base` with a LoRA that was tuned by DPO, or, without a `beta`, on the preferred answers alone."""
    model = copy.deepcopy(base)
    attach(model, TARGETS, RANK, SCALE * RANK**0.5, "rslora", LoRALinear, seed)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(pairs.ids_N2T), generator=generator) for _ in range(STEPS)])
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * warmup_stable_decay(step, STEPS, WARM_UP, 0.5)
        chosen = order[step * BATCH : (step + 1) * BATCH]
        ids_N2T, log_base_N2 = pairs.ids_N2T[chosen], pairs.log_base_N2[chosen]
        if beta is None:
            loss = -answer_log_p(model, ids_N2T[:, 0], START).mean() / (T - START)
        else:
            log_p_N2 = answer_log_p(model, ids_N2T.flatten(0, 1), START).view(-1, 2)
            loss = dpo_loss(log_p_N2, log_base_N2, beta)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@dataclass(frozen=True)
class Outcome:
    """What became of a policy on held-out prompts."""

    reward: float  # mean, in standard deviations of the base's answers
    kl: float  # from the base, nats an answer
    moved: tuple[float, float] = (0.0, 0.0)  # ln p of the preferred and the other answers of the pairs, by tuning


@torch.inference_mode()
def judged(model: GPT, base: GPT, taste: Taste, pairs: Pairs, count: int, seed: int) -> Outcome:
    """Reward and KL of answers to `count` held-out prompts; KL is summed over the whole vocabulary at each place."""
    ids_BT = answered(model, prompts(validation_ids(), count, seed), seed)
    ours, theirs = (F.log_softmax(m(ids_BT[:, :-1])[:, START - 1 :].double(), -1) for m in (model, base))
    kl_B = (ours.exp() * (ours - theirs)).sum((1, 2))
    seen = pairs.first(count)
    chosen, other = (answer_log_p(model, seen.ids_N2T.flatten(0, 1), START).view(-1, 2) - seen.log_base_N2).mean(0)
    return Outcome(float(taste(ids_BT).mean()), float(kl_B.mean()), (float(chosen), float(other)))


def best_of(base: GPT, taste: Taste, n: int, count: int, seed: int) -> float:
    """Mean reward of the best of n answers of the base to each of `count` held-out prompts."""
    asked = prompts(validation_ids(), count, seed).repeat_interleave(n, 0)
    return float(taste(answered(base, asked, seed)).view(count, n).amax(1).mean())
