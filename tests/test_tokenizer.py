"""M8: every derived formula against an independent source, merges and ids against the libraries, and how they fail."""

import itertools
import math
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest
import regex
from derivations import assert_derivations_are_tested
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.training.tokenizer import checks, counting
from llmm.training.tokenizer.bench import helpers_memory, in_turns, long_word_growth
from llmm.training.tokenizer.bpe import train_codec
from llmm.training.tokenizer.codec import ByteLevelBPE
from llmm.training.tokenizer.counting import SHARE, count_words_in_processes, processes_for
from llmm.training.tokenizer.export import to_ranks, to_tokenizers, write_ranks
from llmm.training.tokenizer.naive import encode_naive, train_naive
from llmm.training.tokenizer.ngram import witten_bell_nats
from llmm.training.tokenizer.optimal import greedy_size, optimal_size, size
from llmm.training.tokenizer.peers import merges_of, one_thread, to_tiktoken, train_by_tokenizers
from llmm.training.tokenizer.special import SPECIAL_TOKENS
from llmm.training.tokenizer.streaming import StreamingDecoder, unfinished
from llmm.training.tokenizer.texts import TRAIN, modules
from llmm.training.tokenizer.ties import greatest_bytes, lowest_ids
from llmm.training.tokenizer.training import train_merges
from llmm.training.tokenizer.unigram import expected_counts, longest_token, sample, viterbi
from llmm.training.tokenizer.unigram_training import em_round, losses, seed_vocabulary
from llmm.training.tokenizer.words import count_words, pieces, split_words

README = Path("llmm/training/tokenizer/README.md")
SHAKESPEARE = Path("../shared/data/tinyshakespeare")
GPT2_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SIGNS = st.sampled_from([*"ab \n_1", "é", "日", "🙂", "  ", "\r\n", "<|end|>", "\u0558", "\x1c", "\x85"])
ANY_TEXT = st.lists(st.one_of(st.text(), SIGNS), max_size=12).map("".join)
RUNS = st.lists(st.text("ab ", max_size=40), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def codec():
    return train_codec([*modules(("calendar",)), "été 日本 🙂🙂 aaaaaaa  ababab\n\n    " * 20], 800)


@pytest.fixture(scope="module")
def library(codec):
    tokenizer = to_tokenizers(codec)
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def tiktoken_encoding(codec):
    return to_tiktoken(codec)


def pairs(merges):
    return [(merge.left, merge.right) for merge in merges]


# --- words ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(ANY_TEXT, st.integers(1, 20))
def test_pieces_have_the_words_of_the_whole(text, length):
    parts = list(pieces(text, length))
    assert "".join(parts) == text == "".join(split_words(text))
    assert [word for part in parts for word in split_words(part)] == split_words(text)


def test_words_are_those_of_the_library():
    assert checks.words_faults() == 0


def test_every_character_is_of_the_kind_that_the_library_takes_it_for(library):
    # between two letters a letter joins them, a number stands alone, a sign begins the second word
    for first in range(0, 0x110000, 4096):
        characters = [chr(c) for c in range(first, first + 4096) if not 0xD800 <= c < 0xE000]
        text = "".join(f"\na{c}b" for c in characters)
        assert split_words(text) == [word for word, _ in library_words(text)], hex(first)


def library_words(text):
    from tokenizers import Regex, pre_tokenizers

    from llmm.training.tokenizer.words import WORDS

    return pre_tokenizers.Split(Regex(WORDS), "isolated").pre_tokenize_str(text)


def test_half_a_surrogate_pair_is_no_text(codec):
    with pytest.raises(UnicodeEncodeError):
        codec.encode("\ud800")


# --- 1: greedy --------------------------------------------------------------------------------------------------------


def test_greedy_is_not_always_the_best():
    words = {tuple(b"cad"): 3, tuple(b"baaa"): 2}
    assert (size(words), greedy_size(words, 2), optimal_size(words, 2)) == (17, 12, 11)


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text("abc", min_size=2, max_size=5), st.integers(1, 4), min_size=1, max_size=3))
def test_no_sequence_of_merges_beats_the_best(words):
    counted = {tuple(word.encode()): n for word, n in words.items()}
    assert optimal_size(counted, 2) <= greedy_size(counted, 2) <= size(counted)


@given(st.lists(st.text("abc", min_size=2, max_size=8), min_size=1, max_size=4))
def test_a_merge_saves_one_symbol_for_each_occurrence(words):
    counted = Counter(words)
    merge = next(iter(train_merges(counted, 1)), None)
    before = {tuple(word.encode()): n for word, n in counted.items()}
    if merge and merge.left != merge.right:
        assert size(before) - greedy_size(before, 1) == merge.frequency


# --- counting in several processes ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=8)
@given(st.lists(st.tuples(st.text("ab1. \n\té日", max_size=12), st.sampled_from([0, 1, 20_000])), max_size=5))
def test_processes_count_what_one_counts(parts):
    texts = [text * n for text, n in parts]
    assert list(count_words_in_processes(texts, 2).items()) == list(count_words(texts).items())


def test_processes_count_the_same_in_the_same_order():
    assert checks.counting_faults() == 0
    assert count_words_in_processes([], 3) == count_words_in_processes(["", ""], 2) == {}


def test_others_count_a_share_and_where_they_fail_this_process_counts_all(monkeypatch):
    texts = ["one two ", "two three "] * 3
    started = []

    def start(command, **keywords):
        started.append(command)
        return Popen(commands.pop(0) or command, **keywords)

    monkeypatch.setattr(counting.subprocess, "Popen", start)
    here = []
    monkeypatch.setattr(counting, "count_words", lambda parts: here.append(list(parts)) or count_words(here[-1]))
    commands = [None, None]
    assert count_words_in_processes(texts, 3) == count_words(texts)
    assert here == [texts[4:]], "this process counts the last share only"
    commands = [None, [sys.executable, "-c", "raise SystemExit(1)"]]
    assert count_words_in_processes(texts, 3) == count_words(texts)
    assert here[-1] == texts
    commands = [["/no/such/program"]]
    assert count_words_in_processes(texts, 2) == count_words(texts)
    assert len(started) == 5
    assert here[-1] == texts


def test_small_texts_and_single_cores_start_no_process(monkeypatch):
    monkeypatch.setattr(counting, "usable_cores", lambda: 4)
    assert processes_for(["a" * (2 * SHARE - 1)]) == processes_for([]) == 1
    assert processes_for(["a" * SHARE] * 2) == 2
    assert processes_for(["a"] * (9 * SHARE)) == 4
    monkeypatch.setattr(counting, "usable_cores", lambda: 1)
    assert processes_for(["a" * SHARE] * 9) == 1


# --- 2: exact counts --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(RUNS, st.sampled_from([lowest_ids, greatest_bytes]))
def test_incremental_training_is_the_naive_one(texts, ties):
    words = count_words(texts)
    assert pairs(train_merges(words, 30, ties)) == train_naive(words, 30, ties)


def test_reported_counts_are_those_of_a_recount():
    assert checks.count_faults() == 0


def test_order_of_the_words_does_not_matter():
    words = count_words(modules(("csv",)))
    shuffled = dict(random.Random(0).sample(list(words.items()), len(words)))
    assert train_merges(words, 300) == train_merges(shuffled, 300)


def test_counts_never_rise():
    counts = [merge.frequency for merge in train_merges(count_words(modules(("csv",))), 500)]
    assert all(a >= b for a, b in itertools.pairwise(counts))


def test_four_hundred_random_corpora_have_the_merges_of_the_library():
    with one_thread():
        for texts, n_merges in checks._corpora(400):
            ours = pairs(train_merges(count_words(texts), n_merges))
            assert ours == merges_of(train_by_tokenizers(texts, 256 + n_merges)), texts


@pytest.mark.slow
def test_ten_thousand_merges_of_eight_megabytes_are_those_of_the_library():
    from llmm.corpus.stdlib import stdlib_modules

    texts, total = [], 0
    for _, path in stdlib_modules():
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        total += len(texts[-1].encode())
        if total >= 8_000_000:
            break
    assert total >= 8_000_000
    assert pairs(train_merges(count_words(texts), 10_000)) == merges_of(train_by_tokenizers(texts, 10_256))


def test_tie_rules_by_hand():
    assert checks.tie_faults() == 0
    assert pairs(train_merges({"ab": 1, "cd": 1}, 1)) == [(b"a", b"b")]
    assert pairs(train_merges({"ab": 1, "cd": 1}, 1, greatest_bytes)) == [(b"c", b"d")]
    # space and "!" are neighbours as bytes; spelled, the space is Ġ and comes far behind
    assert pairs(train_merges({" a": 1, "!a": 1}, 1)) == [(b"!", b"a")]


@pytest.mark.skipif(not SHAKESPEARE.is_dir(), reason="tinyshakespeare is not on this machine")
def test_tie_rules_part_at_merge_96_on_shakespeare():
    text = (SHAKESPEARE / "input.txt").read_text()
    words = Counter(regex.findall(GPT2_WORDS, text))
    a, b = pairs(train_merges(words, 150)), pairs(train_merges(words, 150, greatest_bytes))
    assert next(index for index, (x, y) in enumerate(zip(a, b, strict=True)) if x != y) == 96
    assert (a[96], b[96]) == ((b"T", b"he"), (b"a", b"s"))


def test_tie_rules_part_on_a_module_too():
    words = count_words(modules(("csv",)))
    a, b = pairs(train_merges(words, 300)), pairs(train_merges(words, 300, greatest_bytes))
    assert a[:10] == b[:10]
    assert a != b


def test_too_few_words_give_fewer_merges():
    assert train_merges({"ab": 3}, 10) == [(b"a", b"b", 3, 1)]
    assert train_merges({}, 10) == []
    assert train_merges({"ab": 3}, -5) == []


def test_memory_is_at_most_three_times_the_text():
    assert checks.training_memory_ratio() <= 3


def test_memory_of_the_processes_that_count_is_seen():
    block = [sys.executable, "-c", "data = b'x' * 50_000_000; import time; time.sleep(2)"]
    others = helpers_memory(lambda: time.sleep(0.1))  # what other tests have left running
    assert 50_000_000 < helpers_memory(lambda: subprocess.run(block, check=True)) - others < 80_000_000


# --- 3: encoding ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(text=ANY_TEXT)
def test_ids_are_those_of_both_libraries_for_any_text(codec, library, tiktoken_encoding, text):
    ids = codec.encode(text)
    assert ids == library.encode(text).ids
    assert ids == tiktoken_encoding.encode_ordinary(text)
    assert codec.decode(ids) == text


@settings(deadline=None, max_examples=300)
@given(data=st.one_of(st.binary(min_size=1, max_size=60), st.text("ab", min_size=1, max_size=60).map(str.encode)))
def test_ids_are_those_of_tiktoken_and_of_the_definition_for_any_bytes(codec, tiktoken_encoding, data):
    ids = codec.encode_bytes(data)
    assert ids == tiktoken_encoding._encode_single_piece(data)
    assert [codec.tokens[id] for id in ids] == encode_naive(data, codec.merges)
    assert codec.decode_bytes(ids) == data


@settings(deadline=None, max_examples=100)
@given(texts=RUNS)
def test_a_token_has_one_derivation(texts):
    merges = pairs(train_merges(count_words(texts), 60))
    assert len({left + right for left, right in merges}) == len(merges)


@settings(deadline=None, max_examples=60)
@given(texts=RUNS, data=st.text("ab ", max_size=40))
def test_joining_by_token_is_joining_by_merge(texts, data):
    small = ByteLevelBPE(pairs(train_merges(count_words(texts), 60)))
    ranks, tokens = to_ranks(small), [bytes([byte]) for byte in data.encode()]
    while found := [(ranks[a + b], at) for at, (a, b) in enumerate(itertools.pairwise(tokens)) if a + b in ranks]:
        at = min(found)[1]
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
    assert tokens == [small.tokens[id] for id in small.encode_bytes(data.encode())]


def test_a_long_word_takes_linear_time(codec):
    assert checks.long_word_operations_growth() <= 2.3
    assert long_word_growth(codec) <= 4  # a clock in company; quadratic would be four and more


def test_impossible_merges_are_refused():
    with pytest.raises(ValueError, match="comes before one of its parts"):
        ByteLevelBPE([(b"ab", b"c")])
    with pytest.raises(ValueError, match="there already"):
        ByteLevelBPE([(b"a", b"b"), (b"a", b"b")])


def test_special_tokens_only_where_they_are_allowed(codec):
    text = "a<|end|>b"
    assert codec.encode(text, allow_special=True)[1] == SPECIAL_TOKENS.index("<|end|>")
    assert min(codec.encode(text)) >= len(SPECIAL_TOKENS)
    assert codec.decode(codec.encode(text, allow_special=True)) == codec.decode(codec.encode(text)) == text
    assert checks.special_faults() == 0


def test_a_full_cache_starts_again():
    assert checks.cache_faults() == 0


# --- streaming and export ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)), st.randoms())
def test_a_stream_says_what_the_whole_says(data, rng):
    tokens = []
    while data[len(b"".join(tokens)) :]:
        start = len(b"".join(tokens))
        tokens.append(data[start : start + rng.randint(1, 4)])
    decoder = StreamingDecoder(tokens)
    said = [decoder.push(id) for id in range(len(tokens))]
    assert "".join(said) + decoder.finish() == data.decode(errors="replace")


@given(st.characters(exclude_categories=["Cs"]))
def test_no_character_is_broken(character):
    data = character.encode()
    assert [unfinished(data[:length]) for length in range(1, len(data) + 1)] == [*range(1, len(data)), 0]


def test_ranks_are_written_as_tiktoken_reads_them(codec, tmp_path):
    from tiktoken.load import load_tiktoken_bpe

    write_ranks(codec, tmp_path / "ranks.tiktoken")
    assert load_tiktoken_bpe(str(tmp_path / "ranks.tiktoken")) == to_ranks(codec)


def test_tokenizer_json_is_that_of_the_librarys_own_training():
    texts = modules(("csv", "calendar"))
    ours = to_tokenizers(train_codec(texts, 700))
    assert ours.to_str(pretty=True) == train_by_tokenizers(texts, 700, SPECIAL_TOKENS).to_str(pretty=True)


# --- 4: Unigram -------------------------------------------------------------------------------------------------------


def test_lattice_sums_and_maxima_are_those_of_all_cuts():
    assert checks.unigram_error() <= 1e-10


def test_unigram_cuts_like_the_library():
    assert checks.unigram_against_tokenizers() == 0


def test_em_never_lowers_the_likelihood():
    assert checks.em_falls() <= 1e-12


def test_em_is_at_rest_where_expected_and_given_shares_agree():
    words = {b"ab": 1}
    log_probs = {b"a": math.log(0.25), b"b": math.log(0.25), b"ab": math.log(0.5)}
    # P(a, b) = 1/16 and P(ab) = 1/2: shares 1/9 and 8/9, so one round gives a = b = 1/10, ab = 8/10
    found, likelihood = em_round(words, log_probs)
    assert likelihood == pytest.approx(math.log(9 / 16))
    assert {token: math.exp(value) for token, value in found.items()} == pytest.approx(
        {b"a": 0.1, b"b": 0.1, b"ab": 0.8}
    )


def test_expected_bytes_are_the_bytes_of_the_word():
    log_probs = seed_vocabulary({b"banana": 3, b"ananas": 2}, 30)
    counts, _ = expected_counts(b"banana", log_probs, longest_token(log_probs))
    assert sum(len(token) * n for token, n in counts.items()) == pytest.approx(6)


def test_losses_by_hand_and_pruning():
    assert checks.pruning_faults() == 0
    found = losses({b"ab": 1}, {b"a": math.log(0.3), b"b": math.log(0.3), b"ab": math.log(0.4)})
    assert found == {b"ab": pytest.approx(math.log(0.4) - 2 * math.log(0.3))}


def test_cuts_are_drawn_by_their_probability():
    assert checks.sampling_error() <= 0.03


def test_a_word_without_a_cut_is_refused():
    for cut in (viterbi, lambda word, log_probs: sample(word, log_probs, random.Random(0))):
        with pytest.raises(ValueError, match="some byte is no token"):
            cut(b"ac", {b"a": 0.0})


# --- the experiments' model, the milestone ----------------------------------------------------------------------------


def test_trigrams_give_a_distribution():
    known = np.array([0, 1, 2, 0, 1, 1, 2, 0])
    for history in ([], [0], [0, 1], [2, 2]):
        last = [witten_bell_nats(known, np.array([*history, x]), 4, order=3)[-1] for x in range(4)]
        assert np.exp(np.negative(last)).sum() == pytest.approx(1)


def test_runs_take_turns():
    seen = []
    in_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 2)
    assert seen == ["a", "b", "a", "b"]


def test_texts_of_the_experiments_are_there():
    assert len(modules(TRAIN)) >= 20


def test_every_derivation_names_tests_that_exist():
    assert_derivations_are_tested(README, globals())
