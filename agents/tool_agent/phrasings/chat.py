"""What needs no tool: the fixed answer -> the ways to provoke it.

`{thing}` and `{place}` are filled from small lists. The answers are fixed, so that a program can check them.
"""

Table = dict[str, list[str]]

HELLO = "Hello! How can I help?"
THANKS = "You are welcome."
BYE = "Goodbye!"
WHO = "I am a small language model, trained from scratch on this machine."
ABILITIES = "I can calculate, search the documentation, look up signatures and run small Python programs."
NO_TOOL = f"I have no tool for that. {ABILITIES}"
FINE = "I am a program, but all works well. How can I help?"
NEXT = "All right. What is next?"

TRAIN: Table = {
    HELLO: [
        "[hello|hi|hey|good morning|good evening|good day|greetings|hiya|howdy][| there|!| assistant|, friend]",
        "hello, are you there?",
        "hi, can you help me?",
        "hey, i have a question",
        "[is anyone there|anybody home]?",
        "hello hello",
        "i need some help",
        "can i ask you something?",
        "hi bot",
    ],
    THANKS: [
        "[thanks|thank you|thx|many thanks|cheers|ty][|!| a lot| very much| so much]",
        "[thanks|thank you], that [helps|helped|was useful|is what i needed]",
        "[perfect|great|awesome|nice], [thanks|thank you]",
        "that was very helpful",
        "thanks for [the help|your help|helping me|that]",
        "i appreciate it",
        "you saved my day",
    ],
    BYE: [
        "[bye|goodbye|see you|see you later|bye bye|farewell|good night|cya][|!]",
        "that is all for [today|now]",
        "i have to go now",
        "we are done, bye",
        "i'm leaving, see you tomorrow",
    ],
    WHO: [
        "[who|what] are you?",
        "are you [a human|a robot|an ai|a person|a chatbot|a language model]?",
        "what is your name?",
        "[tell me|say something] about yourself",
        "who [made|built|trained|created] you?",
        "what [kind of model|model] are you?",
        "how were you trained?",
        "introduce yourself",
        "where do you come from?",
        "how old are you?",
    ],
    ABILITIES: [
        "what can you do?",
        "what are you able to do?",
        "what can i ask you?",
        "[which|what] tools do you have?",
        "how can you help me?",
        "what are your [abilities|skills|tools]?",
        "[list|show] your tools",
        "what are you good at?",
        "what kind of questions can you answer?",
        "help",
    ],
    FINE: [
        "how are you[| today| doing]?",
        "how is it going?",
        "how do you feel?",
        "are you ok?",
        "what's up?",
        "is everything all right with you?",
    ],
    NEXT: [
        "[ok|okay|alright|fine|i see|got it|understood|good|great|cool|sure]",
        "[ok|okay], [got it|understood|i see]",
        "that makes sense",
        "never mind",
        "let's go on",
        "sounds good",
    ],
    NO_TOOL: [
        "what is the weather [like |]in {place}?",
        "will it rain in {place} [tomorrow|today]?",
        "!book [me |]a [flight|hotel|train] to {place}",
        "!order [me |]a {thing}",
        "!buy a {thing} for me",
        "!play [some music|a song|my favourite song]",
        "!send an [email|message] to {person}",
        "!call {person}",
        "what time is it in {place}?",
        "who won the [game|match|election] in {place}?",
        "!tell me a joke",
        "!write a poem about {place}",
        "!sing a song",
        "!translate hello into [french|german|spanish]",
        "what is the capital of {place}?",
        "who is the president of {place}?",
        "!turn on the lights",
        "!set an alarm for tomorrow morning",
        "!remind me to buy a {thing}",
        "what is the price of a {thing} today?",
        "!recommend a [restaurant|film|book|hotel]",
        "what should i eat tonight?",
        "do you like {place}?",
        "what is your favourite {thing}?",
        "what's the news from {place}?",
        "!draw a picture of a {thing}",
        "how do i get from {place} to the airport?",
        "!cook a meal for {person}",
        "where is the nearest {thing} shop?",
        "!find me a cheap {thing} online",
        "!open the door",
        "how tall is {person}?",
        "when is {person}'s birthday?",
        "is it sunny in {place}?",
        "!delete all my files",
        "!tell me a story",
        "what does {person} think of me?",
        "who is {person}?",
        "how is the traffic in {place}?",
        "should i marry {person}?",
    ],
}
