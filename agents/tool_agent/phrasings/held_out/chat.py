"""What needs no tool, in phrasings that training never sees: `DEV` to choose on, `TEST` to report on."""

from agents.tool_agent.phrasings.chat import ABILITIES, BYE, FINE, HELLO, NEXT, NO_TOOL, THANKS, WHO, Table

DEV: Table = {
    HELLO: ["yo", "hello my friend", "hi, i could use some help"],
    THANKS: ["thanks, you're great", "that did the trick, thank you", "much appreciated"],
    BYE: ["ok, bye for now", "talk to you later"],
    WHO: ["so what are you exactly", "are you human", "do you have a name"],
    ABILITIES: ["what things can you do for me", "tell me your abilities"],
    FINE: ["how have you been", "you doing ok"],
    NEXT: ["alright then", "good to know"],
    NO_TOOL: [
        "what's the temperature in {place} right now",
        "get me a taxi to {place}",
        "text {person} that i'm late",
        "make me a sandwich",
        "who is the mayor of {place}",
        "reserve a table for tonight",
        "tell me something funny",
        "where can i buy a {thing}",
    ],
}

TEST: Table = {
    HELLO: ["hello, nice to meet you", "hey you", "hi, is somebody there?"],
    THANKS: ["thank you for your time", "great, thanks a bunch", "that's exactly what i wanted, thank you"],
    BYE: ["ok i'm off, bye", "have a good night"],
    WHO: ["may i ask who you are?", "am i talking to a machine?", "tell me who built you"],
    ABILITIES: ["what do you know how to do?", "what sort of things can you help with?"],
    FINE: ["how are things?", "are you well?"],
    NEXT: ["ok then", "all clear"],
    NO_TOOL: [
        "how cold is it in {place}?",
        "i want to fly to {place}, get me a ticket",
        "phone {person} for me",
        "sell my {thing}",
        "what language do they speak in {place}?",
        "write me a love letter to {person}",
        "which film should i watch?",
        "start the washing machine",
    ],
}
