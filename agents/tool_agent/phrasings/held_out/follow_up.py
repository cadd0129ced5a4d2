"""Second questions, and two at once, in phrasings that training never sees: `DEV` to choose on, `TEST` to report on."""

from agents.tool_agent.phrasings.follow_up import Table

DEV: Table = {
    "{last}+{b}": ["increase the result by {b}"],
    "{last}-{b}": ["and without {b}?"],
    "{last}*{b}": ["what is {b} times as much?"],
    "{last}/{b}": ["and shared by {b}?"],
}
TEST: Table = {
    "{last}+{b}": ["ok, add another {b}"],
    "{last}-{b}": ["ok, now remove {b} from the result"],
    "{last}*{b}": ["what's that multiplied by {b}?"],
    "{last}/{b}": ["and that number divided by {b}?"],
}

TWO_DEV = ["{first}; and another question: {second}", "please do both: {first}, {second}"]
TWO_TEST = ["{first}. next, {second}", "i have two questions. {first}? {second}?"]
