"""The exit criteria of M9 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml.
"""

import contextlib
import io
import itertools
import math
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmm import lineage
from llmm.corpus.build import build_corpus
from llmm.corpus.duplicates import Shingler, jaccard
from llmm.corpus.local_files import FilesSource
from llmm.corpus.store import load_documents
from llmm.errors import UserError
from llmm.foundations.optimizers import AdamW
from llmm.foundations.optimizers.schedules import cosine, warmup_stable_decay
from llmm.ladder.expect import expect_number, expect_shape, expect_type
from llmm.params import PretrainParams, load_params
from llmm.training.pretraining.accumulation import MicroBatch, accumulate
from llmm.training.pretraining.bits_per_byte import score
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.pretraining.compute import (
    attention_share,
    bits_per_byte,
    model_flops_utilisation,
    training_flops,
)
from llmm.training.pretraining.coordinate_check import movements, slopes
from llmm.training.pretraining.data import ShardWriter, TokenShards
from llmm.training.pretraining.induction_start import GAIN_OF_PLACE, begin_with_induction
from llmm.training.pretraining.mup import factors, parameter_groups, scale_init
from llmm.training.pretraining.noise_scale import NoiseScale, TradeOff, fit_trade_off, squares
from llmm.training.pretraining.scaling_law import ScalingLaw, fit, sensitivities, weakest_direction
from llmm.training.pretraining.spikes import SpikeDetector
from llmm.training.pretraining.trainer import train
from llmm.training.pretraining.verdict import ExpectedCurve, verdict
from llmm.training.pretraining.windows import Windows
from llmm.transformers.attention.induction import predictable, repeated_sequences
from llmm.transformers.attention.rope import rope_tables, rotate
from llmm.transformers.gpt import GPT, GPTConfig

V = 64
CHINCHILLA = ScalingLaw(1.8172, (482.01, 2085.43), (0.3478, 0.3658))  # as refitted in 2404.10102


# --- compute ----------------------------------------------------------------------------------------------------------


def flops_error(seq_len: int = 24) -> float:
    """Counted FLOPs of a forward and backward pass against 6 N + 6 L d T a token, largest relative error.

    torch counts whole squares of scores, which is twice what a causal window needs; that half is added here.
    """
    worst = 0.0
    for tied, heads in ((True, 2), (False, 1)):
        config = _config(32, 2, n_kv_head=heads, tie_embeddings=tied, context_len=64)
        ids_BT = _ids(3, seq_len)
        model = _model(config)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            _loss(model, ids_BT).backward()
        tokens = 3 * seq_len
        ours = expect_number("training_flops", training_flops(config, tokens, seq_len))
        whole = ours + 6 * config.n_layer * config.d_model * seq_len * tokens
        worst = max(worst, abs(whole / counter.get_total_flops() - 1))
    return worst


def conversion_faults() -> int:
    """Utilisation, the attention's share and bits per byte that are not those worked out by hand."""
    config = GPTConfig(100, 2, 2, 2, 16, 32, 64)  # N = 2 (4·16² + 3·16·32) + 1,600 = 6,720
    faults = int(not math.isclose(model_flops_utilisation(6e9, 2e4, 3e14), 0.4))
    faults += not math.isclose(attention_share(config, 35), 2 * 16 * 35 / (6720 + 2 * 16 * 35))
    faults += not math.isclose(training_flops(config, 1000, 35), 6000 * (6720 + 2 * 16 * 35))
    return faults + (not math.isclose(bits_per_byte(math.log(8), 1.5), 2.0))


# --- scaling laws -----------------------------------------------------------------------------------------------------


def law_recovery_error() -> float:
    """Parameters of laws in one and two variables, fitted to losses that they made: largest relative error."""
    sizes = _grid()
    found = fit(sizes, _losses(CHINCHILLA, sizes))
    single = ScalingLaw(1.1, (40.0,), (0.35,))
    few = np.geomspace(1e4, 1e6, 6)[:, None]
    pairs = [(found, CHINCHILLA), (fit(few, _losses(single, few)), single)]
    return max(abs(a / b - 1) for got, wanted in pairs for a, b in zip(_numbers(got), _numbers(wanted), strict=True))


def law_outlier_shift() -> float:
    """How far one loss of twenty that is 30% too high moves the prediction at ten times the size, relative."""
    law = ScalingLaw(1.1, (40.0,), (0.35,))
    sizes = np.geomspace(1e4, 1e6, 20)[:, None]
    losses = _losses(law, sizes)
    losses[4] *= 1.3
    return abs(fit(sizes, losses).loss(1e7) / law.loss(1e7) - 1)


def law_gradient_error() -> float:
    """`sensitivities` against central differences: largest error."""
    sizes = _grid()[:6]
    law = ScalingLaw(1.2, (30.0, 70.0), (0.3, 0.4))
    jacobian = expect_shape("sensitivities", sensitivities(law, sizes), (6, 5))
    theta = np.array([math.log(1.2), math.log(30.0), 0.3, math.log(70.0), 0.4])
    worst = 0.0
    step = 1e-5
    for k in range(5):
        high, low = theta.copy(), theta.copy()
        high[k] += step
        low[k] -= step
        slope = (np.log(_losses(_law(high), sizes)) - np.log(_losses(_law(low), sizes))) / (2 * step)
        worst = max(worst, float(np.abs(slope - jacobian[:, k]).max()))
    return worst


def optimum_error() -> float:
    """The compute-optimal sizes against a search over N at fixed 6 N D, and the loss there: largest relative error."""
    worst = 0.0
    for law in (CHINCHILLA, ScalingLaw(1.0, (50.0, 900.0), (0.5, 0.3))):
        for flops in (1e17, 5.76e23):
            N, D = law.optimum(flops)
            worst = max(worst, abs(6 * N * D / flops - 1))
            tried = N * np.exp(np.linspace(-0.5, 0.5, 2001))
            losses = [law.loss(n, flops / (6 * n)) for n in tried]
            worst = max(worst, abs(tried[int(np.argmin(losses))] / N - 1))
    return worst


def identifiability_faults() -> int:
    """Designs whose identifiability is judged wrongly: a grid of N and D is, a fixed ratio is not."""
    law = ScalingLaw(1.2, (30.0, 70.0), (0.35, 0.35))
    N = np.geomspace(1e4, 1e6, 9)
    faults = int(weakest_direction(law, np.column_stack([N, 5 * N])) > 1e-12)
    faults += weakest_direction(law, np.array(list(itertools.product(N, N * 7)))) < 1e-5
    try:
        fit(N[:2, None], np.array([3.0, 2.0]))
        faults += 1
    except ValueError:
        pass
    return faults


# --- noise scale ------------------------------------------------------------------------------------------------------


def noise_scale_error() -> float:
    """tr Σ and |G|² from all draws of b and of B examples against their definitions: largest relative error.

    All draws with replacement, each once: the mean over them is the expectation, and nothing is left to chance.
    """
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(4, 3)) + 0.3
    G = gradients.mean(0)
    signal, noise = float(G @ G), float(((gradients - G) ** 2).sum(1).mean())
    worst = 0.0
    for small, big in ((1, 2), (1, 4), (2, 3)):
        found = NoiseScale()
        for rows in itertools.product(range(4), repeat=small):
            for others in itertools.product(range(4), repeat=big):
                small_square = float((gradients[list(rows)].mean(0) ** 2).sum())
                found.add(small_square, float((gradients[list(others)].mean(0) ** 2).sum()), small, big)
        worst = max(worst, abs(found.signal / found.estimates / signal - 1))
        worst = max(worst, abs(found.noise / found.estimates / noise - 1), abs(found.value / (noise / signal) - 1))
    return worst


def squares_error() -> float:
    """Squares of micro-batch gradients against a plain computation, and refusals that do not come."""
    generator = torch.Generator().manual_seed(0)
    gradients = [[torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)] for _ in range(5)]
    flat = torch.stack([torch.cat([g.flatten() for g in gradient]) for gradient in gradients]).double()
    small, big = squares(iter(gradients))
    worst = max(abs(small - flat.square().sum(1).mean().item()), abs(big - flat.mean(0).square().sum().item()))
    for sizes in ((4, 4), (4, 2), (0, 2)):
        try:
            NoiseScale().add(1.0, 1.0, *sizes)
            worst = math.inf
        except ValueError:
            pass
    drowned = NoiseScale()
    drowned.add(1.0, 0.1, 1, 8)
    return worst if drowned.value == math.inf else math.inf


def trade_off_error() -> float:
    """(S / S_min - 1) (E / E_min - 1) = 1 along a curve, and its parameters fitted back from runs on it."""
    curve = TradeOff(120.0, 3000.0)
    batches = [1, 4, 16, 64, 256]
    worst = abs(curve.critical_batch / 25 - 1)
    for batch in batches:
        steps, examples = curve.steps(batch), curve.examples(batch)
        worst = max(worst, abs((steps / 120 - 1) * (examples / 3000 - 1) - 1), abs(examples / (batch * steps) - 1))
    found = fit_trade_off(batches, [curve.steps(batch) for batch in batches])
    return max(worst, abs(found.fewest_steps / 120 - 1), abs(found.fewest_examples / 3000 - 1))


# --- maximal updates --------------------------------------------------------------------------------------------------


def factor_faults() -> int:
    """Parameters whose factors are not those of README (4.7), for a model four times as wide with wider heads."""
    base = _config(16, 1)
    wide = GPTConfig(V, 1, 2, 2, 64, 192, 32)  # width ×4; 2 heads of 32 for 2 of 8: their output ×4; d_ff ×6
    model = _model(wide)
    found = factors(model, base)
    layer = "model.layers.0."
    wanted = {
        "model.embed_tokens.weight": (1, 1),
        f"{layer}self_attn.q_proj.weight": (1, 1 / 4),
        f"{layer}self_attn.v_proj.weight": (1, 1 / 4),
        f"{layer}self_attn.q_norm.weight": (0.5, 0.5),
        f"{layer}self_attn.k_norm.weight": (1, 1),
        f"{layer}self_attn.o_proj.weight": (1, 1 / 4),
        f"{layer}mlp.up_proj.weight": (1, 1 / 4),
        f"{layer}mlp.down_proj.weight": (1, 1 / 6),
        f"{layer}input_layernorm.weight": (1, 1),
        "model.norm.weight": (1 / 4, 1 / 4),
    }
    faults = sum((found[name].init, found[name].lr) != pair for name, pair in wanted.items())
    faults += sum((f.init, f.lr) != (1, 1) for f in factors(_model(base), base).values())
    groups = parameter_groups(model, 0.1, base)
    faults += sum(len(group["params"]) for group in groups) != len(list(model.parameters()))
    return faults + (sorted(round(g["lr"], 9) for g in groups) != [round(0.1 / 6, 9), 0.025, 0.05, 0.1])


def multiplier_error() -> float:
    """Logits of a model whose gains hold the multipliers, against one that multiplies, after steps of AdamW.

    README (4.6): the largest difference, relative to the largest logit.
    """
    base, wide = _config(16, 1), GPTConfig(V, 1, 2, 2, 64, 96, 32)
    ids_BT = _ids(4, 16)
    ours = _model(wide).double()
    scale_init(ours, base)
    theirs = _model(wide).double()
    read_out, heads = base.d_model / wide.d_model, (base.d_head / wide.d_head) ** 0.5
    theirs.model.norm.register_forward_hook(lambda module, args, output: output * read_out)
    theirs.model.layers[0].self_attn.q_norm.register_forward_hook(lambda module, args, output: output * heads)
    by_name = factors(ours, base)
    explicit = [
        {"params": [p], "lr": 0.01 * (1.0 if by_name[name].init != 1 else by_name[name].lr)}
        for name, p in theirs.named_parameters()
    ]
    for model, groups in ((ours, parameter_groups(ours, 0.01, base)), (theirs, explicit)):
        optimizer = AdamW(groups, eps=1e-30)
        for _ in range(4):
            _loss(model, ids_BT).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        a, b = ours(ids_BT), theirs(ids_BT)
    return float((a - b).abs().max() / b.abs().max())


def mup_slope() -> float:
    """How far the movement of the logits under μP depends on the width, largest |slope| over three seeds."""
    return max(abs(_logit_slope(seed, base=32)) for seed in range(3))


def standard_slope() -> float:
    """The same under the standard parametrisation, smallest slope: the check must see what it is for."""
    return min(_logit_slope(seed, base=0) for seed in range(3))


def movement_at_rest() -> float:
    """Largest movement of a model whose learning rate is zero: its activations are there, and do not move."""
    return max(movements(_config(32, 1), _config(32, 1), _ids(2, 16), 0.0, 2, 0).values())


def _logit_slope(seed: int, base: int) -> float:
    widths = (32, 64, 128, 256)
    ids_BT = _ids(2, 16, seed)
    found = [movements(_config(width, 1), _config(base or width, 1), ids_BT, 0.005, 3, seed) for width in widths]
    return slopes(widths, found)["logits"]


# --- what a step sees and what a score counts -------------------------------------------------------------------------


def windows_faults() -> int:
    """Tokens not dealt out once an epoch, targets that are not the inputs' successors, orders that depend on a past."""
    tokens, seq_len, per_step = np.arange(1000, dtype=np.uint16), 16, 6
    faults = 0
    for seed in range(3):
        windows = Windows(tokens, seq_len, per_step, seed)
        rows = [row for step in range(2 * windows.per_epoch // per_step + 1) for row in windows.batch(step)]
        faults += sum(tuple(row.shape) != (seq_len + 1,) or bool((row.diff() != 1).any()) for row in rows)
        for epoch in range(2):
            targets = torch.cat([row[1:] for row in rows[epoch * windows.per_epoch :][: windows.per_epoch]])
            faults += len(targets.unique()) != windows.per_epoch * seq_len
        faults += windows.per_epoch != (len(tokens) - seq_len) // seq_len
        first, second = (torch.stack(rows[at : at + windows.per_epoch]) for at in (0, windows.per_epoch))
        faults += torch.equal(first, second)
        fresh = Windows(tokens, seq_len, per_step, seed)
        faults += not torch.equal(fresh.batch(13), windows.batch(13))
        faults += torch.equal(fresh.batch(13), Windows(tokens, seq_len, per_step, seed + 1).batch(13))
        shares = [fresh.batch(13, rank, 2)[:, 0].tolist() for rank in range(2)]
        faults += sorted(itertools.chain(*shares)) != sorted(fresh.batch(13)[:, 0].tolist())
    return faults


def score_error() -> float:
    """Nats of a split against a loop over its tokens, and bits per byte of a uniform model: largest relative error."""
    torch.manual_seed(0)
    tokens = np.random.default_rng(0).integers(1, V, 150)
    tokens[[0, 40, 41, 90]] = 0
    starts = np.array([0, 40, 41, 90, len(tokens)])
    of_token = np.arange(V) % 5 + 1
    of_token[0] = 0
    n_bytes = int(of_token[tokens].sum())
    uniform = GPT(_config(16, 1))
    for parameter in uniform.parameters():
        torch.nn.init.zeros_(parameter)
    result = score(uniform, tokens, starts, of_token, 32)
    worst = abs(result.bits_per_byte / ((len(tokens) - 4) * math.log2(V) / n_bytes) - 1)
    worst = max(worst, abs(result.tokens - (len(tokens) - 4)), abs(int(result.bytes.sum()) - n_bytes))
    model = GPT(_config(16, 1)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    for stride in (32, 7):
        nats = 0.0
        for t in range(1, len(tokens)):
            if tokens[t]:
                end = min(32 if t <= 32 else 32 + -(-(t - 32) // stride) * stride, len(tokens) - 1)
                window = torch.from_numpy(tokens[max(0, end - 32) : t])[None]
                with torch.no_grad():
                    nats -= model(window)[0, -1].double().log_softmax(-1)[int(tokens[t])].item()
        worst = max(worst, abs(float(score(model, tokens, starts, of_token, 32, stride, 3).nats.sum()) / nats - 1))
    return worst


# --- files ------------------------------------------------------------------------------------------------------------


def data_faults() -> int:
    """Shards that do not come back as written, types too small for their ids, damaged files that are opened."""
    faults = 0
    with _folder():
        for vocab_size, dtype in ((1 << 16, "uint16"), ((1 << 16) + 1, "uint32")):
            documents = [([vocab_size - 1, 5, 7], 9), ([], 0), ([1], 1)]
            shards = _shards(documents, vocab_size, f"tokens{vocab_size}")
            faults += shards.tokens("train").tolist() != [0, vocab_size - 1, 5, 7, 0, 0, 1]
            faults += shards.starts("train").tolist() != [0, 4, 5, 7]
            faults += (shards.bytes("train"), shards.dtype.name, shards.vocab_size) != (10, dtype, vocab_size)
            faults += not isinstance(shards.tokens("train"), np.memmap) or shards.tokens("train").flags.writeable
        folder = shards.artifact.path
        (folder / "train.bin").write_bytes((folder / "train.bin").read_bytes()[:-2])
        for again in (False, True):  # a truncated file, and one that its lineage agrees with
            if again:
                lineage.seal(folder, "tokens", [lineage.open_artifact(Path("tokenizer"), "tokenizer")])
            try:
                TokenShards.open(folder)
                faults += 1
            except UserError:
                pass
    return faults


def checkpoint_faults() -> int:
    """Checkpoints lost or half-written by a process killed in mid-save, and those of another run that are found."""
    faults = 0
    with _folder():
        mine = Checkpoints("pretrain", {"steps": 1, "seed": 0})
        faults += mine.load() is not None
        mine.save({"step": 3, "weights": torch.arange(5)})

        def die_in_mid_save() -> None:
            write = torch.save

            def half(state: object, file: Path) -> None:
                write(state, file)
                Path(file).write_bytes(Path(file).read_bytes()[:100])
                os.kill(os.getpid(), signal.SIGKILL)

            torch.save = half
            mine.save({"step": 4, "weights": torch.zeros(5)})

        faults += _ended_by(die_in_mid_save) != signal.SIGKILL
        found = mine.load() or {}
        faults += found.get("step") != 3 or not torch.equal(found["weights"], torch.arange(5))
        mine.save({"step": 5})
        faults += (mine.load() or {}).get("step") != 5 or len(list(mine.folder.iterdir())) != 1
        for other in ({"steps": 2, "seed": 0}, {"steps": 1, "seed": 1}):
            faults += Checkpoints("pretrain", other).load() is not None
        mine.remove()
        faults += mine.load() is not None
    return faults


def resumed_weights_that_differ() -> int:
    """Weights unlike those of a straight run after SIGKILL: in mid-save, or between two steps, at four places."""
    differing = 0
    recipe = _recipe()
    with _folder():
        shards = _shards([(list(np.random.default_rng(0).integers(1, V, 900)), 900)] * 2, V, "tokens")
        straight = _trained(recipe, shards, None).state_dict()
        for place in range(4):
            deadly = _Deadly("pretrain", {"place": place}, place)
            differing += _ended_by(partial(_trained, recipe, shards, deadly)) != signal.SIGKILL
            went_on = _trained(recipe, shards, Checkpoints("pretrain", {"place": place})).state_dict()
            differing += sum(not torch.equal(went_on[name], straight[name]) for name in straight)
    return differing


class _Deadly(Checkpoints):
    """Ends its process by SIGKILL at the save number `place`: before it, or right after it."""

    def __init__(self, stage: str, identity: dict[str, int], place: int) -> None:
        super().__init__(stage, identity)
        self.place = place
        self.saves = 0

    def save(self, state: dict[str, object]) -> None:
        if self.place % 2 or self.saves < self.place:
            super().save(state)
        if self.saves == self.place:
            os.kill(os.getpid(), signal.SIGKILL)
        self.saves += 1


def _ended_by(work: Callable[[], object]) -> int:
    """The signal that ended a child process which did `work`, 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def overlapping_documents() -> int:
    """Documents of the training split that are equal or nearly equal to one of validation or test.

    The corpus is built of 40 texts, each with an exact copy and one with a word changed, under other names.
    """
    rng = np.random.default_rng(0)
    with _folder() as folder:
        (folder / "texts").mkdir()
        for number in range(40):
            words = [f"w{word}" for word in rng.integers(500, size=120)]
            changed = [*words[:60], "changed", *words[61:]]
            for name, text in (("a", words), ("b", words), ("c", changed)):
                (folder / "texts" / f"{name}{number}.txt").write_text(" ".join(text))
        params = load_params(_PARAMS).corpus.model_copy(
            update={"val_fraction": 0.25, "test_fraction": 0.25, "near_duplicate_similarity": 0.8, "max_chars": 10**6}
        )
        with contextlib.redirect_stdout(io.StringIO()):
            build_corpus(FilesSource(str(folder / "texts"), "", ""), params, 0, folder / "corpus")
        splits = {split: load_documents(folder / "corpus", split) for split in ("train", "val", "test")}
    shingles = Shingler()
    runs = {split: [shingles(document.text) for document in found] for split, found in splits.items()}
    if len(runs["train"]) < 10 or not runs["val"] or not runs["test"]:
        return 40  # nothing was split
    others = [*runs["val"], *runs["test"]]
    return sum(any(jaccard(one, other) >= 0.8 for other in others) for one in runs["train"])


# --- the loop ---------------------------------------------------------------------------------------------------------


def accumulation_error() -> float:
    """Gradients of accumulated micro-batches against the whole batch's, an unequal last one too: relative error."""
    ids_BT = _ids(7, 12)
    whole = _gradient(partial(_accumulated, ids_BT, 7))
    worst = 0.0
    for rows in (1, 2, 3, 5):
        parts = _gradient(partial(_accumulated, ids_BT, rows))
        worst = max(worst, float((parts - whole).abs().max() / whole.abs().max()))

    def scarce(model: GPT) -> torch.Tensor:
        def loss_of(ids: torch.Tensor) -> torch.Tensor:
            loss = _loss(model, ids)
            if len(ids) > 2:
                loss.backward()  # memory may be short in the middle of a backward pass
                raise RuntimeError("can't allocate memory: you tried to allocate 1 bytes")
            return loss

        taken = MicroBatch(7)
        loss = taken.accumulate(loss_of, ids_BT, lambda: model.zero_grad(set_to_none=True))
        return loss if taken.rows in (1, 2) else torch.tensor(math.inf)

    return max(worst, float((_gradient(scarce) - whole).abs().max() / whole.abs().max()))


def _accumulated(ids_BT: torch.Tensor, rows: int, model: GPT) -> torch.Tensor:
    return accumulate(partial(_loss, model), ids_BT, rows)


def _gradient(run: Callable[[GPT], torch.Tensor]) -> torch.Tensor:
    """The returned loss and all gradients of a model in double precision, as one vector."""
    model = _model(_config(16, 1)).double()
    torch.nn.init.normal_(model.model.layers[0].self_attn.o_proj.weight, 0, 0.3, torch.Generator().manual_seed(1))
    loss = expect_type("the accumulated loss", run(model), torch.Tensor)
    return torch.cat([loss.detach().double().reshape(1), *(p.grad.flatten() for p in model.parameters())])


def spike_faults() -> int:
    """Spikes that are missed, and steps of a normal run that are called one."""
    rng = np.random.default_rng(0)
    noise = 3 + 3 * np.exp(-np.arange(400) / 60) + rng.normal(0, 0.05, 400)
    detector = SpikeDetector(50, 8.0)
    faults = sum(detector.update(float(loss)) for loss in noise)
    faults += not detector.update(float(noise[-1]) + 1.0)
    faults += sum(not detector.update(6.0) for _ in range(30))  # what spikes in a row do not hide
    faults += detector.update(float(noise[-1]))
    lasting = [detector.update(6.0) for _ in range(60)]
    faults += lasting != [True] * 50 + [False] * 10  # a rise that stays is no spike for ever
    filling = SpikeDetector(50, 8.0)
    faults += any(filling.update(loss) for loss in [3.0, 3.0, 3.0, 90.0])
    return faults + any(SpikeDetector(5, 8.0).update(3.0) for _ in range(20))


def verdict_faults() -> int:
    """Runs that are as expected, lower, or higher than the curve, and that are called something else."""
    recipe = _recipe()
    curve = ExpectedCurve(recipe.model_dump(), V, "a text", [100, 200, 400, 800], [4.0, 3.0, 2.5, 2.2], [0.01] * 4)
    loss, band = curve.at(201, 400)
    faults = int(not math.isclose(loss, 2.5, rel_tol=1e-6)) + (not 0.05 < band < 0.2)
    faults += not verdict(curve, recipe, 201, 400, 2.5, 0.0).startswith("as expected")
    faults += not verdict(curve, recipe, 201, 400, 2.0, 0.0).startswith("lower")
    quarter = recipe.model_copy(update={"grad_accum_steps": 1, "batch_size": 1, "muon_lr": 0.5})
    said = verdict(curve, quarter, 201, 400, 3.0, 0.0)
    faults += not said.startswith("higher") or "the effective batch is 0.25 of the recipe's" not in said
    faults += "pretrain.muon_lr is 0.5" not in said or f"at step {curve.step_of(3.0):.0f}" not in said
    return faults + (not 140 < curve.step_of(3.0) < 160)  # the middle of the piece 101 … 200


def schedule_area_error() -> float:
    """Area under both schedules against README (5.2): a run's learning rate in all, in steps at the peak."""
    steps, warmup = 1000, 50
    worst = 0.0
    for cooldown in (0.2, 0.6, 0.9):
        area = sum(warmup_stable_decay(step, steps, warmup, cooldown) for step in range(steps))
        wanted = steps - warmup / 2 - cooldown * steps / 2 + 0.5
        worst = max(worst, abs(area - wanted) / steps)
    area = sum(cosine(step, steps, warmup, 0.1) for step in range(steps))
    return max(worst, abs(area - (warmup / 2 + 0.55 * (steps - warmup) + 0.45)) / steps)


# --- a start with a circuit -------------------------------------------------------------------------------------------


def circuit_accuracy() -> float:
    """`repetitions_continued` at the default model's width and depth, with its heads or grouped ones: the smaller."""
    return min(repetitions_continued(GPTConfig(2048, 4, h, k, 192, 384, 256)) for h, k in ((3, 3), (2, 1)))


@torch.no_grad()
def repetitions_continued(
    config: GPTConfig, start: Callable[[GPT, torch.Generator], None] = begin_with_induction
) -> float:
    """Share of the tokens from the second period of repeated random sequences on that an untrained model foretells."""
    model = _model(config)
    start(model, torch.Generator().manual_seed(1))
    periods = range(16, min(64, config.vocab_size))
    ids_BT, period_B = repeated_sequences(4, 256, config.vocab_size, periods, torch.Generator().manual_seed(0))
    right_BT = model(ids_BT)[:, :-1].argmax(-1) == ids_BT[:, 1:]
    return float(right_BT[predictable(period_B, 256)].double().mean())


@torch.no_grad()
def place_score_error(T: int = 20) -> float:
    """Scores of the heads that look one and two places back against README (7.1), largest error in units of √d."""
    model = _model(GPTConfig(V, 2, 2, 2, 64, 128, T))
    begin_with_induction(model, torch.Generator().manual_seed(1))
    attention, d = model.model.layers[0].self_attn, 32
    asked: list[torch.Tensor] = []
    attention.q_norm.register_forward_hook(lambda module, inputs, output: asked.append(output))
    attention.k_norm.register_forward_hook(lambda module, inputs, output: asked.append(output))
    model(_ids(1, T)[:, :T])
    query_HTd, key_HTd = (rotate(x[0].transpose(0, 1), *rope_tables(d, T, 10000.0)).double() for x in asked)
    frequency = 10000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    distance_TT = torch.arange(T)[:, None] - torch.arange(T)
    worst = 0.0
    for head, back in ((0, 1), (1, 2)):
        cosines_TT = (frequency**2 * (frequency * (distance_TT - back)[..., None]).cos()).sum(-1) / (frequency**2).sum()
        score_TT = query_HTd[head] @ key_HTd[head].T / d
        worst = max(worst, float((score_TT - GAIN_OF_PLACE * cosines_TT).abs().max()))
    return worst


# --- shared -----------------------------------------------------------------------------------------------------------

_PARAMS = Path("params.yaml").absolute()


def _config(width: int, layers: int, **changes: object) -> GPTConfig:
    sizes = {"n_head": 2 if width < 32 else width // 16, "context_len": 64} | changes
    sizes.setdefault("n_kv_head", sizes["n_head"])
    return GPTConfig(V, layers, d_model=width, d_ff=2 * width, **sizes)  # type: ignore[arg-type]


def _model(config: GPTConfig, seed: int = 0) -> GPT:
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def _ids(rows: int, seq_len: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (rows, seq_len + 1), generator=torch.Generator().manual_seed(seed))


def _loss(model: GPT, ids_BT: torch.Tensor) -> torch.Tensor:
    return model.loss(model.hidden(ids_BT[:, :-1]).flatten(0, 1), ids_BT[:, 1:].flatten())


def _grid() -> np.ndarray:
    return np.array(list(itertools.product(np.geomspace(5e7, 1e10, 5), np.geomspace(1e9, 3e11, 5))))


def _losses(law: ScalingLaw, sizes: np.ndarray) -> np.ndarray:
    return np.array([law.loss(*row) for row in sizes])


def _law(theta: np.ndarray) -> ScalingLaw:
    return ScalingLaw(math.exp(theta[0]), tuple(map(math.exp, theta[1::2])), tuple(theta[2::2]))


def _numbers(law: ScalingLaw) -> tuple[float, ...]:
    return (law.irreducible, *law.coefficients, *law.exponents)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder to work in, gone afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def _shards(documents: list[tuple[list[int], int]], vocab_size: int, name: str) -> TokenShards:
    """Token shards in the folder `name`, the same documents in every split."""
    if not Path("tokenizer").exists():
        Path("tokenizer").mkdir()
        Path("tokenizer/vocabulary").write_text("none")
        lineage.seal(Path("tokenizer"), "tokenizer", [])
    tokenizer = lineage.open_artifact(Path("tokenizer"), "tokenizer")
    Path(name).mkdir()
    writer = ShardWriter(Path(name), vocab_size, tokenizer.sha256)
    for split in ("train", "val", "test"):
        writer.write(split, documents)
    writer.finish()
    lineage.seal(Path(name), "tokens", [tokenizer])
    return TokenShards.open(Path(name))


def _recipe() -> PretrainParams:
    sizes = {"n_layer": 1, "n_head": 2, "n_kv_head": 2, "d_model": 16, "d_ff": 32, "seq_len": 16, "context_len": 32}
    run = {"batch_size": 2, "grad_accum_steps": 2, "steps": 12, "warmup_steps": 2, "compile": False, "eval_every": 5}
    fixed = {"checkpoint_every": 2, "dtype": "float32", "dropout": 0.1, "muon_lr": 0.02, "induction_start": False}
    return load_params(_PARAMS).pretrain.model_copy(update=sizes | run | fixed)


def _trained(recipe: PretrainParams, shards: TokenShards, checkpoints: Checkpoints | None) -> GPT:
    of_token = np.ones(V, np.int64)
    of_token[0] = 0
    with contextlib.redirect_stdout(io.StringIO()):
        return train(recipe, shards, of_token, 0, torch.device("cpu"), checkpoints).model
