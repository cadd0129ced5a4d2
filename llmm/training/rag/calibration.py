"""The abstention threshold of an index, chosen on validation questions."""

from collections.abc import Sequence

from llmm.training.rag.answer import READ_CHUNKS, calibrate, confidence
from llmm.training.rag.index import SearchIndex
from llmm.training.rag.questions import Question


def calibrated_threshold(
    index: SearchIndex, answerable: Sequence[Question], unanswerable: Sequence[Question]
) -> tuple[float, dict[str, float]]:
    """The threshold, and the shares of both kinds of questions that it treats rightly (1.0 where there are none).

    Searched by words alone: the confidence is about words, and the encoder would cost the stage more than it changes.
    """

    def scores(questions: Sequence[Question]) -> list[float]:
        return [confidence(q.text, index.search(q.text, READ_CHUNKS, "bm25"), index) for q in questions]

    asked, invented = scores(answerable), scores(unanswerable)
    threshold = calibrate(asked, invented)
    return threshold, {
        "answered_of_answerable": sum(score >= threshold for score in asked) / max(len(asked), 1),
        "refused_of_unanswerable": sum(score < threshold for score in invented) / max(len(invented), 1),
    }
