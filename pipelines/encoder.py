"""Stage `encoder`: tunes the embedding model on pairs of query and document from the training split."""

import time
from typing import Any

from llmm import lineage
from llmm.corpus import SPLITS, load_documents, load_objects
from llmm.files import atomic_folder, write_json
from llmm.params import Params
from llmm.paths import CORPUS, ENCODER, METRICS, MODEL, TOKENIZER
from llmm.training.rag.benchmark import make_benchmark
from llmm.training.rag.contrastive import Recipe, object_pairs, section_pairs, tune
from llmm.training.rag.encoder import Encoder, EncoderSettings, add_lora, base_model, save_encoder
from llmm.training.rag.retrieval import held_out_ndcg
from llmm.training.tokenizer.folder import load_text_tokenizer
from pipelines.stage import run_stage


def main(params: Params) -> dict[str, Any]:
    """Write `data/encoder` and `data/metrics/encoder.json`; returns the training's throughput."""
    p = params.encoder
    corpus, model = lineage.open_artifact(CORPUS, "corpus"), lineage.open_artifact(MODEL, "model")
    model.require(lineage.open_artifact(TOKENIZER, "tokenizer"))
    objects = load_objects(CORPUS)
    documents = {split: load_documents(CORPUS, split) for split in SPLITS}
    pairs = object_pairs(objects) or section_pairs(documents["train"])
    validation = make_benchmark(objects, documents, "val", params.rag_eval.retrieval_queries, params.seed)

    gpt = base_model(MODEL, p.layers)
    settings = EncoderSettings(min(p.layers, gpt.config.n_layer), p.query_len, p.document_len)
    encoder = Encoder(gpt, load_text_tokenizer(TOKENIZER), settings)
    before = held_out_ndcg(validation, encoder, params.index)
    adapter = add_lora(gpt, p.rank, p.alpha, params.seed)
    trainable = [weight for weight in adapter.parameters() if weight.requires_grad]
    print(f"{len(pairs)} pairs, {sum(w.numel() for w in trainable):,} trained weights")

    started = time.perf_counter()
    losses = []
    for loss in tune(encoder, trainable, pairs, Recipe(p.lr, p.temperature, p.steps, p.batch_size, params.seed)):
        losses.append(loss)
        if len(losses) % max(1, p.steps // 10) == 0:
            print(f"step {len(losses):4d}/{p.steps}  loss {sum(losses[-20:]) / len(losses[-20:]):.3f}", flush=True)
    seconds = time.perf_counter() - started

    after = held_out_ndcg(validation, encoder, params.index)
    with atomic_folder(ENCODER) as temporary:
        save_encoder(adapter, settings, after, temporary)
        lineage.seal(temporary, "encoder", [model, corpus], ENCODER)
    write_json(
        METRICS / "encoder.json",
        {
            "pairs": len(pairs),
            "trained_weights": sum(weight.numel() for weight in trainable),
            "loss_first_steps": round(sum(losses[:10]) / len(losses[:10]), 4),
            "loss_last_steps": round(sum(losses[-10:]) / len(losses[-10:]), 4),
            "val_queries": len(validation.queries),
            "val_ndcg_at_10_before": before,
            "val_ndcg_at_10_after": after,
        },
    )
    print(f"nDCG@10 on validation, names removed: {before['dense']:.3f} before, {after['dense']:.3f} after")
    print(f"beside it: bm25 {after['bm25']:.3f}, hybrid {after['hybrid']:.3f}")
    return {"pairs_per_second": round(p.steps * min(p.batch_size, len(pairs)) / seconds, 1)}


if __name__ == "__main__":
    run_stage("encoder", main)
