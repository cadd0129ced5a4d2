"""Look-ups of one object, in phrasings that training never sees: `DEV` to choose on, `TEST` to report on."""

from agents.tool_agent.phrasings.signature import Table

DEV: Table = {
    "signature": [
        "what parameters would {name} want from me",
        "i need to see how {name} gets called",
        "could i get the parameter list for {name}",
        "{name}: which arguments are possible?",
        "before i call {name} i want to know its arguments",
        "arguments accepted by {name}",
    ],
    "summary": [
        "what would {name} do if i call it",
        "can you explain what {name} is about",
        "{name} - what is that for",
        "i need to know what {name} does",
        "what is it that {name} does exactly",
    ],
    "module": [
        "in what module can {name} be found",
        "{name} lives in which module?",
        "which module should i import for {name}",
        "whereabouts is {name} defined",
    ],
}

TEST: Table = {
    "signature": [
        "what inputs can i give {name}?",
        "i'd like to see the parameters that {name} accepts",
        "which arguments do i have to hand over to {name}",
        "how does one invoke {name}? i mean its arguments",
        "display the argument list of {name}",
        "what's the right way to call {name}?",
        "got the signature for {name}?",
    ],
    "summary": [
        "could you tell me the use of {name}",
        "what's the point of {name}?",
        "help me understand {name}",
        "someone told me to use {name}; what does it actually do?",
        "what exactly is {name} supposed to do",
    ],
    "module": [
        "what module would i find {name} in?",
        "please tell me where {name} is kept",
        "{name}: what module is that in?",
        "to use {name}, which module do i import?",
    ],
}
