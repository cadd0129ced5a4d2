"""Several processes train as one does, to rounding, and a checkpoint knows no number of processes.

Two gloo processes on the CPU, forked from a server that has imported torch once. All in float64, so that rounding stays
at 1e-12 and a wrong factor, a missing message or an orthogonalised part shows.
"""

import errno
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from llmm.errors import UserError
from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.muon import orthogonalise
from llmm.params import load_params
from llmm.training.pretraining.distributed import OneProcess, processes
from llmm.training.pretraining.recipe import build_model, build_optimizers, next_token_loss
from llmm.training.pretraining.sharded_checkpoint import ShardedCheckpoints
from llmm.training.pretraining.sharded_muon import ShardedMuon, deal, orthogonalise_sharded, rows_of
from llmm.training.pretraining.windows import Windows
from llmm.transformers.gpt import GPT

ROOT = Path(__file__).parents[1]
IMPORTED_ONCE = ["pytest", "llmm.params", *(f"llmm.training.pretraining.{name}" for name in (
    "distributed", "recipe", "sharded_checkpoint", "windows"))]  # fmt: skip
STEPS, PER_STEP, V = 6, 4, 61  # an odd vocabulary: the processes' rows are not equally many
TOLERANCE = 1e-11
# the recipe as it is, and its other end: AdamW for all, biases, positions that are learned, an LM head of its own
OURS: dict[str, Any] = {}
GPT2: dict[str, Any] = {
    "optimizer": "adamw", "bias": True, "positions": "learned", "norm": "layer", "tie_embeddings": False,
    "feed_forward": "gelu", "qk_norm": False, "zero_init": False, "induction_start": False,
}  # fmt: skip

Worker = Callable[..., Any]


def run_two(folder: Path, worker: Worker, *args: Any, survives: Sequence[int] = (0, 1)) -> list[Any]:
    """What `worker(*args)` returns in each of two processes of one group; those of `survives` must end well."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_ONCE)
    folder.mkdir(parents=True, exist_ok=True)
    started = [context.Process(target=_as_rank, args=(rank, folder, worker, args)) for rank in range(2)]
    for process in started:
        process.start()
    deadline = time.monotonic() + 120  # in case one has failed and the other waits for it
    for process in started:
        process.join(max(0, deadline - time.monotonic()))
    alive = [process for process in started if process.is_alive()]
    for process in alive:
        process.kill()
    assert not alive, "a process waits for the other"
    for rank in survives:
        assert started[rank].exitcode == 0, f"process {rank} has failed: its traceback is above"
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in survives]


def _as_rank(rank: int, folder: Path, worker: Worker, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(worker(*args), folder / f"{rank}.pt")
    dist.destroy_process_group()


def _recipe(**changes: Any) -> Any:
    recipe = load_params(ROOT / "params.yaml").pretrain
    sizes = {"n_layer": 2, "n_head": 3, "n_kv_head": 1, "d_model": 18, "d_ff": 21, "seq_len": 16, "context_len": 32}
    run = {"batch_size": PER_STEP, "steps": STEPS, "grad_clip": 0.8, "muon_lr": 0.05, "dtype": "float64"}
    return recipe.model_copy(update={**sizes, **run, **changes})


def _begin(parallel: str, changes: dict[str, Any], seed: int = 0) -> tuple[OneProcess, GPT, list[Any]]:
    recipe, group = _recipe(**changes), processes(parallel)
    model = group.shard(build_model(recipe, V, seed).double())
    return group, model, group.adapt(build_optimizers(model, recipe, torch.float64))


def train(
    parallel: str,
    changes: dict[str, Any],
    folder: Path | None = None,
    save_at: int = 0,
    look_at: int = 0,
    end: int = STEPS,
    seed: int = 0,
) -> dict[str, Any]:
    """A short training, from the checkpoint in `folder` where there is one: losses, norms, weights at the end."""
    recipe = _recipe(**changes)
    group, model, optimizers = _begin(parallel, changes, seed)
    checkpoints = ShardedCheckpoints(folder) if folder else None
    first, losses = (checkpoints.load(model, optimizers) if checkpoints else None) or (0, [])
    start = _weights(group, model)
    tokens = np.random.default_rng(0).integers(4, size=2000).cumsum() % V
    windows = Windows(tokens, recipe.seq_len, PER_STEP, 0)
    norms, glances = [], []
    for step in range(first, end):
        ids_BT = windows.batch(step, group.rank, group.world_size)
        halves = ids_BT.split(len(ids_BT) // 2)  # accumulated
        loss = torch.zeros((), dtype=torch.float64)
        for half_BT in halves:
            part = next_token_loss(model, half_BT) / len(halves)
            part.backward()
            loss += part.detach()
        loss = group.average(loss, model)
        norms.append(group.clip(model, recipe.grad_clip).item())
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step + 1 == look_at:
            with torch.inference_mode():
                glances.append(next_token_loss(group.whole(model).eval(), windows.batch(0)).item())
            model.train()
        if step + 1 == save_at:
            assert checkpoints is not None
            checkpoints.save(step + 1, model, optimizers, losses)
    return {"start": start, "losses": losses, "norms": norms, "glances": glances, "weights": _weights(group, model)}


def _weights(group: OneProcess, model: GPT) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in group.whole(model).named_parameters()}


def _assert_equal(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got["losses"] == pytest.approx(expected["losses"], rel=TOLERANCE)
    assert got["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        assert (got["weights"][name] - weight).abs().max() <= TOLERANCE, name


# the step


@pytest.mark.parametrize("changes", [OURS, GPT2], ids=["ours", "gpt2"])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_take_the_steps_of_one(parallel, changes, tmp_path):
    one = train(parallel, changes, look_at=3)
    assert max(one["norms"]) > 0.8  # clipping is at work
    assert one["losses"][-1] < one["losses"][0]
    for got in run_two(tmp_path, train, parallel, changes, None, 0, 3):
        _assert_equal(got, one)
        assert got["norms"] == pytest.approx(one["norms"], rel=TOLERANCE)
        assert got["glances"] == pytest.approx(one["glances"], rel=TOLERANCE)


def _held(changes: dict[str, Any]) -> int:
    """Numbers that this process holds after a step: weights and optimizer states."""
    _, model, optimizers = _begin("fsdp", changes)
    next_token_loss(model, torch.arange(34).view(2, 17)).backward()
    for optimizer in optimizers:
        optimizer.step()
    states = [value for o in optimizers for state in o.state.values() for value in state.values()]
    tensors = [*model.parameters(), *(value for value in states if isinstance(value, torch.Tensor))]
    return sum(tensor.to_local().numel() for tensor in tensors)


def test_sharded_processes_hold_half_each(tmp_path):
    _, model, optimizers = _begin("fsdp", OURS)
    matrices = sum(p.numel() for p in optimizers[0].param_groups[0]["params"])
    rows = sum(p.shape[0] for p in optimizers[0].param_groups[0]["params"])
    # NorMuon has one number a weight and one a row, AdamW two a weight
    whole = 3 * sum(p.numel() for p in model.parameters()) - matrices + rows
    held = run_two(tmp_path, _held, OURS)
    assert sum(held) == whole
    assert max(held) < 0.55 * whole


def test_one_process_gets_back_what_it_has_put_in():
    group, model, optimizers = _begin("fsdp", OURS)
    assert type(group) is OneProcess and (group.rank, group.world_size) == (0, 1)
    assert group.shard(model) is model and group.whole(model) is model
    assert [type(optimizer) for optimizer in group.adapt(optimizers)] == [Muon, AdamW]
    loss = torch.tensor(1.0)
    assert group.average(loss, model) is loss


# Muon on rows

# several of a shape, tall and wide, and fewer rows than processes
SHAPES = [(6, 6), (5, 8), (8, 5), (6, 6), (1, 6), (6, 6), (7, 3)]


def _matrices(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


def _muon(sharded: bool, frozen: int) -> list[torch.Tensor]:
    """The matrices after three steps; number `frozen` gets no gradient."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),)) if sharded else None

    def place(matrix: torch.Tensor) -> torch.Tensor:
        return matrix if mesh is None else distribute_tensor(matrix, mesh, [Shard(0)])

    params = [torch.nn.Parameter(place(matrix)) for matrix in _matrices(0)]
    options = {"lr": 0.1, "weight_decay": 0.3, "newton_schulz_steps": 3, "dtype": torch.float64}
    optimizer = (ShardedMuon if sharded else Muon)(params, **options)
    for step in range(3):
        for i, (p, gradient) in enumerate(zip(params, _matrices(1 + step), strict=True)):
            p.grad = None if i == frozen else place(gradient)
        optimizer.step()
    return [p.detach().full_tensor() if sharded else p.detach() for p in params]


def test_muon_on_rows_moves_as_muon_on_whole_matrices(tmp_path):
    expected = _muon(False, 2)
    assert torch.equal(expected[2], _matrices(0)[2])
    for got in run_two(tmp_path, _muon, True, 2):
        for mine, whole in zip(got, expected, strict=True):
            assert (mine - whole).abs().max() <= 1e-12


def _single_matrix() -> torch.Tensor:
    """One matrix among two processes: one of them orthogonalises nothing."""
    rank, matrix = dist.get_rank(), _matrices(0)[1]
    [mine] = orthogonalise_sharded([matrix.split(rows_of(5, 2))[rank]], [(5, 8)], None, 5, "frobenius")
    return mine


def test_a_process_without_a_matrix_takes_part(tmp_path):
    whole = orthogonalise(_matrices(0)[1][None])[0]
    torch.testing.assert_close(torch.cat(run_two(tmp_path, _single_matrix)), whole)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_matrix_has_one_owner_and_every_row_one_holder(world_size):
    dealt = deal(SHAPES * 4, world_size)
    assert sorted(i for theirs in dealt for i in theirs) == list(range(len(SHAPES) * 4))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    for m in range(1, 12):
        pieces = torch.arange(m).chunk(world_size)
        assert rows_of(m, world_size) == [len(piece) for piece in pieces] + [0] * (world_size - len(pieces))


def test_whole_matrices_are_refused():
    with pytest.raises(ValueError, match="sharded by rows"):
        ShardedMuon([torch.nn.Parameter(torch.ones(2, 2))])


# checkpoints


@pytest.mark.parametrize(
    "writer, reader", [("one", "fsdp"), ("fsdp", "one"), ("one", "ddp"), ("ddp", "one"), ("fsdp", "ddp")]
)
def test_a_run_goes_on_in_another_number_of_processes(writer, reader, tmp_path):
    def run(mode: str, name: str, *args: Any) -> list[dict[str, Any]]:
        if mode == "one":
            return [train("fsdp", OURS, tmp_path / "checkpoints", *args)]
        return run_two(tmp_path / name, train, mode, OURS, tmp_path / "checkpoints", *args)

    written = run(writer, "writer", 3, 0, 3)[0]
    for got in run(reader, "reader", 0, 0, STEPS, 1):  # other initial weights, none of which may stay
        for name, weight in written["weights"].items():
            assert torch.equal(got["start"][name], weight), name
        assert got["losses"][:3] == written["losses"]
        _assert_equal(got, train("ddp", OURS))


def test_one_process_goes_on_in_the_same_bits(tmp_path):
    straight = train("ddp", OURS)
    train("ddp", OURS, tmp_path, 3, end=3)
    got = train("ddp", OURS, tmp_path, seed=1)
    assert len(got["norms"]) == 3 and got["losses"] == straight["losses"]
    for name, weight in straight["weights"].items():
        assert torch.equal(got["weights"][name], weight)


def test_no_checkpoint_is_none(tmp_path):
    _, model, optimizers = _begin("ddp", OURS)
    assert ShardedCheckpoints(tmp_path / "nowhere").load(model, optimizers) is None


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed_while_saving(folder: Path, rank: int, moment: str) -> None:
    """Save step 1, then step 2, in which process `rank` is killed at a `moment`."""
    _, model, optimizers = _begin("fsdp", OURS)
    checkpoints = ShardedCheckpoints(folder)
    checkpoints.save(1, model, optimizers, "old")
    if dist.get_rank() == rank:
        if moment == "writing":
            FileSystemWriter.write_data = _die
        elif moment == "naming":
            rename = Path.rename
            Path.rename = lambda path, target: (_die if Path(target).name == "step-00000002" else rename)(path, target)
        else:  # it is complete, and the one before it not yet removed
            shutil.rmtree = _die
    checkpoints.save(2, model, optimizers, "new")


def _no_room(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _saved_on_a_full_disk(folder: Path, rank: int) -> str:
    """Save step 1, then step 2, for which process `rank` finds no room; the newest checkpoint after that."""
    _, model, optimizers = _begin("fsdp", OURS)
    checkpoints = ShardedCheckpoints(folder)
    checkpoints.save(1, model, optimizers, "old")
    if dist.get_rank() == rank:
        FileSystemWriter.write_data = _no_room
    with pytest.raises(UserError, match=r"no room on the disk for .*step-00000002"):
        checkpoints.save(2, model, optimizers, "new")
    dist.barrier()  # until rank 0 has cleared up
    return "".join(path.name for path in folder.iterdir())


@pytest.mark.parametrize("rank", [0, 1])
def test_no_room_for_one_process_is_one_line_in_both_and_the_last_checkpoint_stays(rank, tmp_path):
    assert run_two(tmp_path / "run", _saved_on_a_full_disk, tmp_path / "checkpoints", rank) == ["step-00000001"] * 2


@pytest.mark.parametrize(
    "rank, moment, found",
    [
        (0, "writing", (1, "old")),
        (1, "writing", (1, "old")),
        (0, "naming", (1, "old")),
        (0, "removing", (2, "new")),
    ],
)
def test_a_writer_killed_while_saving_leaves_a_whole_checkpoint(rank, moment, found, tmp_path):
    folder = tmp_path / "checkpoints"
    run_two(tmp_path / "killed", _killed_while_saving, folder, rank, moment, survives=())
    if rank == 0:  # else rank 0 has noticed and tidied up
        assert len(list(folder.iterdir())) == 2
    _, model, optimizers = _begin("ddp", OURS)
    checkpoints = ShardedCheckpoints(folder)
    assert checkpoints.load(model, optimizers) == found
    checkpoints.save(2, model, optimizers, "again")
    assert [path.name for path in folder.iterdir()] == ["step-00000002"]
    assert checkpoints.load(model, optimizers) == (2, "again")
