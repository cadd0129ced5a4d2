"""Pretraining and fine-tuning on a CUDA GPU; without one these tests are skipped."""

import numpy as np
import pytest
import torch

from llmm.params import load_params
from llmm.training.pretraining.characters import character_shards
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.pretraining.length import Steps
from llmm.training.pretraining.trainer import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

CUDA = torch.device("cuda")
TEXT = "".join(f"def f{i}(x):\n    return x + {i}\n\n# the number {i * 7} is no accident\n" for i in range(2000))


@pytest.fixture
def shards(tmp_path):
    """Character shards of a text that is easy to learn."""
    (tmp_path / "text").write_text(TEXT)
    return character_shards(tmp_path / "text", tmp_path / "shards")


def _recipe(**changes):
    small = {
        "n_layer": 2, "n_head": 2, "n_kv_head": 2, "d_model": 64, "d_ff": 128, "seq_len": 64, "context_len": 128,
        "batch_size": 8, "grad_accum_steps": 2, "steps": 40, "warmup_steps": 5, "eval_every": 20,
        "checkpoint_every": 10, "dtype": "bfloat16", "compile": False,
    }  # fmt: skip
    return load_params().pretrain.model_copy(update={**small, **changes})


def test_a_gpu_fine_tunes_as_a_processor_does(monkeypatch):
    from llmm.training.lora.finetune import finetune
    from tests.test_lora_finetune import RECIPE, examples
    from tests.tiny_agent import gpt

    data, last = examples(), []
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("LLMM_DEVICE", device)
        last.append(
            finetune(gpt(), RECIPE.model_copy(update={"dtype": "float32", "compile": False}), data, data, 0).curve[-1]
        )
    assert last[1]["val_loss"] == pytest.approx(last[0]["val_loss"], rel=0.01)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_learns_what_a_processor_learns(shards, compiled):
    first, last = [], []
    for device, dtype in ((torch.device("cpu"), "float32"), (CUDA, "bfloat16")):
        curve = train(_recipe(dtype=dtype, compile=compiled and device == CUDA), *shards, 0, device).curve
        first.append(curve[0]["val_bits_per_byte"])
        last.append(curve[-1]["val_bits_per_byte"])
    assert last[1] < 0.8 * first[1]
    assert last[1] == pytest.approx(last[0], rel=0.05)


def test_killed_on_a_gpu_it_goes_on_where_it_was(shards, tmp_path):
    class Killed(Exception):
        pass

    class UntilStep(Steps):
        def steps(self, step):
            if step == 25:
                raise Killed
            return super().steps(step)

    straight = train(_recipe(), *shards, 0, CUDA).model.state_dict()
    with pytest.raises(Killed):
        train(_recipe(), *shards, 0, CUDA, Checkpoints(tmp_path / "work", {}), length=UntilStep(40))
    resumed = train(_recipe(), *shards, 0, CUDA, Checkpoints(tmp_path / "work", {}))
    assert resumed.first_step == 20
    for name, weight in resumed.model.state_dict().items():
        torch.testing.assert_close(weight, straight[name], rtol=0, atol=2e-2)  # sums have no fixed order there


@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_beyond_the_gpus_memory_is_taken_in_parts(shards, compiled):
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**28 / total)
    try:
        sizes = {"batch_size": 2048, "grad_accum_steps": 1, "steps": 3, "warmup_steps": 1, "eval_every": 3}
        run = train(_recipe(**sizes, compile=compiled), *shards, 0, CUDA)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= run.micro_batch < 2048
    assert np.isfinite(run.curve[-1]["train_bits_per_byte"])
