"""How the small agents of the experiments are trained, from nothing, and kept for the next experiment that asks."""

import copy
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from filelock import FileLock

from llmm.files import atomic_path, sha256_of
from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.schedules import set_learning_rates, warmup_stable_decay
from llmm.ladder.milestones import find_milestone
from llmm.ladder.sources import experiment_inputs
from llmm.paths import WORK
from llmm.training.lora.dataset import Example, batches
from llmm.transformers.gpt import GPT, GPTConfig

BATCH_TOKENS = 2048
STAGES = 10  # looks at a training


def fit(
    config: GPTConfig, examples: Sequence[Example], steps: int, seed: int, start: GPT | None = None
) -> Iterator[tuple[int, GPT]]:
    """Train a fresh model, or one with the weights of `start`, and give it out after every tenth of the `steps`, the
    number of steps done beside it.

    The same model each time: whoever keeps one copies it.
    """
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    if start is not None:
        model.load_state_dict(start.state_dict())
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = set(map(id, matrices))
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=0.02, newton_schulz_steps=2, norm="schatten4"),
        AdamW([p for p in model.parameters() if id(p) not in chosen], lr=0.01),
    ]
    for step, batch in enumerate(islice(batches(examples, BATCH_TOKENS, 1, seed), steps), 1):
        set_learning_rates(optimizers, (0.02, 0.01), warmup_stable_decay(step - 1, steps, 20, 0.5))
        loss = model.loss(model.hidden(batch.ids_BT).flatten(0, 1)[batch.positions], batch.targets)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step * STAGES % steps == 0:
            yield step, model


def kept(milestone: str, name: str, config: GPTConfig, train: Callable[[], Iterator[tuple[int, GPT]]]) -> list[GPT]:
    """The models that `train` gives out. The experiments of a `milestone`, each in a process of its own, share them:
    the first one to ask for `name` trains, and what decided the outcome is in the name of the file."""
    made_by = _made_by(milestone)
    file = WORK / f"small_{milestone}" / f"{made_by}_{name}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    for other in file.parent.iterdir():
        if not other.name.startswith(made_by):  # of code that is no more
            other.unlink(missing_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.is_file():
            weights = [copy.deepcopy(model.state_dict()) for _, model in train()]
            with atomic_path(file) as temporary:
                torch.save(weights, temporary)
    models = []
    for state in torch.load(file, weights_only=True):
        models.append(GPT(config).eval())
        models[-1].load_state_dict(state)
    return models


@functools.cache
def _made_by(milestone: str) -> str:
    return sha256_of(json.dumps(experiment_inputs(find_milestone(milestone))), torch.__version__)[:16]
