"""How fast cached greedy generation is, beside `transformers.generate` on the same weights with the same tokens out."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llmm.errors import UserError
from llmm.peaks import matmul_peak
from llmm.transformers.gpt import load_gpt
from llmm.transformers.gpt.generate import generate

PROMPT_TOKENS = 32
REPEATS = 5


def bench_generate(folder: Path, new_tokens: int, batch_sizes: tuple[int, ...] = (1, 8)) -> dict[str, Any]:
    """Continue random prompts with the checkpoint in `folder`, each system in turn: medians of a few runs.

    Raises UserError where the two systems do not write the same tokens, and for more tokens than the model's context.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    ours = load_gpt(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    config = ours.config
    if config.context_len < PROMPT_TOKENS + new_tokens:
        raise UserError(f"{PROMPT_TOKENS} + {new_tokens} tokens do not fit the model's context of {config.context_len}")
    peak = matmul_peak(torch.float32, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)

    rows = {}
    for B in batch_sizes:
        ids_BT = torch.randint(config.vocab_size, (B, PROMPT_TOKENS), generator=generator)
        mask_BT = torch.ones_like(ids_BT)

        def with_ours(ids_BT: torch.Tensor = ids_BT) -> list[list[int]]:
            return generate(ours, ids_BT.tolist(), new_tokens)

        def with_theirs(ids_BT: torch.Tensor = ids_BT, mask_BT: torch.Tensor = mask_BT) -> list[list[int]]:
            with torch.inference_mode():
                whole = theirs.generate(
                    ids_BT, attention_mask=mask_BT, do_sample=False, max_new_tokens=new_tokens, eos_token_id=-1
                )
            return whole[:, PROMPT_TOKENS:].tolist()

        if with_ours() != with_theirs():  # also the warm-up
            raise UserError("the two systems do not write the same tokens: there is nothing to compare")
        seconds = in_turn([with_ours, with_theirs], REPEATS)
        flops = 2.0 * config.n_matmul_params * B * new_tokens  # of the matrices alone
        rows[f"batch {B}"] = {
            "tokens_per_second": {
                name: round(B * new_tokens / s, 1) for name, s in zip(("ours", "transformers"), seconds, strict=True)
            },
            "milliseconds_per_step": round(seconds[0] / new_tokens * 1e3, 3),
            "gflops": round(flops / seconds[0] / 1e9, 2),
            "share_of_float32_peak": round(flops / seconds[0] / 1e9 / peak, 4),
            "ratio_to_transformers": round(seconds[1] / seconds[0], 2),
        }
    return {
        "model": {"parameters": sum(p.numel() for p in ours.parameters()), "folder": str(folder)},
        "threads": torch.get_num_threads(),
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": new_tokens,
        "same_tokens": True,
        "matmul_peak_gflops": round(peak, 1),
        "batches": rows,
    }


def in_turn(functions: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of each, run one after the other in turn, so that a busy minute falls on all of them."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, seconds, strict=True):
            started = time.perf_counter()
            function()
            found.append(time.perf_counter() - started)
    return [statistics.median(found) for found in seconds]


def render(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("cached greedy generation", "tok/s", "transformers", "ratio", "GFLOP/s", "of float32 peak"):
        table.add_column(column, justify="left" if column.startswith("cached") else "right")
    for name, row in result["batches"].items():
        speed = row["tokens_per_second"]
        table.add_row(
            name,
            f"{speed['ours']:,.0f}",
            f"{speed['transformers']:,.0f}",
            f"{row['ratio_to_transformers']:.2f}",
            f"{row['gflops']:.1f}",
            f"{row['share_of_float32_peak']:.1%}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"{result['model']['parameters']:,} parameters, {result['prompt_tokens']} tokens read and "
        f"{result['new_tokens']} written, {result['threads']} threads; the same tokens from both; "
        f"peak of matrix products {result['matmul_peak_gflops']:.0f} GFLOP/s"
    )
