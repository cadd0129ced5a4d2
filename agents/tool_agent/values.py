"""Values for tasks: numbers, names, words, topics. Each is drawn as it stands in the text and as the call has it."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmm.corpus import Document, PythonObject


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


THINGS = _words("""
    apples books coins pens marbles stamps tickets cards shells eggs cookies bottles stickers flowers chairs
    oranges candles bricks photos buttons pencils plates toys cups keys balloons letters lamps screws boxes cakes
    rings
""")
PEOPLE = _words("""
    Anna Ben Carla David Emma Felix Grace Hugo Ines Jan Kate Leo Maria Nina Omar Paula Quentin Rosa Sam Tina Uwe
    Vera Will Xenia Yusuf Zoe Tom Lisa Mark Julia
""")
PLACES = _words("""
    Paris Berlin London Rome Madrid Tokyo Vienna Oslo Lisbon Prague Dublin Athens Cairo Lima Delhi Boston Chicago
    Toronto Sydney Warsaw Seoul Geneva Milan Hamburg
""")
OBJECTS = _words("""
    phone pizza car laptop bicycle jacket guitar sofa watch camera sandwich lamp ring book ticket radio
""")
COMMON_WORDS = _words("""
    banana window garden python level table orange planet mirror yellow river candle summer winter letter kitchen
    market bridge silver pepper rabbit tunnel coffee butter carrot hammer ladder madam radar civic noon racecar
    kayak mississippi alphabet elephant notebook computer keyboard mountain umbrella chocolate sandwich hospital
    diamond balloon tomorrow question language sentence paragraph dictionary station forest island castle dragon
    wizard cloud thunder bottle rocket engine camera pencil school teacher doctor farmer hello world cheese bread
    lemon tiger zebra
""")
_DEED_VERBS_COMMON = _words("open read write close copy move delete parse create rename compress lock split")
_DEED_OBJECTS = (
    "a file", "a zip archive", "a csv file", "a json file", "a text file", "a directory", "a config file",
    "an xml document", "a temporary file", "a tar archive", "a log file", "a sqlite database", "an email message",
    "a binary file",
)  # fmt: skip
_MORE_DEEDS = (
    "sort a list by a key", "parse command line arguments", "run a program and get its output",
    "measure elapsed time", "send an http request", "download a web page", "generate random numbers", "format a date",
    "parse a date string", "add days to a date", "match a regular expression", "count items in a list",
    "merge two dictionaries", "start a thread", "wait for several threads", "share data between processes",
    "encode text as base64", "compute a hash of a file", "convert a string to bytes", "round a decimal number",
    "walk a directory tree", "join two paths", "check if a file exists", "read environment variables",
    "log messages to a file", "write unit tests", "profile my program", "catch an exception", "pickle an object",
    "open a socket", "listen on a port", "send an email", "schedule a function call", "wrap long lines",
    "compare two files", "find the most common elements", "build an argument parser", "read a line from the terminal",
    "hide a password prompt", "iterate over pairs", "cache the results of a function", "make an abstract class",
    "copy an object deeply", "print a data structure nicely", "translate a message", "colour terminal output",
    "read a wave file", "build a calendar", "use a priority queue", "bisect a sorted list", "create a named tuple",
    "time a small snippet", "trace memory allocations", "disassemble bytecode", "inspect the source of a function",
    "run a local web server", "parse a url", "escape html", "handle signals", "define an enum",
    "validate an ip address",
)  # fmt: skip
_MORE_TOPICS = (
    "regular expressions", "zip files", "json", "sockets", "threads", "asyncio", "decorators", "context managers",
    "date and time", "time zones", "random numbers", "file permissions", "temporary files", "logging", "unit tests",
    "command line arguments", "environment variables", "iterators", "generators", "data classes", "enumerations",
    "hashing", "base64", "csv files", "xml parsing", "http servers", "url parsing", "email messages", "subprocesses",
    "signals", "memory usage", "garbage collection", "type hints", "abstract classes", "complex numbers", "fractions",
    "decimals", "heaps", "queues", "string formatting", "text wrapping", "unicode", "locales", "file paths",
    "glob patterns", "pickling", "sqlite databases", "compression", "tar archives", "cookies", "ssl certificates",
    "profiling", "debugging", "bytecode", "syntax trees", "tokenizing", "weak references", "copying objects",
    "event loops", "coroutines", "futures", "locks", "semaphores", "process pools", "named tuples", "counters",
    "ordered dictionaries", "default dictionaries", "statistics", "secrets", "passwords", "terminal control",
    "curses", "tkinter widgets", "turtle graphics", "audio files", "calendars",
)  # fmt: skip
_DEED_VERBS = frozenset(
    _words("""
    return create get set check add remove read write parse convert find compute print open close make build test
    send load save copy compare call format encode decode run start stop wait register list delete extract generate
    insert raise store update use walk yield define display draw handle iterate join match move replace search show
    sort
""")
)
_LONGEST_DEED = 8  # words
_DETERMINERS = frozenset(
    _words("""
    a all an another any each every its several some that the their these this those
""")
)
# which stand between a determiner and a noun, and say only which one is meant
_POINTING = frozenset(
    _words("""
    corresponding current different existing first following given last named new next only other own particular
    previous provided same second specified
""")
)
# function words, and verbs and participles as they stand after a noun in descriptions
_NO_NOUN = frozenset(
    _words("""
    about above across after against also among and appears are around as associated at based be because been before
    being below between both but by called can cannot changed consists contained containing contains could created
    defined defines describing did do does done during either else except exists for formatted found from had
    handles has have having he her his how if implements in includes including incorporating indicating into is it
    itself least like made many matches matching may might more most must neither no nor not of off on once one onto
    or our out over passed per pointing points produced provides providing raises received representing represents
    returned returns runs she should since so stored such supporting supports than them then there they through to
    too toward under unless until up upon used uses using via was we were what when where whether which while who
    whose why will with within without would yet yields you your
""")
)
_UNITS = _words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
""")
_TENS = _words("""
    . . twenty thirty forty fifty sixty seventy eighty ninety
""")
_SYLLABLES = _words("""
    ba be bo ca ce co da de do el en er fa fi fo ga ge go ha he in ka ke ko la le lo ma me mo na ne no or pa pe po
    ra re ro sa se so ta te to un va ve vo wa we za zo ix ur th st ch qu
""")


@dataclass(frozen=True)
class Values:
    """What tasks may speak of: names that exist, and topics and deeds of the documents. Any of them may be few."""

    names: tuple[str, ...]
    topics: tuple[str, ...]
    deeds: tuple[str, ...]


def collect_values(
    documents: Sequence[Document], objects: Sequence[PythonObject], everything: Sequence[PythonObject]
) -> Values:
    """Names, topics and deeds of one split; a suffix is a name where it is unique in `everything`."""
    suffixes: dict[str, int] = {}
    for item in everything:
        parts = item.qualname.split(".")
        for start in range(1, len(parts)):
            suffix = ".".join(parts[start:])
            suffixes[suffix] = suffixes.get(suffix, 0) + 1
    names: list[str] = []
    deeds: set[str] = set()
    topics: set[str] = set()
    for item in objects:
        if len(item.qualname) <= 60 and len(item.signature) <= 160 and "__" not in item.qualname:
            names.append(item.qualname)
            parts = item.qualname.split(".")
            names += [
                s for n in (1, 2) if n < len(parts) and suffixes.get(s := ".".join(parts[-n:])) == 1 and len(s) > 3
            ]
        deeds.update(_deed_in(item.summary))
        topics.update(_topics_in(item.summary))
    for document in documents:
        topics.update(_topics_in(document.title))
        if not objects:
            topics.update(_topics_in(document.text[:2000]))
    return Values(tuple(dict.fromkeys(names)), tuple(sorted(topics)), tuple(sorted(deeds)))


def _deed_in(summary: str) -> set[str]:
    """The whole of a short sentence that says what is done, from its verb on, or nothing."""
    words = summary.rstrip(".").lower().split()
    if not 2 <= len(words) <= _LONGEST_DEED or not all(re.fullmatch(r"[a-z,'-]+", word) for word in words):
        return set()
    verb = words[0] if words[0] in _DEED_VERBS else words[0].removesuffix("s")
    return {" ".join([verb, *words[1:]])} if verb in _DEED_VERBS else set()


def _topics_in(text: str) -> set[str]:
    """Noun phrases: what stands between a determiner and the next word that cannot belong to one. Of a longer one the
    last three words, as the head of an English noun phrase comes last."""
    found: set[str] = set()
    phrase: list[str] | None = None  # None outside of noun phrases
    for word in [*re.findall(r"[\w'-]+|[^\w\s]", text.lower()), "."]:
        if phrase is not None and re.fullmatch(r"[a-z][a-z-]+[a-z]", word) and not _ends_phrase(word):
            phrase.append(word)
            continue
        if phrase and (_ends_phrase(word) or not word[0].isalnum()):  # and no name or number, which may belong to it
            found.add(" ".join(phrase[-3:]))
        phrase = [] if word in _DETERMINERS or (phrase == [] and word in _POINTING) else None
    return found


def _ends_phrase(word: str) -> bool:
    return word in _DETERMINERS or word in _POINTING or word in _NO_NOUN or word.endswith("ly")


def number(rng: random.Random, *, whole: bool = False, small: bool = False) -> tuple[str, str]:
    """A number as (text, digits): one to five digits or a decimal, at times spelled out or with a thousands comma."""
    size = rng.random()
    if small or size < 0.42:
        value = rng.randint(2, 99)
    elif size < 0.64:
        value = rng.randint(100, 999)
    elif size < 0.76:
        value = rng.randint(1000, 9999)
    elif size < 0.84 or whole:
        value = rng.randint(10000, 99999) if rng.random() < 0.6 else rng.randint(1, 20) * 1000
    else:
        digits = rng.choice((1, 1, 2, 2, 3))
        text = f"{rng.choice((rng.random(), 10 * rng.random(), 100 * rng.random(), 1000 * rng.random())):.{digits}f}"
        return text, text
    if rng.random() < 0.14 and (value <= 100 or value % 100 == 0):
        return spelled(value), str(value)
    if value >= 1000 and rng.random() < 0.2:
        return f"{value:,}", str(value)
    if not whole and rng.random() < 0.02:
        return f"-{value}", f"-{value}"
    return str(value), str(value)


def spelled(value: int) -> str:
    """`value` (0 to 99,999) in English words."""
    if value < 20:
        return _UNITS[value]
    if value < 100:
        return _TENS[value // 10] + (f"-{_UNITS[value % 10]}" if value % 10 else "")
    if value < 1000:
        rest = f" and {spelled(value % 100)}" if value % 100 else ""
        return f"{_UNITS[value // 100]} hundred{rest}"
    rest = f" {spelled(value % 1000)}" if value % 1000 else ""
    return f"{spelled(value // 1000)} thousand{rest}"


def word(rng: random.Random) -> str:
    """A common word or a made-up one, lower case."""
    if rng.random() < 0.45:
        return rng.choice(COMMON_WORDS)
    made = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 4)))
    return made + made[::-1] if rng.random() < 0.05 else made


def made_up_name(rng: random.Random) -> str:
    """A dotted identifier that no library has: copying it must not depend on having seen it."""
    parts = []
    for position in range(rng.randint(1, 3)):
        words = [word(rng) for _ in range(rng.choice((1, 1, 2)))]
        if position and rng.random() < 0.4:
            parts.append("".join(w.capitalize() for w in words))
        else:
            parts.append(
                "_".join(words) if rng.random() < 0.7 else words[0] + "".join(w.capitalize() for w in words[1:])
            )
    if rng.random() < 0.1:
        parts[-1] += str(rng.randint(1, 9))
    return ".".join(parts)


def topic(rng: random.Random, values: Values, names: bool) -> str:
    """A noun phrase to search for, or with `names` at times the name of an object."""
    kind = rng.random()
    if kind < 0.20:
        return " ".join(word(rng) for _ in range(rng.randint(1, 3)))
    if kind < 0.45:
        return rng.choice(_MORE_TOPICS)
    if kind < 0.60 and names and values.names:
        return rng.choice(values.names)
    return rng.choice(values.topics or _MORE_TOPICS)


def deed(rng: random.Random, values: Values) -> str:
    """A verb phrase to search for."""
    kind = rng.random()
    if kind < 0.5 and values.deeds:
        return rng.choice(values.deeds)
    if kind < 0.75:
        return rng.choice(_MORE_DEEDS)
    return f"{rng.choice(_DEED_VERBS_COMMON)} {rng.choice(_DEED_OBJECTS)}"


def name(rng: random.Random, values: Values) -> str:
    """A name to look up: mostly of an object that exists."""
    return rng.choice(values.names) if values.names and rng.random() < 0.7 else made_up_name(rng)
