"""Short trainings on digits, for the experiments that compare optimizers on a real loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from torch.optim import Optimizer

from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.foreach import SGD, Adam, Lion, RMSProp
from llmm.foundations.optimizers.problems import Perceptron, digits
from llmm.foundations.optimizers.schedule_free import ScheduleFreeAdamW
from llmm.foundations.optimizers.schedules import cosine
from llmm.foundations.optimizers.soap import SOAP

WIDTHS = (64, 48, 48, 10)
BATCH = 64
STEPS = 200
WARMUP = 10


@dataclass(frozen=True)
class Candidate:
    """An optimizer in the sweep: how it is made for a model at a learning rate, and the middle of its rates."""

    make: Callable[[Perceptron, float], list[Any]]
    middle: float
    scheduled: bool = True


def _beside_adamw(matrices: Callable[[list[Any], float], Optimizer]) -> Callable[[Perceptron, float], list[Any]]:
    """`matrices` for the matrices, AdamW at its own fixed rate for the biases."""
    return lambda model, lr: [matrices(model.matrices, lr), AdamW(model.biases, lr=3e-3)]


CANDIDATES: dict[str, Candidate] = {
    "SGD": Candidate(lambda model, lr: [SGD(model.params, lr)], 0.3),
    "momentum": Candidate(lambda model, lr: [SGD(model.params, lr, momentum=0.9)], 0.1),
    "Nesterov": Candidate(lambda model, lr: [SGD(model.params, lr, momentum=0.9, nesterov=True)], 0.1),
    "RMSProp": Candidate(lambda model, lr: [RMSProp(model.params, lr, alpha=0.95)], 1e-2),
    "Adam": Candidate(lambda model, lr: [Adam(model.params, lr, betas=(0.9, 0.95))], 1e-2),
    "AMSGrad": Candidate(lambda model, lr: [Adam(model.params, lr, betas=(0.9, 0.95), amsgrad=True)], 1e-2),
    "AdamW": Candidate(lambda model, lr: [AdamW(model.params, lr, weight_decay=0.1)], 1e-2),
    "Lion": Candidate(lambda model, lr: [Lion(model.params, lr, weight_decay=0.3)], 3e-3),
    "Muon": Candidate(_beside_adamw(lambda matrices, lr: Muon(matrices, lr, weight_decay=0.1)), 3e-2),
    "SOAP": Candidate(_beside_adamw(lambda matrices, lr: SOAP(matrices, lr, weight_decay=0.1)), 1e-2),
    "Schedule-Free": Candidate(
        lambda model, lr: [
            ScheduleFreeAdamW(model.params, lr, betas=(0.9, 0.95), weight_decay=0.1, warmup_steps=WARMUP)
        ],
        3e-2,
        scheduled=False,
    ),
}


def train(candidate: Candidate, lr: float, seed: int, steps: int = STEPS) -> Iterator[tuple[Perceptron, list[Any]]]:
    """Yield the model and its optimizers after every step on minibatches of digits; they end in evaluation mode.

    The rate rises over the first steps and falls along a cosine to zero, unless the candidate does without. The seed
    decides initial weights and order of the data, equally for all candidates.
    """
    data, model = digits(), Perceptron(WIDTHS, seed)
    optimizers = candidate.make(model, lr)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        if step * BATCH % (len(data.train_labels) // BATCH * BATCH) == 0:
            order = torch.randperm(len(data.train_labels), generator=generator)
        rows = order[step * BATCH % (len(order) // BATCH * BATCH) :][:BATCH]
        loss = F.cross_entropy(model(data.train_images[rows]), data.train_labels[rows])
        for p, g in zip(model.params, torch.autograd.grad(loss, model.params), strict=True):
            p.grad = g
        factor = cosine(step, steps, WARMUP) if candidate.scheduled else 1.0
        for optimizer, its_peaks in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, its_peaks, strict=True):
                group["lr"] = peak * factor
            optimizer.step()
            if step + 1 == steps and hasattr(optimizer, "eval"):
                optimizer.eval()
        yield model, optimizers


@torch.no_grad()
def judge(model: Perceptron) -> tuple[float, float]:
    """Cross-entropy in nats and accuracy on the digits that were held out."""
    data = digits()
    logits = model(data.test_images)
    accuracy = (logits.argmax(1) == data.test_labels).float().mean()
    return float(F.cross_entropy(logits, data.test_labels)), float(accuracy)
