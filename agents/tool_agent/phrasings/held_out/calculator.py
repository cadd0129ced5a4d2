"""Sums, in phrasings that training never sees: `DEV` to choose on, `TEST` to report on."""

from agents.tool_agent.phrasings.calculator import Table

DEV: Table = {
    "{a}+{b}": [
        "what would {a} and {b} be if summed",
        "starting with {a} i gain {b}, where do i end up",
        "{person} scored {a} points, then {b} more points. final score?",
        "put {a} and {b} together and tell me the number",
    ],
    "{a}-{b}": [
        "if {b} of my {a} {things} disappear, what's left",
        "{a} reduced by {b} equals",
        "how many more {things} do i need to get from {b} to {a}?",
    ],
    "{a}*{b}": [
        "what does {a} multiplied with {b} equal",
        "{a} {things} weigh {b} kilos apiece, how heavy are they together?",
        "we order {a} pizzas, each costs {b}. total?",
    ],
    "{a}/{b}": [
        "dividing {a} by {b} gives",
        "{b} kids want to split {a} {things} fairly, how many per kid?",
        "work out {a} over {b}",
    ],
    "{a}**2": ["i need {a} to the second power", "area of a square whose side is {a}"],
    "{a}*{b}/100": ["how much would {a} percent out of {b} be", "a discount of {a}% on {b}, how much is that"],
    "sqrt({a})": ["square root for {a}, what is it"],
    "{a}%{b}": ["dividing {a} by {b} leaves which remainder"],
    "({a}+{b})*{c}": ["first {a} plus {b}, and the result times {c}"],
    "{a}+{b}+{c}": ["three numbers {a}, {b} and {c}: what do they sum to"],
}

TEST: Table = {
    "{a}+{b}": [
        "how much does {a} plus {b} come out at?",
        "tell me what you get when {b} is added to {a}",
        "my {things} jar held {a}; after today's {b} extra ones, how many {things} does it hold?",
        "one invoice says {a}, the other {b}. what do i owe overall?",
        "i'm curious about the result of {a} and {b} added together",
    ],
    "{a}-{b}": [
        "can you work out {a} with {b} subtracted?",
        "after paying {b} from the {a} in my wallet, how much money remains there?",
        "{person} baked {a} {things} and {other} took {b} of them. how many does {person} have left?",
        "what do i get if i take {b} out of {a}",
    ],
    "{a}*{b}": [
        "find out how much {a} multiplied by {b} is",
        "each of the {a} shelves holds {b} {things}; how many {things} altogether?",
        "tickets cost {b} apiece. how much for {a} of them?",
        "i'd like to know {a} times {b}",
    ],
    "{a}/{b}": [
        "tell me the result when {a} gets divided by {b}",
        "{a} {things} go evenly into {b} baskets. how many per basket?",
        "what would one person pay if {b} people split a bill of {a}?",
    ],
    "{a}**2": ["please give the square value of {a}", "what is {a} multiplied by itself"],
    "{a}*{b}/100": ["i want to leave {a} percent of {b} as a tip, how much is it?", "work out {a}% from {b}"],
    "sqrt({a})": ["could you tell me the sqrt of the number {a}"],
    "{a}%{b}": ["if i divide {a} by {b}, what remainder do i get?"],
    "{a}**{b}": ["how big is {a} to the power {b}?"],
    "({a}+{b})*{c}": ["take {a}, add {b}, and multiply all that by {c}"],
    "{a}+{b}+{c}": ["please total these numbers: {a}, {b}, {c}"],
    "({a}+{b})/2": ["on average, how much are {a} and {b}?"],
    "{a}*{b}+{c}": ["{a} cartons with {b} {things} in each plus {c} loose ones makes how many {things}?"],
}
