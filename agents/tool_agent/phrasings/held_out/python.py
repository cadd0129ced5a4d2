"""Tasks for the Python tool, in phrasings that training never sees: `DEV` to choose on, `TEST` to report on."""

from agents.tool_agent.phrasings.python import Table

DEV: Table = {
    "sum(i*i for i in range(1,{n}+1))": ["total up every square number from 1 squared to {n} squared"],
    "sum(range(1,{n}+1))": ["what do i get if i add all integers 1 through {n}"],
    "'{word}'[::-1]": ["how would {word} look if written backwards", "turn the word {word} around"],
    "'{word}'.count('{letter}')": ["the word {word} contains how many {letter}"],
    "len('{word}')": ["tell me how many letters {word} consists of"],
    "'{word}'.upper()": ["change {word} to all caps"],
    "sorted([{list}])": ["sort these: {list}", "i need {list} in rising order"],
    "max([{list}])": ["pick the biggest out of {list}"],
    "min([{list}])": ["the lowest one among {list} is"],
    "all({n}%i for i in range(2,{n}))": ["would you call {n} a prime number"],
    "[i for i in range(1,{n}+1) if {n}%i==0]": ["give every factor of {n}"],
    "{code}": ["what comes out when python runs {code}"],
    "bin({n})": ["express {n} as a binary number"],
    "import math\nmath.factorial({n})": ["how large is {n} factorial"],
    "import math\nmath.gcd({n},{m})": ["largest number dividing both {n} and {m}"],
    "sum(c in 'aeiou' for c in '{word}')": ["the word {word} has how many vowels"],
    "len('{sentence}'.split())": ["tell me the number of words in '{sentence}'"],
}

TEST: Table = {
    "sum(i*i for i in range(1,{n}+1))": ["if i square every number from 1 to {n} and add them up, what comes out?"],
    "sum(range(1,{n}+1))": ["what is the total of all whole numbers from 1 to {n}?"],
    "'{word}'[::-1]": [
        "give me {word} with its letters reversed",
        "what would '{word}' be spelled from the end to the start?",
    ],
    "'{word}'.count('{letter}')": ["find the number of times {letter} shows up in {word}"],
    "len('{word}')": ["what's the number of letters in {word}?"],
    "'{word}'.upper()": ["i want {word} in all capital letters"],
    "'{word}'*{n}": ["can you give me {word} repeated {n} times"],
    "sorted([{list}])": [
        "could you order {list} from the smallest to the largest",
        "please bring {list} into ascending order",
    ],
    "sorted([{list}],reverse=True)": ["arrange {list} in descending order"],
    "max([{list}])": ["out of {list}, which is the maximum?"],
    "min([{list}])": ["tell me the smallest among {list}"],
    "all({n}%i for i in range(2,{n}))": ["tell me if {n} is a prime number"],
    "[n for n in range(2,{n}+1) if all(n%i for i in range(2,n))]": ["which prime numbers are there up to {n}?"],
    "[i for i in range(1,{n}+1) if {n}%i==0]": ["by which numbers can {n} be divided?"],
    "{code}": ["could you run the python code {code}", "tell me what {code} evaluates to"],
    "bin({n})": ["how do you write {n} in binary?"],
    "hex({n})": ["show {n} as hexadecimal"],
    "import math\nmath.factorial({n})": ["work out the factorial of {n}"],
    "import math\nmath.gcd({n},{m})": ["what's the greatest common divisor that {n} and {m} share?"],
    "sum(int(d) for d in str({n}))": ["what do the digits of {n} add up to?"],
    "len('{sentence}'.split())": ["'{sentence}' has how many words?"],
}
