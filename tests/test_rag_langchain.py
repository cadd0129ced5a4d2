"""Our store behind langchain-core's interface."""

from pathlib import Path

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index

from llmm.training.rag.langchain import FaissStore

EMBEDDINGS = DeterministicFakeEmbedding(size=16)


def store_of(*texts: str) -> FaissStore:
    metadatas = [{"length": len(text), "even": len(text) % 2 == 0} for text in texts]
    return FaissStore.from_texts(list(texts), EMBEDDINGS, metadatas, ids=[f"id-{text}" for text in texts])


def test_a_text_finds_itself_with_its_id_and_metadata() -> None:
    store = store_of("one", "three", "four")
    (found, score), *_ = store.similarity_search_with_score("three", k=2)
    assert (found.id, found.page_content, found.metadata) == ("id-three", "three", {"length": 5, "even": False})
    assert score == pytest.approx(1, abs=1e-6)
    ((_, relevance),) = store.similarity_search_with_relevance_scores("three", k=1)
    assert relevance == pytest.approx(1, abs=1e-6)


def test_filters_come_before_the_search() -> None:
    store = store_of("one", "two", "four", "seven", "eleven")
    for chosen in ({"even": True}, lambda document: document.metadata["even"]):
        found = store.similarity_search("one", k=2, filter=chosen)
        assert sorted(document.page_content for document in found) == ["eleven", "four"]
    assert store.similarity_search("one", k=2, filter={"no such key": 1}) == []


def test_adding_deleting_and_looking_up_by_id() -> None:
    store = store_of("one", "two")
    assert store.add_texts(["uno"], [{"language": "es"}], ids=["id-one"]) == ["id-one"]
    assert [document.page_content for document in store.get_by_ids(["id-two", "nowhere", "id-one"])] == ["two", "uno"]
    assert store.delete(["id-two", "nowhere"]) and store.get_by_ids(["id-two"]) == []
    first, second = store.add_texts(["same", "same"])
    assert first == second and len(store.get_by_ids([first])) == 1
    with pytest.raises(ValueError, match="1 texts, 2 metadatas"):
        store.add_texts(["a"], [{}, {}])
    assert store.delete() and store.similarity_search("uno") == []


def test_what_is_returned_can_be_changed_without_changing_the_store() -> None:
    store = store_of("one")
    store.similarity_search("one", k=1)[0].metadata["length"] = 99
    store.get_by_ids(["id-one"])[0].metadata.clear()
    assert store.similarity_search("one", k=1)[0].metadata["length"] == 3


def test_retrievers_and_diverse_search() -> None:
    store = store_of("one", "two", "three", "four", "five")
    assert store.as_retriever(search_kwargs={"k": 1}).invoke("four")[0].page_content == "four"
    diverse = store.as_retriever(search_type="mmr", search_kwargs={"k": 3, "fetch_k": 5}).invoke("four")
    assert diverse[0].page_content == "four" and len({document.id for document in diverse}) == 3


def test_an_empty_store_finds_nothing() -> None:
    store = FaissStore(EMBEDDINGS)
    assert store.similarity_search("x") == [] and store.max_marginal_relevance_search("x") == []
    assert store.add_texts([]) == [] and store.delete(["x"])


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    store = store_of("one", "two", "three")
    store.delete(["id-two"])
    store.save_local(tmp_path / "a")
    loaded = FaissStore.load_local(tmp_path / "a", EMBEDDINGS)
    assert loaded.similarity_search_with_score("one", k=5) == store.similarity_search_with_score("one", k=5)
    assert not list(tmp_path.rglob("*.pkl"))


def test_langchains_indexing_removes_a_vanished_source() -> None:
    store, manager = FaissStore(EMBEDDINGS), InMemoryRecordManager("test")
    manager.create_schema()

    def sync(*texts: str) -> dict[str, int]:
        documents = [Document(page_content=text, metadata={"source": text}) for text in texts]
        result = index(documents, manager, store, cleanup="full", source_id_key="source", key_encoder="sha256")
        return {key: count for key, count in result.items() if count}

    assert sync("one", "two") == {"num_added": 2}
    assert sync("one", "two") == {"num_skipped": 2}
    assert sync("two", "three") == {"num_added": 1, "num_skipped": 1, "num_deleted": 1}
    found = store.similarity_search("one", k=10)
    assert sorted(document.page_content for document in found) == ["three", "two"]


def test_vectors_of_any_length_become_cosines() -> None:
    class Long(DeterministicFakeEmbedding):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return (np.array(super().embed_documents(texts)) * 7).tolist()

    store = FaissStore.from_texts(["one"], Long(size=16))
    assert store.similarity_search_with_score("one")[0][1] == pytest.approx(1, abs=1e-6)
