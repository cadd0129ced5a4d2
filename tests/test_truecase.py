"""Messages in capitals are read in small letters, and nothing else is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmm.training.lora.chat import Message, as_read
from llmm.training.lora.truecase import truecased
from tests.tiny_agent import codec


@pytest.mark.parametrize("said, read", [
    ("WHAT IS 5 TIMES 7?", "what is 5 times 7?"),
    ("SHOW ME WHERE method_cache LIVES.", "show me where method_cache lives."),
    ("IF 94 OF MY 605 plates DISAPPEAR, WHAT'S LEFT", "if 94 of my 605 plates disappear, what's left"),
    ("WHERE IS os.PATH, AND EOF()?", "where is os.PATH, and EOF()?"),
    ("WHAT DOES io.StringIO DO", "what does io.StringIO do"),
    ("REVERSE 'ABC DEF' AND \"GHI\" FOR ME", "reverse 'ABC DEF' and \"GHI\" for me"),
    ("I'M LATE", "i'm late"),
])  # fmt: skip
def test_words_of_a_shouted_message_are_made_small(said: str, read: str) -> None:
    assert truecased(said) == read


@pytest.mark.parametrize("said", [
    "what is 5 times 7?", "What does HTTP do?", "Which is newer, TLS or SSL please", "EOF", "'STOP IT NOW' in reverse",
    "SHA256 or MD5_SUM", "",
])  # fmt: skip
def test_other_messages_are_read_as_they_are(said: str) -> None:
    assert truecased(said) == said


@given(st.text(alphabet=st.sampled_from("aBC D'e.\"`_1,?É"), max_size=40))
def test_places_stay_and_reading_again_changes_nothing(said: str) -> None:
    read = truecased(said)
    assert len(read) == len(said) and read.lower() == said.lower()
    assert truecased(read) == read


def test_only_what_a_user_says_is_read_in_small_letters() -> None:
    shouted, quiet = "HOW MANY ARE 3 AND 4", "how many are 3 and 4"
    assert codec().turn(Message("user", shouted)) == codec().turn(Message("user", quiet))
    others = [Message(role, shouted) for role in ("system", "context", "assistant", "tool_call", "tool_result")]
    assert as_read(others) == others
    assert all(codec().turn(one) != codec().turn(Message(one.role, quiet)) for one in others)
