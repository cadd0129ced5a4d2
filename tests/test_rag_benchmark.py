"""Queries, pairs, questions and sections made from a corpus."""

from hypothesis import given
from hypothesis import strategies as st

from llmm.corpus import Document, PythonObject
from llmm.training.rag.benchmark import make_benchmark, remove_names
from llmm.training.rag.contrastive import object_pairs, section_pairs
from llmm.training.rag.questions import exact_match, f1, object_questions, section_questions, unanswerable_questions
from llmm.training.rag.sections import find_sections
from llmm.training.rag.words import split_words

PROSE = Document(
    "guide.md",
    "Guide",
    "# Growing tomatoes at home\n\nTomatoes want sun and water, and the soil must be warm before they are planted out."
    "\n\nWatering the plants\n-------------------\n\nWater the plants in the morning. Wet leaves in the evening bring "
    "fungus and rot.\n",
)


def an_object(
    name: str, split: str, summary: str = "Return the sum of all given numbers.", **changes: str
) -> PythonObject:
    module = "arith.sums"
    fields = {
        "qualname": f"{module}.{name}",
        "kind": "function",
        "module": module,
        "signature": f"{name}(numbers)",
        "summary": summary,
        "doc": summary,
        "source": f"def {name}(numbers):\n    return fold(numbers)",
        "split": split,
    }
    return PythonObject(**{**fields, **changes}, start=0, end=10)


def test_names_are_removed_in_every_form() -> None:
    assert remove_names("Decode a JSON document via JSONDecoder", "json.decoder.JSONDecoder.decode") == "a document via"
    assert remove_names("Read up to n bytes", "io.RawIOBase.read") == "up to n bytes"


@given(text=st.text(max_size=80), name=st.text(alphabet="abcABC_.1", min_size=1, max_size=20))
def test_no_word_of_the_name_is_left(text: str, name: str) -> None:
    left = remove_names(f"{text} {name}", name)
    assert not set(split_words(name)) & set(split_words(left))


def test_the_benchmark_asks_for_one_split_among_all() -> None:
    objects = [
        an_object("add_all", "train"),
        an_object("sum_up", "test", "Sum up every number that the caller hands over."),
        an_object("leaks", "test", "fold(numbers)"),
        an_object("silent", "test", ""),
    ]
    bench = make_benchmark(objects, {}, "test", 10, 0)
    assert list(bench.documents) == ["arith.sums.add_all", "arith.sums.sum_up"]
    (query,) = bench.queries
    assert query.relevant == "arith.sums.sum_up" and bench.held_out == {"arith.sums.sum_up"}
    assert query.of("retrieval_names_removed") == "every number that the caller hands over."
    assert query.of("retrieval_with_names") == "Sum up every number that the caller hands over."
    assert all(query.text not in text for text in bench.documents.values())


def test_pairs_come_from_training_objects_only() -> None:
    (pair,) = object_pairs([an_object("add_all", "train"), an_object("other", "val"), an_object("third", "test")])
    assert "add_all" in pair.document and pair.queries[1] == "Return the sum of all given numbers."


def test_sections_have_exact_offsets_and_leave_their_heading_out() -> None:
    first, second = find_sections(PROSE)
    assert (first.heading, second.heading) == ("Growing tomatoes at home", "Watering the plants")
    for section in (first, second):
        assert PROSE.text[section.start : section.end] == section.body and section.heading not in section.body
    assert second.body.startswith("Water the plants in")


def test_prose_without_headings_gives_paragraphs() -> None:
    text = "The first sentence names it. " + "What follows explains it at some length, again and again. " * 3
    (section,) = find_sections(Document("a.txt", "A", text + "\n\nshort"))
    assert section.heading == "The first sentence names it." and text[section.start : section.end] == section.body


def test_without_objects_the_benchmark_is_made_of_sections() -> None:
    bench = make_benchmark([], {"train": [], "test": [PROSE]}, "test", 10, 0)
    assert [query.text for query in bench.queries] == ["Guide: Growing tomatoes at home", "Guide: Watering the plants"]
    assert all(query.relevant in bench.documents for query in bench.queries)
    assert len(section_pairs([PROSE])) == 2 and len(section_questions([PROSE], 10, 0)) == 2


def test_questions_have_gold_answers_and_invented_names_do_not_exist() -> None:
    objects = [an_object(f"make_thing{i}_quickly", "test") for i in range(6)]
    asked = object_questions(objects, "test", 6, 0)
    assert {question.kind for question in asked} == {"summary", "signature", "module"}
    assert all(question.answer for question in asked) and asked == object_questions(objects, "test", 6, 0)
    invented = [q for q in unanswerable_questions(objects, "test", 20, 0) if q.id.startswith("invented")]
    assert invented and not any(item.qualname in question.text for item in objects for question in invented)


def test_exact_match_and_f1_by_hand() -> None:
    assert exact_match("The Cat!", "a cat") == 1 and exact_match("cat", "dog") == 0
    assert f1("the red cat", "a red dog") == 0.5 and f1("", "cat") == 0 and f1("", "") == 1
