"""Searches, in phrasings that training never sees: `DEV` to choose on, `TEST` to report on."""

from agents.tool_agent.phrasings.search import Table

DEV: Table = {
    "{topic}": [
        "could the docs tell me something on {topic}",
        "give me pages that talk about {topic}",
        "what have the docs got on {topic}",
        "browse the documentation for {topic}",
        "i'd love to read up on {topic}",
        "where is {topic} explained?",
        "search through the library for {topic}",
        "which pages mention {topic}",
    ],
    "{deed}": [
        "what would i use in order to {deed}",
        "i wonder how one can {deed}",
        "what's a good way to {deed} in python",
        "which function is there to {deed}",
        "looking for a way to {deed}",
        "how might i {deed}",
        "what should i read to {deed}",
    ],
}

TEST: Table = {
    "{topic}": [
        "have a look in the docs for {topic}",
        "can you find me some documentation covering {topic}?",
        "where in the documentation is {topic} described?",
        "i'd like to read something about {topic}",
        "what can you find on {topic}?",
        "does any page talk about {topic}?",
        "go through the docs and find {topic}",
        "please search our docs on {topic}",
    ],
    "{deed}": [
        "what's the usual way to {deed}?",
        "could you find out how i can {deed}",
        "what function would let me {deed}?",
        "does the library offer a way to {deed}?",
        "i would like to {deed} but don't know how",
        "how does one go about it to {deed}",
        "what do people use to {deed}?",
        "explain how i could {deed}",
    ],
}
