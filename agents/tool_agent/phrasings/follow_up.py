"""Second questions that speak of the last result (`{last}`), and ways to ask two things at once."""

Table = dict[str, list[str]]

TRAIN: Table = {
    "{last}+{b}": [
        "[now |and now |then |]add {b} to [that|it|the result]",
        "plus {b}",
        "and {b} more?",
        "what if i add {b}?",
    ],
    "{last}-{b}": [
        "[now |then |]subtract {b} from [that|it|the result]",
        "minus {b}",
        "[now |]take away {b}",
        "and {b} less?",
    ],
    "{last}*{b}": [
        "[now |then |]multiply [that|it|the result] by {b}",
        "times {b}",
        "and {b} times that?",
        "that times {b}",
    ],
    "{last}/{b}": [
        "[now |then |]divide [that|it|the result] by {b}",
        "divided by {b}",
        "and split by {b}?",
        "that over {b}",
    ],
    "{last}**2": ["[now |]square [that|it|the result]", "and squared?"],
    "{last}*2": ["[now |]double [that|it]", "twice that?"],
    "{last}/2": ["[now |]halve [that|it]", "half of that?"],
}

TWO_TRAIN = [
    "{first} and {second}",
    "{first}, and also {second}",
    "first {first}, then {second}",
    "{first}? and {second}?",
    "two things: {first}; {second}",
    "{first}. then {second}.",
    "{first}. also, {second}?",
    "{first}\n{second}",
    "1. {first} 2. {second}",
    "{first}, after that {second}",
]
