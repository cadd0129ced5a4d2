"""The stages `encoder` and `index` and the evaluation, on a tiny corpus with a tiny random GPT."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from llmm import lineage, paths
from llmm.corpus import Document, load_documents, load_objects
from llmm.corpus.python_objects import find_objects
from llmm.corpus.store import write_documents, write_objects
from llmm.errors import UserError
from llmm.files import atomic_folder, read_json, write_json
from llmm.params import Params, load_params
from llmm.training.rag.answer import NOT_FOUND, answer
from llmm.training.rag.contrastive import info_nce, same_meaning, schedule
from llmm.training.rag.encoder import DOCUMENT, add_lora, base_model, load_encoder
from llmm.training.rag.evaluation import rag_evaluation
from llmm.training.rag.index import RETRIEVERS, SearchIndex, open_index
from llmm.training.rag.langchain import EncoderEmbeddings, IndexRetriever
from llmm.training.tokenizer.bpe import train_tokenizer
from llmm.training.tokenizer.folder import write_tokenizer
from llmm.transformers.gpt import GPT, GPTConfig, save_gpt
from pipelines import encoder as encoder_stage
from pipelines import index as index_stage

ROOT = Path(__file__).parent.parent
VERBS = ("open", "close", "count", "merge", "split", "parse", "render", "sort")
THINGS = ("file", "window", "record", "token", "packet", "matrix")


def a_module(thing: str) -> str:
    functions = [
        f"def {verb}_{thing}(first, second=None):\n"
        f'    """{verb.title()} the {thing} that the caller names and tell how it went."""\n'
        f"    result = do_{verb}(first)\n    return result, second\n"
        for verb in VERBS
    ]
    return f'"""Working with a {thing}."""\n\n\n' + "\n\n".join(functions)


def make_params() -> Params:
    params = load_params(ROOT / "params.yaml")
    changes = {
        "encoder": {"layers": 2, "rank": 4, "steps": 12, "batch_size": 8, "query_len": 16, "document_len": 32},
        "index": {"chunk_chars": 300, "chunk_overlap": 40},
        "rag_eval": {"retrieval_queries": 20, "questions": 9, "top_k": 5, "bootstrap_samples": 100},
    }
    return params.model_copy(
        update={name: getattr(params, name).model_copy(update=change) for name, change in changes.items()}
    )


def write_parents() -> None:
    """Corpus, tokenizer, model and adapter, as the stages before would have."""
    splits = {"train": THINGS[:4], "val": THINGS[4:5], "test": THINGS[5:]}
    objects = []
    with atomic_folder(paths.CORPUS) as folder:
        for split, things in splits.items():
            documents = [Document(f"work.{thing}s", f"work.{thing}s", a_module(thing)) for thing in things]
            write_documents(folder, split, documents)
            objects += [item for d in documents for item in find_objects(d.text, d.id, d.id, split)]
        write_objects(folder, objects)
        corpus = lineage.seal(folder, "corpus", [], paths.CORPUS)
    tokenizer = train_tokenizer([document.text for document in load_documents(paths.CORPUS, "train")], 320)
    with atomic_folder(paths.TOKENIZER) as folder:
        write_tokenizer(tokenizer, folder)
        tokens = lineage.seal(folder, "tokenizer", [corpus], paths.TOKENIZER)
    gpt = GPT(GPTConfig(tokenizer.get_vocab_size(), 3, 2, 2, 16, 32, 512))
    generator = torch.Generator().manual_seed(0)
    for parameter in gpt.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, 0, 0.2, generator=generator)
    with atomic_folder(paths.MODEL) as folder:
        save_gpt(gpt, folder)
        model = lineage.seal(folder, "model", [tokens, corpus], paths.MODEL)
    with atomic_folder(paths.ADAPTER) as folder:
        add_lora(base_model(paths.MODEL, 3), 2, 2.0, 0).save_pretrained(str(folder), save_embedding_layers=False)
        lineage.seal(folder, "adapter", [model, tokens], paths.ADAPTER)
    write_json(paths.SOURCE, {"source": "stdlib", "label": "tiny", "sha256": "", "documents": 6})
    paths.EVALS.mkdir(parents=True)
    lines = [
        {"id": "a", "question": "How do I sort a matrix?", "modules": ["work.matrixs"], "names": [], "keywords": []},
        {"id": "b", "question": "What does work.gone do?", "modules": ["gone"], "names": [], "keywords": []},
        {"id": "c", "question": "How do I bake bread?", "modules": [], "names": [], "keywords": []},
    ]
    (paths.EVALS / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with both stages run; tests share it and leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("rag")
        patch.chdir(folder)
        write_parents()
        encoder_stage.main(make_params())
        index_stage.main(make_params())
        yield folder


def test_the_stages_write_checked_artifacts_and_metrics(project: Path) -> None:
    encoder, index = lineage.open_artifact(paths.ENCODER, "encoder"), lineage.open_artifact(paths.INDEX, "index")
    assert set(encoder.made_from) == {"model", "corpus"} and set(index.made_from) == {"corpus", "encoder"}
    metrics = read_json(paths.METRICS / "encoder.json")
    assert metrics["loss_last_steps"] < metrics["loss_first_steps"]
    assert set(metrics["val_ndcg_at_10_after"]) == {*RETRIEVERS, "gain_low", "gain_high"}
    config = read_json(paths.ENCODER / "adapter_config.json")
    lists = [value for value in config.values() if isinstance(value, list)]
    assert not lists  # peft writes sets as lists, in another order each time: no two encoders would be alike
    assert read_json(paths.METRICS / "index.json")["chunks"] == len(open_index()[0].chunks)
    assert not [file for file in paths.INDEX.iterdir() if file.suffix in (".pkl", ".pickle")]


def test_the_same_run_gives_the_same_bytes(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [read_json(path / "lineage.json")["files"] for path in (project / paths.ENCODER, project / paths.INDEX)]
    monkeypatch.chdir(tmp_path)
    write_parents()
    encoder_stage.main(make_params())
    index_stage.main(make_params())
    assert [read_json(path / "lineage.json")["files"] for path in (paths.ENCODER, paths.INDEX)] == before


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(project: Path) -> None:
    encoder, _ = load_encoder(paths.ENCODER, paths.MODEL, paths.TOKENIZER)
    texts = ["def f(x):\n    return x", "", "long " * 100, "<|end|> is text here"]
    together = encoder.embed_documents(texts)
    assert together.shape == (4, 16) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(encoder.embed_documents([text])[0], vector, atol=1e-5)
    assert not np.allclose(encoder.embed_queries(texts[:1]), together[:1], atol=1e-3)
    assert all(len(ids) <= 32 for ids in encoder.tokens(texts, DOCUMENT))
    end = encoder.tokenizer.token_to_id("<|end|>")
    assert end not in encoder.tokens(texts, DOCUMENT)[3]
    assert EncoderEmbeddings(encoder).embed_documents(texts[:1])[0] == pytest.approx(together[0].tolist(), abs=1e-5)


def test_search_finds_by_words_by_vectors_and_by_both(project: Path) -> None:
    index, _ = open_index()
    for retriever in RETRIEVERS:
        hits = index.search("merge the matrix", 3, retriever)
        assert len(hits) == 3 and [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert {hit.chunk.source for hit in index.search("merge", 5, retriever, ["work.tokens"])} == {"work.tokens"}
    assert "merge_matrix" in index.search("merge_matrix", 1, "bm25")[0].chunk.text
    with pytest.raises(UserError, match="retriever = 'magic': expected bm25, dense, hybrid"):
        index.search("x", 1, "magic")
    texts = {d.id: d.text for split in ("train", "val", "test") for d in load_documents(paths.CORPUS, split)}
    assert all(texts[c.source][c.start : c.end] == c.text for c in index.chunks.values())


def test_the_langchain_retriever_returns_chunks_with_their_place(project: Path) -> None:
    index, _ = open_index()
    (document,) = IndexRetriever(index=index, k=1, retriever="bm25").invoke("sort_matrix")
    assert document.id in index.chunks and document.metadata["source"] == "work.matrixs"
    assert index.chunks[document.id].start == document.metadata["start"]


def test_answers_are_quotations_or_not_found(project: Path) -> None:
    index, _ = open_index()
    given = answer("What does work.matrixs.sort_matrix do?", index, retriever="bm25")
    assert given.found and given.text == "Sort the matrix that the caller names and tell how it went."
    texts = {d.id: d.text for d in load_documents(paths.CORPUS, "test")}
    first = given.citations[0]
    assert texts[first.source][first.start : first.end] == first.quote
    assert answer("Where is work.matrixs.sort_matrix defined?", index).text == "work.matrixs"
    nothing = answer("How do I bake sourdough bread?", index)
    assert (nothing.text, nothing.found, nothing.citations) == (NOT_FOUND, False, [])
    with pytest.raises(UserError, match="the question is empty"):
        answer("  ", index)


def test_an_index_of_another_encoder_is_refused(project: Path, tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "index") as folder:
        SearchIndex.load(paths.INDEX, load_encoder(paths.ENCODER, paths.MODEL, paths.TOKENIZER)[0]).save(folder)
        stranger = lineage.Artifact(tmp_path, "encoder", "0" * 64, {})
        lineage.seal(folder, "index", [lineage.open_artifact(paths.CORPUS, "corpus"), stranger], tmp_path / "index")
    with pytest.raises(UserError, match="belongs to encoder 000000000000"):
        open_index(tmp_path / "index")


def test_the_evaluation_scores_every_item_and_its_rows_are_enough(project: Path, tmp_path: Path) -> None:
    evaluation = rag_evaluation(make_params())
    batches = evaluation.batches()
    rows = [row for batch in batches for row in evaluation.run(batch)]
    assert len(rows) == sum(map(len, batches))
    assert len({(row["suite"], row["id"]) for row in rows}) == len(rows)
    rows = json.loads(json.dumps(rows))
    report = evaluation.report(rows, tmp_path)
    again = evaluation.report(list(reversed(rows)), tmp_path / "again")
    assert report.metrics == again.metrics == json.loads(json.dumps(report.metrics, allow_nan=False))
    assert [a.read_bytes() for a in report.figures] == [b.read_bytes() for b in again.figures]
    assert report.metrics["retrieval_names_removed"]["queries"] == len(VERBS)
    assert report.metrics["recommended_retriever"] == ("hybrid" if report.metrics["hybrid_beats_bm25"] else "bm25")
    assert report.metrics["questions"]["citations_exist"] == 1.0
    assert report.metrics["questions"]["extractive"]["f1"] > 0.5
    assert report.metrics["hand_written"]["questions"] == 2  # the one about a module that is not here is left out
    assert "BM25" in report.markdown and len(report.figures) == 2
    some = evaluation.report([row for row in rows if row["suite"] == "unanswerable"], tmp_path)
    assert set(some.metrics) == {"unanswerable"} and some.figures == []


def test_info_nce_by_hand() -> None:
    similarity = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    none = torch.zeros(2, 2, dtype=torch.bool)
    rows = -(torch.tensor([1.0, 1.0]) - torch.logsumexp(similarity, 1)).mean()
    columns = -(torch.tensor([1.0, 1.0]) - torch.logsumexp(similarity.T, 1)).mean()
    assert info_nce(similarity, 1.0, none).item() == pytest.approx(((rows + columns) / 2).item())
    assert info_nce(similarity, 1.0, ~torch.eye(2, dtype=torch.bool)).item() == 0.0
    same = same_meaning([[1], [1], [2]], [[5], [6], [6]])
    assert same.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    assert schedule(0, 100) == 0.1 and schedule(10, 100) == 1.0 and schedule(99, 100) < 0.01


def test_the_corpus_of_the_fixture_has_objects(project: Path) -> None:
    assert len(load_objects(paths.CORPUS)) == len(VERBS) * len(THINGS)
