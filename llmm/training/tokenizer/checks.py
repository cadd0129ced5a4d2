"""The exit criteria of M8 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml.
"""

import itertools
import math
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping

from llmm.ladder.expect import expect_type
from llmm.training.tokenizer.byte_level import ALPHABET, CHARACTER_OF, RANK_OF_BYTE, spell, unspell
from llmm.training.tokenizer.codec import ByteLevelBPE
from llmm.training.tokenizer.counting import count_words_in_processes
from llmm.training.tokenizer.export import to_tokenizers
from llmm.training.tokenizer.naive import Pair, encode_naive, train_naive
from llmm.training.tokenizer.optimal import greedy_size, optimal_size, size
from llmm.training.tokenizer.peers import merges_of, one_thread, to_tiktoken, train_by_tokenizers
from llmm.training.tokenizer.special_splits import split_special
from llmm.training.tokenizer.streaming import StreamingDecoder
from llmm.training.tokenizer.texts import TRAIN, modules
from llmm.training.tokenizer.ties import TieRule, greatest_bytes, lowest_ids
from llmm.training.tokenizer.training import train_merges
from llmm.training.tokenizer.unigram import edges, expected_counts, forward, longest_token, sample, viterbi
from llmm.training.tokenizer.unigram_training import em_round, losses, seed_vocabulary, train_unigram
from llmm.training.tokenizer.words import PIECE, WORDS, count_words, pieces, split_words

SPECIAL = ("<|end|>", "<|user|>", "<|end|>s")
ALPHABETS = ("ab", "a", "abc ", "etaoin shrdlu", "aé日🙂 \n", "01 .,\n\t")


# --- words ------------------------------------------------------------------------------------------------------------


def words_faults() -> int:
    """Texts whose words are not those of `tokenizers`, or that their pieces have other words than the whole."""
    from tokenizers import Regex, pre_tokenizers

    library = pre_tokenizers.Split(Regex(WORDS), "isolated")
    later = ["\u0558", "\u088f", "\U00010940", "\U00016ec0", "\U00033000", "\U00011de0"]  # after Unicode 16
    rng = random.Random(0)
    signs = [*"aZ09 _.-\n\r\t\v\x1c\x85\xa0\u2028'é日٣½🙂\u0300", *later]
    texts = ["".join(rng.choices(signs, k=rng.randint(0, 60))) for _ in range(300)]
    texts += ["".join(rng.choices("ab_1 .\n\r\t\v\f", k=50)) for _ in range(200)]
    faults = 0
    for text in texts:
        wanted = [word for word, _ in library.pre_tokenize_str(text)]
        faults += split_words(text) != wanted
        parts = list(pieces(text, 7))
        faults += "".join(parts) != text or [word for part in parts for word in split_words(part)] != wanted
        faults += count_words([text, text]) != Counter(wanted + wanted)
    return faults


def counting_faults() -> int:
    """Corpora whose words, counted by two and by three processes, are not those of one in number and in order."""
    rng = random.Random(0)
    short = ["".join(rng.choices("ab \n", k=rng.randint(0, 6))) for _ in range(500)]
    long = "".join(rng.choices([*"abc1. \n\té日", "   ", "\r\n"], k=3 * PIECE))  # one document, cut inside
    faults = 0
    for texts in (short, ["", long, ""]):
        wanted = list(count_words(texts).items())
        faults += sum(list(count_words_in_processes(texts, n).items()) != wanted for n in (2, 3))
    return faults


def alphabet_faults() -> int:
    """Bytes whose place or spelling is not that of `tokenizers`, and spellings that do not come back."""
    from tokenizers import pre_tokenizers

    library = sorted(pre_tokenizers.ByteLevel.alphabet())
    faults = sum(spell(byte) != character for byte, character in zip(ALPHABET, library, strict=True))
    faults += sum(ALPHABET[RANK_OF_BYTE[byte]] != bytes([byte]) for byte in range(256))
    faults += sum(unspell(CHARACTER_OF[byte]) != bytes([byte]) for byte in range(256))
    return faults + (spell(b" the\n") != "ĠtheĊ")


# --- training ---------------------------------------------------------------------------------------------------------


def merges_against_tokenizers() -> int:
    """Of 40 random corpora and one of Python's modules: those whose merges are not those of `tokenizers`."""
    faults = 0
    with one_thread():
        for texts, n_merges in [*_corpora(40), (modules(("argparse", "typing")), 1500)]:
            faults += _ours(texts, n_merges, lowest_ids) != merges_of(train_by_tokenizers(texts, 256 + n_merges))
    return faults


def merges_against_naive() -> int:
    """Of 60 random corpora under both tie rules: those whose merges differ from the naive trainer's."""
    faults = 0
    for texts, n_merges in _corpora(30):
        for ties in (lowest_ids, greatest_bytes):
            wanted = train_naive(count_words(texts), min(n_merges, 40), ties)
            faults += _ours(texts, min(n_merges, 40), ties) != wanted
    return faults


def tie_faults() -> int:
    """Ties that are broken otherwise than by hand: lowest ids in the remapped order, greatest bytes."""
    words = {"ab": 1, "cd": 1, " !": 1, "zz": 1, "z": 5}
    first = [_pairs(words, ties)[0] for ties in (lowest_ids, greatest_bytes)]
    faults = int(first[0] != (b"a", b"b")) + int(first[1] != (b"z", b"z"))  # the space is the 221st byte, after "a"
    # the longer one of two that begin alike is the greater: (xx, b) before (x, c)
    chain = _pairs({"xx": 9, "xxb": 1, "xc": 1}, greatest_bytes)
    faults += int(chain != [(b"x", b"x"), (b"xx", b"b"), (b"x", b"c")])
    # and a new token has the highest id: (x, c) before (xx, b)
    chain = _pairs({"xx": 9, "xxb": 1, "xc": 1}, lowest_ids)
    return faults + int(chain != [(b"x", b"x"), (b"x", b"c"), (b"xx", b"b")])


def count_faults() -> int:
    """Merges whose frequency or number of words differs from a recount of the whole text."""
    faults = 0
    for texts, n_merges in _corpora(20):
        words = {tuple(bytes([b]) for b in word.encode()): n for word, n in count_words(texts).items()}
        for merge in train_merges(count_words(texts), min(n_merges, 40)):
            pairs = {word: Counter(itertools.pairwise(word))[merge.left, merge.right] for word in words}
            faults += merge.frequency != sum(words[word] * n for word, n in pairs.items())
            faults += merge.words != sum(n > 0 for n in pairs.values())
            words = {_joined(word, merge.left, merge.right): n for word, n in words.items()}
    return faults


def tokens_made_twice() -> int:
    """Tokens that two merges made, over 40 random corpora: README 3.2 says that there are none."""
    made = [[left + right for left, right in _ours(texts, n, lowest_ids)] for texts, n in _corpora(40)]
    return sum(len(tokens) - len(set(tokens)) for tokens in made)


def training_memory_ratio() -> float:
    """Memory at the peak of training as a multiple of the text, one document of megabytes."""
    text = "\n".join(modules(_MANY)) * 2
    tracemalloc.start()
    train_merges(count_words([text]), 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / len(text.encode())


def training_ratio() -> float:
    """Seconds of 300 merges of a megabyte beside those of `tokenizers` in one thread, best of three runs in turns."""
    texts = modules(TRAIN)
    ours, theirs = [], []
    with one_thread():
        for _ in range(3):
            ours.append(_seconds(lambda: train_merges(count_words(texts), 300)))
            theirs.append(_seconds(lambda: train_by_tokenizers(texts, 556)))
    return min(ours) / min(theirs)


# --- encoding ---------------------------------------------------------------------------------------------------------


def ids_against_tokenizers() -> int:
    """Texts of any characters and words of any bytes that `tokenizers` gives other ids, special tokens in and out."""
    codec, library = _codec(), to_tokenizers(_codec())
    faults = 0
    for text in _texts(300):
        library.encode_special_tokens = True
        faults += codec.encode(text) != library.encode(text).ids
        library.encode_special_tokens = False
        faults += codec.encode(text, allow_special=True) != library.encode(text).ids
    library.pre_tokenizer = None  # then a text is one word, here of any bytes
    for data in _byte_strings(300):
        faults += codec.encode_bytes(data) != library.encode(spell(data)).ids
    return faults


def ids_against_tiktoken() -> int:
    """The same texts and bytes that tiktoken gives other ids."""
    codec, theirs = _codec(), to_tiktoken(_codec())
    faults = sum(codec.encode(text) != theirs.encode_ordinary(text) for text in _texts(300))
    faults += sum(
        codec.encode(text, allow_special=True) != theirs.encode(text, allowed_special="all") for text in _texts(300)
    )
    return faults + sum(codec.encode_bytes(data) != theirs._encode_single_piece(data) for data in _byte_strings(300))


def ids_against_naive() -> int:
    """Words that the merges, applied one after the other, cut otherwise."""
    codec = _codec()
    faults = 0
    for data in _byte_strings(200):
        cut = [codec.tokens[id] for id in codec.encode_bytes(data)]
        faults += cut != encode_naive(data, codec.merges)
    return faults


def round_trip_faults() -> int:
    """Texts and bytes that do not come back, or that a refused list of merges is taken."""
    codec = _codec()
    faults = sum(codec.decode(codec.encode(text)) != text for text in _texts(200))
    faults += sum(codec.decode(codec.encode(text, allow_special=True)) != text for text in _texts(200))
    faults += sum(codec.decode_bytes(codec.encode_bytes(data)) != data for data in _byte_strings(200))
    for merges in ([(b"ab", b"c")], [(b"a", b"b"), (b"a", b"b")]):
        try:
            ByteLevelBPE(merges)
            faults += 1
        except ValueError:
            pass
    return faults


def special_faults() -> int:
    """Wrong cuts at special tokens: names inside names, at the ends, side by side, or with a sign of a pattern."""
    cases = {
        "a<|end|>b": [("a", False), ("<|end|>", True), ("b", False)],
        "<|end|>s<|end|>": [("<|end|>s", True), ("<|end|>", True)],
        "<|end": [("<|end", False)],
        "": [],
    }
    faults = sum(list(split_special(text, SPECIAL)) != wanted for text, wanted in cases.items())
    faults += list(split_special("a.b+", ("+", "."))) != [("a", False), (".", True), ("b", False), ("+", True)]
    return faults + (list(split_special("x<|end|>", ())) != [("x<|end|>", False)])


def long_word_operations_growth() -> float:
    """Look-ups of pairs in a word of 40,000 bytes over those in one of 20,000: 2 if linear, 4 if quadratic."""
    found = []
    for n in (20_000, 40_000):
        codec = _codec()
        counted = _CountedLookups(codec._words.ranks)
        codec._words.ranks = counted
        codec.encode_bytes(bytes(random.Random(0).choices(b"etaoin", k=n)))
        found.append(counted.lookups)
    return found[1] / max(found[0], 1)


def cache_faults() -> int:
    """Words that a full cache gives other ids, and words that it holds beyond its size."""
    codec, small = _codec(), _codec()
    small._words.size = 3
    faults = sum(codec.encode(text) != small.encode(text) for text in _texts(50))
    return faults + max(0, len(small._words) - 3)


def streaming_faults() -> int:
    """Streams that, joined, are not the whole text, that hold back more than they must or break a character."""
    tokens = [bytes([byte]) for byte in range(256)]
    faults = 0
    for data in [*(text.encode() for text in _texts(150)), *_byte_strings(300)]:
        decoder = StreamingDecoder(tokens)
        said = [decoder.push(byte) for byte in data]
        faults += "".join(said) + decoder.finish() != data.decode(errors="replace")
    for text in _texts(150):
        decoder = StreamingDecoder(tokens)
        for character in text:
            said = [decoder.push(byte) for byte in character.encode()]
            faults += said != [""] * (len(said) - 1) + [character]
    return faults


# --- Unigram ----------------------------------------------------------------------------------------------------------


def unigram_error() -> float:
    """Viterbi, summed probability and expected counts against all cuts of a word, one by one: largest difference."""
    worst = 0.0
    for seed in range(20):
        word, log_probs = _lattice(seed)
        cuts = {cut: math.exp(sum(log_probs[token] for token in cut)) for cut in _cuts(word, log_probs)}
        total = sum(cuts.values())
        counts, log_total = expected_counts(word, log_probs, longest_token(log_probs))
        best, log_best = viterbi(word, log_probs)
        worst = max(worst, abs(log_total - math.log(total)), abs(log_best - math.log(max(cuts.values()))))
        worst = max(worst, abs(math.exp(log_best) - cuts[tuple(best)]))
        worst = max(worst, abs(forward(edges(word, log_probs, len(word)))[-1] - math.log(total)))
        for token in log_probs:
            wanted = sum(share * cut.count(token) for cut, share in cuts.items()) / total
            worst = max(worst, abs(counts.get(token, 0.0) - wanted))
    return max(worst, _em_error())


def _em_error() -> float:
    """A round of EM on two words, one of them three times, against its expectation by all cuts: largest difference."""
    words, log_probs = {b"aab": 3, b"bab": 1}, _lattice(1)[1]
    wanted: Counter[bytes] = Counter()
    for word, n in words.items():
        cuts = {cut: math.exp(sum(log_probs[token] for token in cut)) for cut in _cuts(word, log_probs)}
        for cut, share in cuts.items():
            for token in cut:
                wanted[token] += n * share / sum(cuts.values())  # type: ignore[assignment]
    found, _ = em_round(words, log_probs)
    return max(abs(math.exp(found[token]) - n / wanted.total()) for token, n in wanted.items())


def unigram_against_tokenizers() -> int:
    """Words that the Unigram model of `tokenizers` cuts otherwise."""
    from tokenizers import Tokenizer, models

    log_probs = train_unigram(_some_words(), 330, 600)
    tokens = list(log_probs)
    library = Tokenizer(models.Unigram([(spell(token), log_probs[token]) for token in tokens], None, False))
    faults = 0
    for word in [*list(_some_words())[:300], *(data for data in _byte_strings(100) if data)]:
        cut = [tokens[id] for id in library.encode(spell(word)).ids]
        ours, score = viterbi(word, log_probs)
        theirs = sum(log_probs[token] for token in cut)
        faults += ours != cut and abs(score - theirs) > 1e-9  # of equally probable cuts either is right
    return faults


def em_falls() -> float:
    """Largest fall of the log-likelihood from one round of EM to the next, relative to it: 0 if it never falls."""
    words = _some_words()
    log_probs = seed_vocabulary(words, 300)
    found = []
    for _ in range(5):
        log_probs, likelihood = em_round(words, log_probs)
        found.append(likelihood)
    gains = [after - before for before, after in itertools.pairwise(found)]
    return max(0.0, -min(gains) / abs(found[0])) if found[-1] > found[0] else 1.0


def pruning_faults() -> int:
    """Vocabularies of a wrong size, without a byte, not summing to one, and losses unlike those worked out by hand."""
    trained = train_unigram(_some_words(), 300, 500)
    faults = int(len(trained) != 300) + sum(bytes([byte]) not in trained for byte in range(256))
    faults += int(abs(sum(map(math.exp, trained.values())) - 1) > 1e-9)
    log_probs = {b"a": math.log(0.3), b"b": math.log(0.2), b"ab": math.log(0.4), b"aba": math.log(0.1)}
    found = losses({b"ab": 7, b"b": 2}, log_probs)
    faults += int(abs(found[b"ab"] - 7 * math.log(0.4 / 0.06)) > 1e-9) + int(found[b"aba"] != 0)
    try:
        train_unigram({b"ab": 1}, 255, 10)
        faults += 1
    except ValueError:
        pass
    return faults


def sampling_error() -> float:
    """Shares of 4,000 drawn cuts against their probabilities at temperatures 1 and 2: largest difference."""
    worst = 0.0
    for temperature in (1.0, 2.0):
        word, log_probs = b"aabab", _lattice(1)[1]
        rng = random.Random(0)
        drawn = Counter(tuple(sample(word, log_probs, rng, temperature)) for _ in range(4000))
        weights = {c: math.exp(sum(log_probs[t] for t in c) / temperature) for c in _cuts(word, log_probs)}
        total = sum(weights.values())
        worst = max(worst, *(abs(drawn[cut] / 4000 - weight / total) for cut, weight in weights.items()))
    return worst


# --- greedy -----------------------------------------------------------------------------------------------------------


def greedy_faults() -> int:
    """Tiny texts in which greedy beats the best, and the example of README 1.2 if it comes out otherwise."""
    faults = 0
    for seed in range(8):
        rng = random.Random(seed)
        words = {tuple(rng.choices(range(3), k=rng.randint(2, 6))): rng.randint(1, 4) for _ in range(4)}
        faults += optimal_size(words, 2) > greedy_size(words, 2)
    words = {tuple(b"cad"): 3, tuple(b"baaa"): 2}
    return faults + ((size(words), greedy_size(words, 2), optimal_size(words, 2)) != (17, 12, 11))


# --- shared -----------------------------------------------------------------------------------------------------------

_MANY = (
    "argparse", "calendar", "configparser", "csv", "difflib", "doctest", "ftplib", "inspect",
    "locale", "mailbox", "pickle", "pydoc", "tarfile", "typing", "zipfile",
)  # fmt: skip


class _CountedLookups(dict[tuple[int, int], int]):
    """Ranks that count how often they are asked."""

    lookups = 0

    def __contains__(self, pair: object) -> bool:
        self.lookups += 1
        return super().__contains__(pair)

    def get(self, pair, default=None):  # type: ignore[no-untyped-def]
        self.lookups += 1
        return super().get(pair, default)


def _pairs(words: Mapping[str, int], ties: TieRule) -> list[Pair]:
    return [(merge.left, merge.right) for merge in expect_type("train_merges", train_merges(words, 3, ties), list)]


def _ours(texts: list[str], n_merges: int, ties: TieRule) -> list[Pair]:
    return [(merge.left, merge.right) for merge in train_merges(count_words(texts), n_merges, ties)]


def _corpora(n: int) -> Iterator[tuple[list[str], int]]:
    """Small random texts with many ties and runs, and a number of merges."""
    for seed in range(n):
        rng = random.Random(seed)
        signs = ALPHABETS[seed % len(ALPHABETS)]
        yield (
            ["".join(rng.choices(signs, k=rng.randint(1, 300))) for _ in range(rng.randint(1, 4))],
            rng.randint(1, 120),
        )


def _joined(word: tuple[bytes, ...], left: bytes, right: bytes) -> tuple[bytes, ...]:
    parts, at = [], 0
    while at < len(word):
        found = word[at : at + 2] == (left, right)
        parts.append(left + right if found else word[at])
        at += 1 + found
    return tuple(parts)


def _codec() -> ByteLevelBPE:
    texts = [*modules(("calendar",)), "aé日🙂 été 日本 \n\n    🙂🙂 aaaaaaa  ababab" * 20]
    return ByteLevelBPE(_ours(texts, 500, lowest_ids), SPECIAL)


def _texts(n: int) -> Iterator[str]:
    rng = random.Random(1)
    common = [*"ae tisn.\n (_):=09", "    ", "é", "日本", "🙂", "\r\n", "aaaa", "self", "return", *SPECIAL]
    for _ in range(n):
        rare = [chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])) for _ in range(3)]
        yield "".join(rng.choices([*common, *rare], k=rng.randint(0, 40)))


def _byte_strings(n: int) -> Iterator[bytes]:
    rng = random.Random(2)
    for index in range(n):
        signs = (bytes(range(256)), b"ab", b" etaoin", "é日🙂".encode() + b"\xf0\xc3\x80a")[index % 4]
        yield bytes(rng.choices(signs, k=rng.randint(1, 50)))


def _some_words() -> dict[bytes, int]:
    return {word.encode(): n for word, n in count_words(modules(("csv",))).items()}


def _lattice(seed: int) -> tuple[bytes, dict[bytes, float]]:
    rng = random.Random(seed)
    tokens = [b"a", b"b", b"ab", b"ba", b"aa", b"aab", b"bab", b"abab"]
    weights = {token: rng.random() + 0.05 for token in tokens}
    total = sum(weights.values())
    return bytes(rng.choices(b"ab", k=8)), {token: math.log(weight / total) for token, weight in weights.items()}


def _cuts(word: bytes, log_probs: Mapping[bytes, float]) -> list[tuple[bytes, ...]]:
    if not word:
        return [()]
    heads = [word[:end] for end in range(1, len(word) + 1) if word[:end] in log_probs]
    return [(head, *rest) for head in heads for rest in _cuts(word[len(head) :], log_probs)]


def _seconds(work) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
