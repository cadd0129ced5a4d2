"""Fine-tuning: the data, the loss mask, peft on our GPT, the adapter in other programs' hands, resuming."""

import dataclasses
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F

from llmm.errors import UserError
from llmm.files import write_json
from llmm.lineage import seal
from llmm.params import load_params
from llmm.training.lora import finetune as finetuning
from llmm.training.lora.adapter import attach_lora, load_tuned, merge, save_adapter
from llmm.training.lora.chat import Message, passages_text
from llmm.training.lora.dataset import Example, batches, collate, encode
from llmm.training.lora.finetune import finetune, mean_loss
from llmm.training.lora.instructions import NOT_THERE, is_right, make_instructions
from llmm.training.lora.last_block import hidden_at, shorten_last_block
from llmm.training.lora.packing import NONE, batches_in_order, collate_windows, pack
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.tokenizer.special import SPECIAL_TOKENS
from llmm.transformers.gpt import GPT, save_gpt
from tests.tiny_agent import DOCUMENTS, OBJECTS, codec, gpt

IDS = torch.tensor([[3, 40, 41, 2, 4, 50, 51, 2], [7, 60, 61, 62, 2, 8, 70, 2]])
RECIPE = load_params().finetune.model_copy(
    update={
        "rank": 4,
        "alpha": 4.0,
        "steps": 12,
        "warmup_steps": 2,
        "batch_size": 4,
        "seq_len": 64,
        "checkpoint_every": 5,
        "muon_lr": 0.02,
        "adamw_lr": 0.02,
    }
)


def examples(count: int = 40) -> list[Example]:
    rng = random.Random(0)
    conversations = [
        [Message("user", f"add {a} and {a}"), Message("assistant", f"The answer is {2 * a}.")]
        for a in rng.choices(range(99), k=count)
    ]
    return encode(conversations, codec(), 64)


def trained(folder: Path, seed: int = 0, tokens: Literal["all", "special"] = "special") -> Any:
    """A peft model whose adapter is not zero, saved in `folder`."""
    model = attach_lora(gpt(), 4, 4.0, 0.0, seed, tokens)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    save_adapter(model, folder)
    return model.eval()


def test_the_loss_counts_what_the_model_writes_and_nothing_else() -> None:
    conversation = [
        Message("user", "hi"),
        Message("tool_call", "{}"),
        Message("tool_result", "3"),
        Message("assistant", "ok"),
    ]
    example = Example(*codec().example(conversation))
    learned = [token for token, weight in zip(example.ids, example.weights, strict=True) if weight]
    assert learned == [*codec().turn(conversation[1]), *codec().turn(conversation[3])]
    padded = collate([example, *examples(2)], pad=1)
    model = gpt()
    logits_BTV = model(padded.ids_BT)
    expected = F.cross_entropy(logits_BTV.flatten(0, 1)[padded.positions], padded.targets)
    packed = collate_windows([[example, *examples(2)]], 2, 128, pad=1)
    wrapped = attach_lora(gpt(), 4, 4.0, 0.0, 0)
    assert torch.allclose(finetuning._loss(wrapped, packed), expected, atol=1e-6)


def test_what_the_model_decides_counts_more_than_what_it_repeats() -> None:
    conversation = [
        Message("user", "hi"),
        Message("tool_call", "{}"),
        Message("tool_result", "3"),
        Message("assistant", "ok"),
        Message("user", "thanks"),
        Message("assistant", "welcome"),
    ]
    ids, weights = codec().example(conversation, 3.0)
    turns = [codec().turn(message) for message in conversation]
    counts = [0.0, 3.0, 0.0, 1.0, 0.0, 3.0]
    assert ids == [token for turn in turns for token in turn]
    assert weights == [count for turn, count in zip(turns, counts, strict=True) for _ in turn]

    batch = collate_windows([[Example(ids, weights)]], 1, 64, pad=1)
    model = gpt()
    logits_TV = model(torch.tensor([ids[:-1]]))[0]
    nats = F.cross_entropy(logits_TV, torch.tensor(ids[1:]), reduction="none")
    weight = torch.tensor(weights[1:])
    found = model.loss(model.hidden(batch.ids_BT).flatten(0, 1)[batch.positions], batch.targets, batch.weights)
    assert torch.allclose(found, (nats * weight).sum() / weight.sum(), atol=1e-6)
    assert not torch.allclose(found, nats[weight > 0].mean(), atol=1e-3)


def of_many_lengths(count: int = 300) -> list[Example]:
    """Examples of many lengths, no two alike."""
    rng = random.Random(1)
    return [
        Example(
            [3, *(rng.randrange(20, 100) for _ in range(length)), 2],
            [0.0] * (length // 2) + [1.0] * (length + 2 - length // 2),
        )
        for length in rng.choices(range(5, 120), k=count)
    ]


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_packed_conversations_are_as_if_each_stood_alone(positions: Literal["rope", "learned"]) -> None:
    config = dataclasses.replace(gpt().config, positions=positions, context_len=256)
    model = GPT(config).double()
    model.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    window = of_many_lengths(4)
    batch = collate_windows([window[:1], window], 3, 256, pad=1)
    hidden_BTD = model.hidden(batch.ids_BT, documents_BT=batch.documents_BT)
    start = 0
    for example in window:
        alone = model.hidden(torch.tensor([example.ids[:-1]]))[0]
        end = start + len(example.ids) - 1
        assert (hidden_BTD[1, start:end] - alone).abs().max() <= 1e-12
        start = end
    together = model.hidden(batch.ids_BT)  # without the documents' numbers
    assert (together[1, :start] - hidden_BTD[1, :start]).abs().max() > 1e-3
    assert hidden_BTD.isfinite().all()  # padding, too


def test_packed_and_padded_batches_have_one_loss_and_one_gradient() -> None:
    data = of_many_lengths(12)
    padded, [packed] = collate(data, pad=1), batches_in_order(data, 12, 128, 1)
    grads = []
    for batch, documents, weights in ((padded, None, None), (packed, packed.documents_BT, packed.weights)):
        model = gpt().double()
        hidden_BTD = model.hidden(batch.ids_BT, documents_BT=documents)
        loss = model.loss(hidden_BTD.flatten(0, 1)[batch.positions], batch.targets, weights)
        loss.backward()
        grads.append((loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (first, by_padded), (second, by_packed) = grads
    assert abs(first - second) <= 1e-12
    for name, gradient in by_padded.items():
        assert (by_packed[name] - gradient).abs().max() <= 1e-12, name


@pytest.mark.parametrize("placement", ["pre", "sandwich", "post"])
def test_a_last_block_fed_at_the_wanted_positions_alone_changes_nothing_there(
    placement: Literal["pre", "sandwich", "post"],
) -> None:
    batch = next(batches_in_order(of_many_lengths(12), 12, 128, 1))
    outcomes, rows = [], list[int]()
    for short in (False, True):
        model = GPT(dataclasses.replace(gpt().config, norm_placement=placement)).double()
        model.init_weights(torch.Generator().manual_seed(0))
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
        if short:
            shorten_last_block(model)
        model.model.layers[-1].mlp.register_forward_hook(lambda _, given, out: rows.append(given[0].numel()))
        hidden_ND = hidden_at(model, batch.ids_BT, batch.documents_BT, batch.positions)
        loss = model.loss(hidden_ND, batch.targets, batch.weights)
        loss.backward()
        whole_BTD = model.hidden(batch.ids_BT, documents_BT=batch.documents_BT)
        assert (whole_BTD.flatten(0, 1)[batch.positions] - hidden_ND).abs().max() <= 1e-12
        outcomes.append((loss.detach(), {name: p.grad for name, p in model.named_parameters()}))
    (loss, grads), (short_loss, short_grads) = outcomes
    assert abs(loss - short_loss) <= 1e-12
    for name, grad in grads.items():
        assert (short_grads[name] - grad).abs().max() <= 1e-12, name
    D, all_of_them = gpt().config.d_model, batch.ids_BT.numel()
    wanted = all_of_them if placement == "post" else len(batch.positions)
    assert rows == [D * all_of_them, D * all_of_them, D * wanted, D * all_of_them] and wanted > 0


def test_windows_hold_every_example_once_an_epoch_and_hardly_any_padding() -> None:
    data = of_many_lengths()
    windows = list(pack(data, 128))
    assert sorted(id(one) for window in windows for one in window) == sorted(map(id, data))
    inputs = [sum(len(one.ids) - 1 for one in window) for window in windows]
    assert max(inputs) <= 128 and sum(inputs) > 0.95 * 128 * len(inputs)
    for batch in batches_in_order(data, 4, 128, 1):
        assert batch.ids_BT.shape == (4, 128) and (batch.ids_BT[batch.documents_BT == NONE] == 1).all()
        counted = int((batch.weights > 0).sum())
        assert len(batch.positions) == len(batch.targets) == len(batch.weights) == 64 * math.ceil(counted / 64)
        assert (batch.weights[:counted] > 0).all()
    with pytest.raises(ValueError, match="does not fit"):
        list(pack([Example([3] * 130, [0.0] * 130)], 128))


@pytest.mark.parametrize("count", [1, 3, 300])
def test_every_epoch_holds_every_example_once_however_few_there_are(count: int) -> None:
    data = of_many_lengths(count)
    found = Counter(id(one) for window in pack(data * 4, 128) for one in window)
    assert found == {id(one): 4 for one in data}


def test_no_example_waits_for_the_end_of_the_stream() -> None:
    lengths = [60] * 40 + [100] * 400  # no two lengths fit together, so longest first would leave the short ones last
    data = [Example([3] * length, [1.0] * length) for length in random.Random(0).sample(lengths, len(lengths))]
    at = {id(one): i for i, one in enumerate(data)}
    order = [at[id(one)] for window in pack(data, 128) for one in window]
    assert max(abs(place - i) for place, i in enumerate(order)) < 256


def test_batches_hold_every_example_once_an_epoch_and_little_padding() -> None:
    many = [
        Example([3, *[40] * length, 2], [0.0] * (length + 2))
        for length in random.Random(1).choices(range(5, 200), k=300)
    ]
    for one in many:
        one.weights[-1] = 1.0
    seen, padded, stream = 0, 0, batches(many, 800, 1, 0)
    while seen < len(many):
        batch = next(stream)
        seen += len(batch.ids_BT)
        padded += int((batch.ids_BT == 1).sum())
        assert batch.tokens <= 800
    assert seen == len(many)
    assert padded < 0.25 * sum(len(one.ids) for one in many)


def test_short_conversations_come_in_many_batches_and_not_in_a_few_of_their_own() -> None:
    lengths = [10] * 20 + random.Random(1).choices(range(50, 200), k=180)
    many = [Example([3, *[40] * length, 2], [0.0] * (length + 1) + [1.0]) for length in lengths]
    stream, seen, with_short, total = batches(many, 800, 1, 0), 0, 0, 0
    while seen < len(many):
        batch = next(stream)
        seen, total = seen + len(batch.ids_BT), total + 1
        with_short += any(int((row != 1).sum()) < 20 for row in batch.ids_BT)
    assert with_short >= 6  # sorted all together they fill one
    assert total > with_short


def test_lora_starts_as_the_base_model() -> None:
    base = gpt()(IDS)
    wrapped = attach_lora(gpt(), 4, 4.0, 0.0, 0)
    assert torch.equal(wrapped.get_base_model()(IDS), base)


def test_a_wide_lora_is_multiplied_as_a_sum_and_is_peft_s_branch_to_rounding() -> None:
    from peft.tuners.lora import Linear

    from llmm.training.lora.summed import SummedLora

    def losses_and_gradients(kind: type) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model = attach_lora(gpt(), 64, 32.0, 0.0, 0).double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        layers = [module for module in model.modules() if isinstance(module, Linear)]
        assert layers and all(type(layer) is SummedLora for layer in layers)
        for layer in layers:
            layer.__class__ = kind
        logits = model.get_base_model()(IDS)
        logits.square().mean().backward()
        return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    (sums, by_sum), (branches, by_branch) = (losses_and_gradients(kind) for kind in (SummedLora, Linear))
    assert (sums - branches).abs().max() <= 1e-12
    assert by_sum.keys() == by_branch.keys() and sum(".lora_A." in name for name in by_sum) > 0
    for name, gradient in by_branch.items():
        assert (by_sum[name] - gradient).abs().max() <= 1e-12 * max(1, gradient.abs().max()), name


def test_a_narrow_lora_or_one_with_dropout_stays_a_branch() -> None:
    from llmm.training.lora.summed import SummedLora

    for rank, dropout in ((4, 0.0), (64, 0.1)):
        assert not any(type(module) is SummedLora for module in attach_lora(gpt(), rank, 4.0, dropout, 0).modules())


def test_a_summed_lora_that_is_switched_off_is_the_base_model() -> None:
    model = attach_lora(gpt(), 64, 32.0, 0.0, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.fill_(0.1)
    base = gpt()(IDS)
    assert not torch.allclose(model.get_base_model()(IDS), base)
    with model.disable_adapter():
        assert torch.equal(model.get_base_model()(IDS), base)


@pytest.mark.parametrize("which", ["special", "all"])
def test_the_trained_tokens_are_in_the_embedding_and_in_the_lm_head(which, tmp_path: Path) -> None:
    model = trained(tmp_path, tokens=which).get_base_model()
    tokens = model.model.embed_tokens.token_adapter.trainable_tokens_delta["default"]
    assert len(tokens) == (len(SPECIAL_TOKENS) if which == "special" else model.config.vocab_size)
    hidden = model.hidden(IDS)
    assert torch.allclose(model.lm_head(hidden)[..., : len(tokens)], hidden @ tokens.T, atol=1e-5)


@pytest.mark.parametrize("which", ["special", "all"])
def test_merged_weights_equal_peft_unmerged(which, tmp_path: Path) -> None:
    unmerged = trained(tmp_path, tokens=which).get_base_model()(IDS)
    model = gpt()
    base = model(IDS)
    merge(model, tmp_path)
    assert (model(IDS) - unmerged).abs().max() <= 1e-5
    assert (model(IDS) - base).abs().max() > 0.01


def test_the_adapter_opens_in_peft_on_transformers_model(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    unmerged = trained(tmp_path / "adapter").get_base_model()(IDS)  # type: ignore[attr-defined]
    save_gpt(gpt(), tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    assert (theirs(IDS).logits - unmerged).abs().max() <= 1e-5


def test_saved_adapters_have_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        trained(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_an_adapter_with_a_stray_tensor_or_of_another_size_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    other = gpt()
    other.model.layers = other.model.layers[:1]
    with pytest.raises(UserError, match="no place"):
        merge(other, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    wide = gpt()
    wide.model.layers[0].self_attn.q_proj.weight = torch.nn.Parameter(torch.zeros(32, 16))
    write_json(tmp_path / "adapter_config.json", config)
    with pytest.raises(UserError, match="matrix"):
        merge(wide, tmp_path)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    for name, seed in (("model", 0), ("other", 1)):
        save_gpt(gpt(seed), tmp_path / name)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(codec().tokenizer.to_str())
    tokenizer = seal(tmp_path / "tokenizer", "tokenizer", [])
    model, _ = (seal(tmp_path / name, "model", [tokenizer]) for name in ("model", "other"))
    trained(tmp_path / "adapter")
    seal(tmp_path / "adapter", "adapter", [model, tokenizer])
    gpt_tuned, artifact = load_tuned(tmp_path / "adapter", tmp_path / "model", tmp_path / "tokenizer")
    assert artifact.kind == "adapter" and not gpt_tuned.training
    with pytest.raises(UserError, match="belongs to model"):
        load_tuned(tmp_path / "adapter", tmp_path / "other", tmp_path / "tokenizer")


def test_finetuning_learns_and_leaves_the_base_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMM_DEVICE", "cpu")
    base = gpt()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    data = examples()
    start = mean_loss(attach_lora(gpt(), 4, 4.0, 0.0, 0), data, 4, 64)
    run = finetune(base, RECIPE.model_copy(update={"steps": 40}), data, data, 0)
    assert mean_loss(run.model, data, 4, 64) < 0.6 * start
    after = run.model.get_base_model().state_dict()
    for name, value in before.items():
        found = next(after[k] for k in after if k.replace(".base_layer", "").replace("token_adapter.", "") == name)
        assert torch.equal(found, value), name


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMM_DEVICE", "cpu")
    data = examples()
    save_adapter(finetune(gpt(), RECIPE, data, data, 0).model, tmp_path / "whole")

    step, taken = finetuning._step, 0

    def dying(*arguments: object) -> float:
        nonlocal taken
        taken += 1
        if taken == 8:
            raise Killed
        return step(*arguments)  # type: ignore[arg-type]

    checkpoints = Checkpoints("finetune", {"recipe": RECIPE.model_dump()})
    monkeypatch.setattr(finetuning, "_step", dying)
    with pytest.raises(Killed):
        finetune(gpt(), RECIPE, data, data, 0, checkpoints)
    monkeypatch.setattr(finetuning, "_step", step)
    run = finetune(gpt(), RECIPE, data, data, 0, checkpoints)
    assert run.first_step == 5 and "going on from the checkpoint of step 5" in capsys.readouterr().out
    save_adapter(run.model, tmp_path / "resumed")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_instructions_are_verified_and_some_have_no_answer() -> None:
    made = make_instructions(DOCUMENTS, OBJECTS, 200, random.Random(0))
    assert len(made) > 100 and all(is_right(one) for one in made)
    assert {one.kind for one in made} == {"summary", "signature", "module", "which_document", "what_follows"}
    refused = [one for one in made if not one.answerable]
    assert 0.03 < len(refused) / len(made) < 0.4
    assert all(one.messages[-1].text == NOT_THERE for one in refused)
    assert make_instructions(DOCUMENTS, OBJECTS, 50, random.Random(1)) == make_instructions(
        DOCUMENTS, OBJECTS, 50, random.Random(1)
    )


def test_instructions_of_a_source_without_objects_or_with_nothing_to_ask() -> None:
    kinds = {one.kind for one in make_instructions(DOCUMENTS, [], 60, random.Random(0))}
    assert kinds == {"which_document", "what_follows"}
    assert make_instructions(DOCUMENTS[:0], [], 10, random.Random(0)) == []


def test_a_wrong_answer_is_noticed() -> None:
    one = make_instructions(DOCUMENTS, OBJECTS, 50, random.Random(2))[0]
    context, question, _ = one.messages
    wrong = type(one)(
        one.kind, True, (context, question, Message("assistant", "Something that is nowhere to be read."))
    )
    assert not is_right(wrong)
    assert passages_text([("a", "b\n"), ("c", "d")]) == "[a]\nb\n\n[c]\nd"
