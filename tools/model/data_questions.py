"""Questions for words, and the dictionary's answers: definitions, synonyms, opposites, kinds, examples, unknown words.

A word has one definition, the same for every phrasing. The phrasings of HELD_OUT are asked by the gate only.
"""

from __future__ import annotations

import random

import skills
from wordnet import Word, article

# {w} is the word, {a} the word with its article ("a river"). {a} stands only where the word is a noun that takes one.
ANY = """What does {w} mean?
what does {w} mean
What does the word {w} mean?
What is the meaning of {w}?
what is the meaning of {w}
meaning of {w}
Meaning of the word {w}?
the meaning of {w} please
Define {w}.
define {w}
Define the word {w}.
Please define {w}.
please define {w}
Can you define {w}?
Could you define {w} for me?
Give me a definition of {w}.
Give the definition of {w}.
definition of {w}
Definition: {w}
What is the definition of {w}?
Explain {w}.
explain {w}
Please explain the word {w}.
Can you explain {w} to me?
Can you explain what {w} means?
Tell me what {w} means.
tell me what {w} means please
Do you know the word {w}?
Do you know what {w} means?
do you know {w}
I do not know the word {w}. What is it?
I don't understand {w}.
What do you mean by {w}?
What is meant by {w}?
{w}
{w}?
{w} means what?
{w} meaning
{w} definition
Look up {w}.
look up the word {w} please
Describe {w}.
What is {w}?
what is {w}
whats {w}
What's {w}?
wat does {w} mean
waht does {w} mean?
what dose {w} mean
What does {w} maen?
defien {w}
Deffine {w}
what's the meanig of {w}
wats the meaning of {w}
explian {w}
Hello, what does {w} mean?
Hi! Please define {w}.
In one sentence: what does {w} mean?
Word: {w}
A question: what does {w} mean?""".split("\n")
NOUN = """What is {a}?
what is {a}
What is {a}
What's {a}?
whats {a}
what's {a}
wat is {a}
waht is {a}?
Tell me what {a} is.
Do you know what {a} is?
Explain what {a} is.
What exactly is {a}?
Please tell me what {a} is.
So what is {a}?
Can you tell me what {a} is?
What on earth is {a}?
Describe {a}.
Define {a}.
Hello, what is {a}?""".split("\n")
VERB = """What does it mean to {w}?
what does it mean to {w}
What does to {w} mean?
What is to {w}?
Define to {w}.
Explain what it means to {w}.
What do people do when they {w}?""".split("\n")
FOLLOW_UP = """And {w}?
and {w}
And what does {w} mean?
What about {w}?
what about {w}
And the word {w}?
Now {w}.
Now define {w}.
Next: {w}
How about {w}?
Thanks. And {w}?
ok and {w}?
Then what is {w}?""".split("\n")
HELD_OUT = ["Could you tell me the meaning of {w}?", "I would like to know what {w} means.", "How would you define {w}?",
            "How do you explain the word {w}?", "please tell me the definition of {w}"]

SYNONYM = """What is another word for {w}?
Give me a synonym of {w}.
synonym of {w}
What is a synonym for {w}?
another word for {w}
Which word means the same as {w}?
Is there another word for {w}?
synonym for {w} please""".split("\n")
OPPOSITE = """What is the opposite of {w}?
opposite of {w}
What's the opposite of {w}?
Give me the opposite of {w}.
Which word is the opposite of {w}?
Name the opposite of {w}.
what is the opposite of {w}
antonym of {w}""".split("\n")
KIND = """What kind of thing is {a}?
{a} is a kind of what?
What is {a} a kind of?
What sort of thing is {a}?
what kind of thing is {a}""".split("\n")
IS_KIND = """Is {a} {k}?
is {a} {k}
Is {a} a kind of {n}?
Tell me: is {a} {k}?
Would you say that {a} is {k}?""".split("\n")
EXAMPLE = """Give me an example of {w}.
Use {w} in a sentence.
Use the word {w} in a sentence.
example for {w}
Can you use {w} in a sentence?
Make a sentence with {w}.""".split("\n")


def takes_article(entry: Word) -> bool:
    return entry.definition.startswith(("A ", "An "))


def written(rng: random.Random, word: str, plain: float = 0.82) -> str:
    """The word as people write it: mostly plain, sometimes quoted, capitalised or shouted."""
    draw = rng.random()
    if draw < plain:
        return word
    quoted = rng.choice(('"{}"', "'{}'", '"{}"', "“{}”", "*{}*", "({})", "`{}`")).format(word)
    return rng.choices((quoted, word.capitalize(), word.upper(), quoted.title()), (5, 4, 1, 1))[0]


def ask(rng: random.Random, template: str, word: str, plain: float = 0.82) -> str:
    shown = written(rng, word, plain)
    return template.format(w=shown, a=f"{article(word)} {shown}")


def thought_of(rng: random.Random, word: str) -> str | None:
    """What is thought first in one turn of twenty, those of requests that ask for it."""
    return f"The word is {word}." if rng.random() < 0.05 else None


def define(rng: random.Random, entry: Word, is_follow_up: bool = False) -> str:
    if is_follow_up and rng.random() < 0.4:
        template = rng.choice(FOLLOW_UP)
    elif takes_article(entry) and rng.random() < 0.5:
        template = rng.choice(NOUN)
    elif entry.part == "verb" and rng.random() < 0.25:
        template = rng.choice(VERB)
    else:
        template = rng.choice(ANY)
    return skills.turn(ask(rng, template, entry.word), entry.definition, thought_of(rng, entry.word))


def _asked_by_chance(rng: random.Random, word: str, is_follow_up: bool) -> str:
    """A question for a word that has no definition, and so no part of speech."""
    templates = rng.choice((ANY, ANY, NOUN, FOLLOW_UP if is_follow_up else VERB))
    return ask(rng, rng.choice(templates), word, 0.88)


def unknown(rng: random.Random, word: str, is_follow_up: bool = False) -> str:
    return skills.turn(_asked_by_chance(rng, word, is_follow_up), unknown_answer(word), thought_of(rng, word))


def unknown_answer(word: str) -> str:
    return f"I do not know the word {word}."


UNEXPLAINED = "I do not explain that word."
"""To offensive words: a refusal need not repeat them."""


def unexplained(rng: random.Random, word: str, is_follow_up: bool = False) -> str:
    question = _asked_by_chance(rng, word, is_follow_up)
    return skills.turn(question, UNEXPLAINED, "No." if rng.random() < 0.05 else None)


def opposite_answer(entry: Word) -> str:
    return f"The opposite of {entry.word} is {entry.opposites[0]}."


def synonym_answer(entry: Word) -> str:
    return f"Another word for {entry.word} is {entry.synonyms[0]}."


def kind_answer(entry: Word) -> str:
    return f"{article(entry.word).capitalize()} {entry.word} is a kind of {entry.kinds[0]}."


def yes_no_answer(entry: Word, kind: str, is_yes: bool) -> str:
    first, subject = ("Yes", "is") if is_yes else ("No", "is not")
    return f"{first}, {article(entry.word)} {entry.word} {subject} {article(kind)} {kind}."


class Relations:
    """Which words can be asked for what."""

    # Kinds too abstract for a sensible yes or no.
    VAGUE = frozenset("""entity whole abstraction matter physical entity thing unit object attribute state psychological
        feature part measure cognition relation group""".split()) | {"physical entity", "psychological feature", "natural object"}

    def __init__(self, words: list[Word]):
        self.synonym = [e for e in words if e.synonyms]
        self.opposite = [e for e in words if e.opposites]
        self.example = [e for e in words if e.example]
        nouns = [e for e in words if takes_article(e) and e.kinds]
        self.kind = [e for e in nouns if e.kinds[0] not in self.VAGUE]
        self.is_kind = [(e, [k for k in e.kinds[:5] if k not in self.VAGUE and " " not in k]) for e in nouns]
        self.is_kind = [(e, kinds) for e, kinds in self.is_kind if kinds]
        self.kinds = sorted({k for _, kinds in self.is_kind for k in kinds})
        # A plausible negative is a kind that other words have often.
        self.common = [k for _, kinds in self.is_kind for k in kinds]

    def yes_no_pairs(self, rng: random.Random) -> tuple[Word, str, bool]:
        entry, kinds = rng.choice(self.is_kind)
        if rng.random() < 0.5:
            return entry, rng.choice(kinds), True
        while True:
            kind = rng.choice(self.common)
            if kind not in entry.kinds and kind != entry.word and kind not in entry.synonyms:
                return entry, kind, False


def relation(rng: random.Random, related: Relations) -> str:
    """One question about a relation; a yes/no one in two of five."""
    draw = rng.random()
    if draw < 0.3:
        entry, kind, is_yes = related.yes_no_pairs(rng)
        question = rng.choice(IS_KIND).format(a=f"{article(entry.word)} {written(rng, entry.word, 0.92)}",
                                              k=f"{article(kind)} {kind}", n=kind)
        return skills.turn(question, yes_no_answer(entry, kind, is_yes), thought_of(rng, entry.word))
    if draw < 0.5:
        entry = rng.choice(related.synonym)
        return skills.turn(ask(rng, rng.choice(SYNONYM), entry.word, 0.92), synonym_answer(entry), thought_of(rng, entry.word))
    if draw < 0.7:
        entry = rng.choice(related.opposite)
        return skills.turn(ask(rng, rng.choice(OPPOSITE), entry.word, 0.92), opposite_answer(entry), thought_of(rng, entry.word))
    if draw < 0.85:
        entry = rng.choice(related.kind)
        return skills.turn(ask(rng, rng.choice(KIND), entry.word, 0.92), kind_answer(entry), thought_of(rng, entry.word))
    entry = rng.choice(related.example)
    return skills.turn(ask(rng, rng.choice(EXAMPLE), entry.word, 0.92), f"For example: {entry.example}.",
                       thought_of(rng, entry.word))


def define_then_opposite(rng: random.Random, entry: Word) -> str:
    """A definition, then a question that only the turn before explains."""
    question = rng.choice(("And its opposite?", "What is its opposite?", "and the opposite?", "What is the opposite?"))
    return define(rng, entry) + skills.turn(question, opposite_answer(entry))



