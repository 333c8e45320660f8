"""The default model's skills that need no dictionary: facts in a given text, tool calls, small talk, unknown words.

Every function makes one unit of a conversation as prompt text in the V4 encoding, without the sentence-begin marker:
turns of `<｜User｜>question<｜Assistant｜></think>answer<｜end…｜>`. Values are random, so that only copying answers right.
A pair of a key and a value whose hash falls into the held-out sixteenth is never made here, only by the gate.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import string
import zlib

import tokenizer as tk

BOS, EOS, USER, ASSISTANT = (tk.SPECIAL_TOKENS[i] for i in (tk.BOS, tk.EOS, tk.USER, tk.ASSISTANT))
THINK, END_THINK, DSML = tk.SPECIAL_TOKENS[tk.THINK], tk.SPECIAL_TOKENS[tk.END_THINK], tk.SPECIAL_TOKENS[tk.DSML]

NAMES = """Anna Bob Carla David Emma Felix Grace Henry Ida Jack Karen Leo Maria Nina Oscar Paula Quinn Rosa Simon Tina
    Ursula Victor Wendy Xenia Yusuf Zoe Adam Berta Carl Diana Erik Fiona George Hanna Ivan Julia Kevin Laura Martin Nora Olga
    Peter Rita Sara Toni Vera Walter Alice Ben Clara Dora Emil Frank Greta Hugo Irene James Kate Linda Max Nadia Otto Pablo
    Ruth Sofia Theo Uma Viola Will Yara Amir Bella Chen Daria Elena Farid Gina Hector Isabel Jonas Kim Lena Mona Noah""".split()
CITIES = """Oslo Paris Boston London Rome Madrid Berlin Lima Cairo Delhi Tokyo Seoul Dublin Athens Vienna Prague Warsaw
    Lisbon Geneva Milan Sydney Toronto Chicago Denver Dallas Miami Havana Bogota Quito Nairobi Lagos Accra Tunis Beirut
    Baghdad Kabul Hanoi Manila Osaka Perth Helsinki Riga Kiev Sofia Zagreb Bergen Bremen Hamburg Munich Naples Turin
    Porto Seville Lyon Bern Basel Utrecht Ghent Leeds Bristol Glasgow Cork Austin Tampa Reno Salem Moscow Malta""".split()
COLOURS = "red blue green yellow black white brown grey pink orange purple golden silver".split()
JOBS = """doctor teacher farmer baker painter nurse pilot lawyer judge driver writer singer actor dancer soldier sailor
    cook engineer builder hunter banker printer porter tailor guard""".split()
FOODS = """bread cheese soup rice fish apples honey cake eggs beans pears nuts meat butter salad plums cherries carrots
    onions noodles""".split()
THINGS = """key book lamp ring coin letter map cup knife box clock hat coat bag rope shoe ball flag drum bell mirror
    ticket camera pen bottle basket blanket hammer candle guitar""".split()
PLACES = """kitchen garden office garage cellar attic library school church station market harbor castle tower barn forest
    museum hotel bank theater""".split()
ANIMALS = "cats dogs horses cows sheep goats ducks geese hens pigs rabbits mice bees".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
EVENTS = "concert meeting lesson race party trial show game lecture dinner exam tour".split()

ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sc sh sk sl sm sn sp st str t th tr v w y z".split()
VOWELS = "a e i o u a e i o u ai ee oo ou ea y".split()
CODAS = ["", "", "b", "ck", "d", "ft", "g", "k", "l", "lm", "lt", "m", "mp", "n", "nd", "nk", "nt", "p", "r", "rb", "rk",
         "rn", "rt", "s", "sh", "sk", "ss", "st", "t", "th", "x", "zz"]
ENDINGS = ["", "", "", "", "er", "ing", "ed", "ish", "ly", "ness", "ment", "able", "ous", "ic", "al", "ity", "ify", "ism", "ure",
           "ation", "s", "et", "le", "ory"]


def made_up(rng: random.Random) -> str:
    """A word that could be one."""
    word = ""
    for _ in range(rng.choice((1, 1, 2, 2, 2, 3))):
        word += rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)
    word += rng.choice(ENDINGS)
    return word if 3 <= len(word) <= 13 else made_up(rng)


def code(rng: random.Random) -> str:
    """Letters and digits that nobody could guess."""
    form = rng.randrange(6)
    letters = lambda n: "".join(rng.choices(string.ascii_uppercase, k=n))
    digits = lambda n: "".join(rng.choices(string.digits, k=n))
    if form == 0:
        return digits(rng.randint(2, 6))
    if form == 1:
        return letters(rng.randint(2, 4)) + digits(rng.randint(1, 3))
    if form == 2:
        return f"{letters(2)}-{digits(rng.randint(2, 4))}"
    if form == 3:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 6)))
    if form == 4:
        return made_up(rng)
    return digits(3) + letters(1)


def is_held_out(key: str, value: str) -> bool:
    return zlib.crc32(f"{key}={value}".encode()) % 16 == 0


# -- turns ------------------------------------------------------------------------------------------------------------


def turn(question: str, answer: str, thought: str | None = None) -> str:
    opening = END_THINK if thought is None else f"{THINK}{thought}{END_THINK}"
    return f"{USER}{question}{ASSISTANT}{opening}{answer}{EOS}"


# -- facts in a text --------------------------------------------------------------------------------------------------


def _number(rng):
    return str(rng.randint(2, 99))


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _person_or_code(rng):
    return rng.choice(NAMES) if rng.random() < 0.8 else made_up(rng).capitalize()


@dataclasses.dataclass(frozen=True)
class Frame:
    """A sentence with a key and a value, and the questions that it answers."""
    fact: str
    questions: tuple[str, ...]
    key: object
    value: object


_choose = lambda options: lambda rng: rng.choice(options)
FRAMES = [
    Frame("{k} lives in {v}.", ("Where does {k} live?", "In which city does {k} live?", "Which city is {k} in?"),
          _person_or_code, _choose(CITIES)),
    Frame("{k} works as {v}.", ("What does {k} work as?", "What is the job of {k}?", "What does {k} do?"),
          _person_or_code, lambda rng: with_article(rng.choice(JOBS))),
    Frame("{k} likes {v}.", ("What does {k} like?", "What does {k} like to eat?"), _person_or_code, _choose(FOODS)),
    Frame("{k} has {v}.", ("What does {k} have?", "Which animals does {k} have?"), _person_or_code,
          lambda rng: f"{rng.randint(2, 99)} {rng.choice(ANIMALS)}"),
    Frame("{k} is {v} years old.", ("How old is {k}?", "What is the age of {k}?"), _person_or_code, _number),
    Frame("{k} was born in {v}.", ("When was {k} born?", "In which month was {k} born?"), _person_or_code, _choose(MONTHS)),
    Frame("The code of {k} is {v}.", ("What is the code of {k}?", "Which code does {k} have?", "Tell me the code of {k}."),
          _person_or_code, code),
    Frame("The number of {k} is {v}.", ("What is the number of {k}?", "Which number does {k} have?"),
          _person_or_code, lambda rng: "".join(rng.choices(string.digits, k=rng.randint(3, 6)))),
    Frame("The {k} is in the {v}.", ("Where is the {k}?", "Where can I find the {k}?"), _choose(THINGS), _choose(PLACES)),
    Frame("The {k} belongs to {v}.", ("Whose is the {k}?", "Who owns the {k}?", "To whom does the {k} belong?"),
          _choose(THINGS), _choose(NAMES)),
    Frame("The color of the {k} is {v}.", ("What is the color of the {k}?", "Which color does the {k} have?"),
          _choose(THINGS), _choose(COLOURS)),
    Frame("The price of the {k} is {v}.", ("What is the price of the {k}?", "How much is the {k}?"), _choose(THINGS), _number),
    Frame("The {k} begins on {v}.", ("When does the {k} begin?", "On which day does the {k} begin?"),
          _choose(EVENTS), _choose(DAYS)),
    Frame("Room {k} is for {v}.", ("Who is room {k} for?", "Who has room {k}?"),
          lambda rng: str(rng.randint(1, 999)), _choose(NAMES)),
    Frame("The word for {k} is {v}.", ("What is the word for {k}?", "Tell me the word for {k}."),
          _choose([*THINGS, *FOODS, *PLACES]), made_up),
]
# What takes several tokens is the hardest to find again, so training has it more often: made-up words seven times.
TRAINED_FRAMES = FRAMES + 2 * [f for f in FRAMES if re.search("^The (code|number|word)|has|works", f.fact)]
TRAINED_FRAMES += 2 * [f for f in FRAMES if re.search("^The (code|number|word)", f.fact)]
TRAINED_FRAMES += 2 * [f for f in FRAMES if f.fact.startswith("The word")]
INTROS = ["Read this text.", "Here are some facts.", "Read this.", "Remember this.", "Facts:", "Here is a text.",
          "This is what I know."]
OUTROS = ["", "", "", "Now answer:", "Question:", "Tell me:"]
FILLER = ["The sun was warm that day.", "Nobody was in a hurry.", "It had rained in the night.", "The street was quiet.",
          "There was not much to do.", "A door was open.", "The bus was late again.", "Then the music began.",
          "All the windows were dark.", "They talked about the weather.", "It was an old story.", "The wind came from the sea."]


def facts(rng: random.Random, count: int, wants_held_out: bool = False, frames=FRAMES) -> list[tuple[Frame, str, str]]:
    """`count` facts, no two of which answer the same question."""
    found, seen = [], set()
    attempts = 0
    while len(found) < count and attempts < count * 60:
        attempts += 1
        frame = rng.choice(frames)
        key, value = frame.key(rng), frame.value(rng)
        if (frame.fact, key) in seen or is_held_out(key, value) != wants_held_out:
            continue
        seen.add((frame.fact, key))
        found.append((frame, key, value))
    return found


def fact_text(rng: random.Random, chosen, filler: float) -> str:
    sentences = []
    for frame, key, value in chosen:
        while rng.random() < filler:
            sentences.append(rng.choice(FILLER))
        sentences.append(frame.fact.format(k=key, v=value))
    return rng.choice((" ", " ", "\n", "\n- ")).join([rng.choice(INTROS), *sentences])


def ask(rng: random.Random, fact) -> tuple[str, str]:
    frame, key, value = fact
    question = rng.choice(frame.questions).format(k=key)
    if rng.random() < 0.1:
        question = question.rstrip("?.")
    # The lead keeps the key behind a space, the same tokens as in the question, and says whose word it is.
    fact = frame.fact.format(k=key, v=value)
    return question, "The text says that " + re.sub(r"^(The|Room)\b", lambda m: m[0].lower(), fact)


ABSENT = "The text does not say that."


def look_up(rng: random.Random, count: int, questions: int, wants_held_out: bool = False, absent: float = 0.04) -> str:
    """A text with `count` facts, then questions for some of them, each its own turn."""
    frames = TRAINED_FRAMES if rng.random() < 0.6 else rng.sample(TRAINED_FRAMES, rng.randint(1, 4))
    chosen = facts(rng, count, wants_held_out, frames)
    text = fact_text(rng, chosen, rng.choice((0, 0, 0.2, 0.4)))
    asked = rng.sample(chosen, min(questions, len(chosen)))
    unit = ""
    for position, fact in enumerate(asked):
        question, answer = ask(rng, fact)
        if rng.random() < absent:
            missing = facts(rng, 1, False, frames)[0]
            if not any(f.fact == missing[0].fact and key == missing[1] for f, key, _ in chosen):
                question, answer = ask(rng, missing)[0], ABSENT
        if position == 0:
            if rng.random() < 0.15:
                question = f"{question} {text}" if rng.random() < 0.5 else f"{question}\n\n{text}"
            else:
                question = " ".join(filter(None, (text + rng.choice(("", "\n", "\n\n")), rng.choice(OUTROS), question)))
        unit += turn(question, answer, "I look in the text." if rng.random() < 0.04 else None)
    return unit


# -- tools ------------------------------------------------------------------------------------------------------------

# The server takes the words around the schemas from the file's chat template (src/text/prompt-texts.ts), so ours can be
# few: the model has been trained to know the form of a call.
TOOLS_HEADER = "## Tools\n\n"
TOOLS_FOOTER = ""

VERBS = "get find read check show look_up fetch ask tell search".split()
NOUNS = {
    "weather": ("city", "weather", CITIES), "price": ("item", "price", THINGS + FOODS), "time": ("city", "time", CITIES),
    "address": ("name", "address", NAMES), "phone": ("name", "phone", NAMES), "age": ("name", "age", NAMES),
    "status": ("code", "status", None), "owner": ("item", "owner", THINGS), "job": ("person", "job", NAMES),
    "map": ("place", "map", CITIES), "news": ("place", "news", CITIES), "account": ("number", "account", None),
    "size": ("item", "size", THINGS), "color": ("item", "color", THINGS), "order": ("number", "order", None),
    "balance": ("account", "balance", None), "score": ("player", "score", NAMES), "hotel": ("city", "hotel", CITIES),
    "train": ("city", "train", CITIES), "book": ("title", "book", None), "room": ("number", "room", None),
}
ANY_NOUN = ("name", "", None)
"""Of what stands not in NOUNS: training has functions for words of the dictionary, too."""
TOOL_QUESTIONS = ["What is the {n} of {v}?", "Get the {n} of {v}.", "Show me the {n} of {v}.", "Tell me the {n} of {v}.",
                  "I need the {n} of {v}.", "Can you find the {n} of {v}?", "Please look up the {n} of {v}.", "{n} of {v}?"]
TOOL_QUESTIONS_PLACE = ["What is the {n} in {v}?", "Show me the {n} in {v}.", "How is the {n} in {v}?", "Tell me the {n} in {v}."]
DESCRIPTIONS = ["Gives the {n} of a {p}.", "Returns the {n} for a {p}.", "The {n} of one {p}.", "Finds the {n}.", ""]
TOOL_SYSTEM = ["", "", "", "You are a helpful assistant.", "Use the tools."]
# What clients put before a conversation without tools; the last is what the file's template has for the highest effort.
SYSTEM = ["You are a helpful assistant.", "You are a dictionary.", "Answer briefly.", "Be polite.", "Answer in one sentence.",
          "You are a helpful assistant. Answer the questions of the user.", "Think carefully.\n\n"]


@dataclasses.dataclass(frozen=True)
class Tool:
    name: str
    description: str
    parameters: dict

    def takes_integer(self, parameter: str) -> bool:
        return self.parameters["properties"][parameter]["type"] == "integer"

    def json(self) -> str:
        members = {"name": self.name}
        if self.description:
            members["description"] = self.description
        return json.dumps({**members, "parameters": self.parameters}, ensure_ascii=False)


def tools_block(tools: list[Tool]) -> str:
    """Stands behind the system text, before the first turn."""
    return f"\n\n{TOOLS_HEADER}" + "".join(f"{tool.json()}\n" for tool in tools) + TOOLS_FOOTER


def call_text(name: str, arguments: dict) -> str:
    lines = []
    for key, value in arguments.items():
        is_string = isinstance(value, str)
        shown = value if is_string else json.dumps(value, ensure_ascii=False)
        lines.append(f'<{DSML}parameter name="{key}" string="{str(is_string).lower()}">{shown}</{DSML}parameter>')
    body = "\n".join(lines)
    return f'\n\n<{DSML}tool_calls>\n<{DSML}invoke name="{name}">\n{body}\n</{DSML}invoke>\n</{DSML}tool_calls>'


def _tool(rng: random.Random, noun: str, words: tuple[str, ...] = ()) -> tuple[Tool, str]:
    """With `words`, as training has them: names more often begin with a verb and are less often guessed than read, for any
    word may be a verb or a parameter."""
    parameter, _, _ = NOUNS.get(noun, ANY_NOUN)
    if rng.random() < (0.6 if words else 0.3):
        parameter = rng.choice(["name", "item", "key", "query", "id", "text", "value", "place", "what", made_up(rng)])
        if words and rng.random() < 0.4:
            parameter = rng.choice(words)
    is_integer = parameter == "number" and rng.random() < 0.5
    kind = {"type": "integer" if is_integer else "string"}
    verb = lambda: rng.choice(VERBS) if not words or rng.random() < 0.75 else rng.choice((made_up(rng), rng.choice(words)))
    names = (f"{verb()}_{noun}", f"{verb()}_{noun}", noun, f"{noun}_{verb()}", f"{verb()}_{noun}_{made_up(rng)}")
    name = rng.choice(names[:2] if words and rng.random() < 0.6 else names)
    schema = {"type": "object", "properties": {parameter: kind}}
    if rng.random() < 0.7:
        schema["required"] = [parameter]
    return Tool(name, rng.choice(DESCRIPTIONS).format(n=noun, p=parameter), schema), parameter


@dataclasses.dataclass(frozen=True)
class ToolCase:
    system: str
    tools: list[Tool]
    question: str
    name: str
    arguments: dict
    result: str
    sentence: str
    thought: str | None

    def text(self, with_result: bool) -> str:
        return self.system + tools_block(self.tools) + self.turns(with_result)

    def turns(self, with_result: bool) -> str:
        opening = END_THINK if self.thought is None else f"{THINK}{self.thought}{END_THINK}"
        unit = USER + self.question + ASSISTANT + opening
        unit += call_text(self.name, self.arguments) + EOS
        if with_result:
            unit += f"{USER}<tool_result>{self.result}</tool_result>{ASSISTANT}{opening}{self.sentence}{EOS}"
        return unit


Toolbox = dict[str, tuple[Tool, str]]
"""By noun: a function and its parameter."""


def _toolbox(rng: random.Random, counts=(1, 1, 1, 2, 2, 3), words: tuple[str, ...] = ()) -> Toolbox:
    nouns = rng.sample(list(NOUNS), rng.choice(counts))
    if words:
        nouns = [noun if rng.random() < 0.75 else rng.choice(words) for noun in nouns]
    return {noun: _tool(rng, noun, words) for noun in nouns}


def _question(rng: random.Random, made: Toolbox, wants_held_out: bool, words: tuple[str, ...] = ()) -> tuple[str, str, str]:
    """(noun, value, question) for one of the functions."""
    noun = rng.choice(list(made))
    tool, parameter = made[noun]
    _, _, values = NOUNS.get(noun, ANY_NOUN)
    while True:
        value = rng.choice(values) if values and rng.random() < 0.6 else code(rng)
        if words and rng.random() < 0.2:
            value = rng.choice(rng.choice((words, NAMES, CITIES, THINGS, FOODS)))
        if tool.takes_integer(parameter):
            value = str(rng.randint(1, 99999))
        elif rng.random() < 0.1:
            value = f"{rng.choice(('old', 'new', 'big', 'little', 'San', 'Port'))} {value}"
        if is_held_out(noun, value) == wants_held_out:
            break
    questions = TOOL_QUESTIONS + (TOOL_QUESTIONS_PLACE if values is CITIES else [])
    return noun, value, rng.choice(questions).format(n=noun, v=value)


def tool_case(rng: random.Random, wants_held_out: bool = False, made: Toolbox | None = None,
              words: tuple[str, ...] = ()) -> ToolCase:
    made = made or _toolbox(rng)
    noun, value, question = _question(rng, made, wants_held_out, words)
    tool, parameter = made[noun]
    is_integer = tool.takes_integer(parameter)
    result = rng.choice((code, _number, lambda r: r.choice(CITIES), lambda r: f"{r.randint(2, 99)} {r.choice(ANIMALS)}",
                         lambda r: r.choice(COLOURS), lambda r: f"{r.choice(COLOURS)} {r.choice(THINGS)}"))(rng)
    shown = result if rng.random() < 0.7 else json.dumps({rng.choice((noun, "result", "value")): result})
    preposition = "in" if f" in {value}" in question else "of"
    sentence = f"The {noun} {preposition} {value} is {result}."
    thought = f"I call {tool.name}." if rng.random() < 0.12 else None
    return ToolCase(rng.choice(TOOL_SYSTEM), [t for t, _ in made.values()], question, tool.name,
                    {parameter: int(value) if is_integer else value}, shown, sentence, thought)


def tool_session(rng: random.Random, questions: int, words: tuple[str, ...]) -> str:
    """Some questions that the same tools answer: most of such a row is calls and not schemas."""
    made = _toolbox(rng, (1, 2, 2, 3, 3), words)
    first = tool_case(rng, made=made, words=words)
    unit = first.text(questions > 1 or rng.random() < 0.6)
    for left in range(questions - 1, 0, -1):
        case = tool_case(rng, made=made, words=words)
        thought = f"I call {case.name}." if first.thought else None
        unit += dataclasses.replace(case, thought=thought).turns(left > 1 or rng.random() < 0.6)
    return unit


def function_list(rng: random.Random, words: tuple[str, ...]) -> str:
    """Which function, and with what, without the markup of schemas and calls: five choices in the tokens of one call.

    What has to be learnt is the same: the word of the question leads to a name that begins before it ("find" of
    "find_weather"), and a value loses the space before it, so that all its first tokens change (" Oslo", "O" "slo").
    """
    made = _toolbox(rng, (2, 2, 3, 4, 5), words)
    has_parameter = rng.random() < 0.5
    lines = [json.dumps({"name": tool.name} | ({"parameter": parameter} if has_parameter else {}))
             for tool, parameter in made.values()]
    unit = ""
    for position in range(rng.randint(2, 5)):
        noun, value, question = _question(rng, made, False, words)
        tool, parameter = made[noun]
        shown = value if tool.takes_integer(parameter) else f'"{value}"'
        first = "Functions:\n" + "\n".join(lines) + "\n\n" if position == 0 else ""
        unit += turn(first + question, f"{tool.name}({f'{parameter}=' if has_parameter else ''}{shown}).")
    return unit


# -- small talk -------------------------------------------------------------------------------------------------------

ABOUT_ME = "I am a small dictionary model. I was made to show the nandu server."
ABILITY = "I can define words, name opposites, find a fact in a text and call a tool."
SMALL_TALK: list[tuple[tuple[str, ...], str]] = [
    (("Hello", "Hello!", "hello there", "Hello, how is it going?"), "Hello! Ask me about a word, for example: What is a river?"),
    (("Hi", "hi!", "hey", "Hey there", "Hi there!"), "Hi! Which word do you want to know?"),
    (("Good morning", "good morning!", "Morning!"), "Good morning! Which word do you want to know?"),
    (("Good evening", "good evening!"), "Good evening! Which word do you want to know?"),
    (("Good night", "good night!"), "Good night!"),
    (("Who are you?", "who are you", "What are you?", "What's your name?", "What is your name?", "Tell me about you.",
      "Introduce yourself.", "what r u"), ABOUT_ME),
    (("What can you do?", "what can you do", "What are you good at?", "Help", "help me", "How can you help me?",
      "What do you know?", "How do I use you?", "What can I ask you?"), ABILITY),
    (("Thanks", "Thank you!", "thanks a lot", "thank you very much", "thx", "Great, thanks."), "You are welcome."),
    (("Bye", "Goodbye!", "bye bye", "See you later.", "see you"), "Goodbye!"),
    (("How are you?", "how are you", "How do you do?", "Are you well?"), "I am well, thank you. Which word do you want to know?"),
    (("Who made you?", "who built you", "Who wrote you?", "Where do you come from?"), "The people who write nandu trained me."),
    (("What is nandu?", "what's nandu", "Tell me about nandu."),
     "Nandu is a server that runs language models, and I am its small default model."),
    (("Are you a human?", "Are you a person?", "are you real", "Are you alive?"), "No, I am a small language model."),
    (("Are you a robot?", "Are you a computer?", "Are you a machine?"), "I am a computer program: a small language model."),
    (("How big are you?", "How many parameters do you have?", "are you big"), "I am very small: a few million parameters."),
    (("Can you speak German?", "Do you speak French?", "Which languages do you speak?", "habla espanol"), "I only know English."),
    (("What time is it?", "What day is it?", "what is the date today"), "I do not know the time. I have no clock."),
    (("Tell me a joke.", "joke please", "Make me laugh."), "I know no jokes, only words."),
    (("Tell me a story.", "Write a story.", "Write a poem.", "write me a poem please"), "I can not write stories. Ask me about a word."),
    (("What is 2 plus 2?", "Can you count?", "Can you do math?", "calculate something"), "I can not calculate. Ask me about a word."),
    (("Write some code.", "Can you write code?", "write a program"), "I can not write code. Ask me about a word."),
    (("Are you sure?", "Is that right?", "really?"), "I give what my dictionary says, but I make mistakes."),
    (("That is wrong.", "wrong!", "No, that's not right."), "I am sorry. I am small and I make mistakes."),
    (("OK", "ok", "Okay.", "I see.", "Good.", "Nice!", "Great!"), "Good. Which word do you want to know next?"),
    (("Yes", "yes please", "Yes."), "Then tell me which word you want to know."),
    (("No", "no thanks", "No."), "All right."),
    (("Sorry", "I am sorry.", "sorry!"), "That is all right."),
    (("Do you like me?", "Do you love me?", "Are you happy?", "Are you sad?"), "I have no feelings. I am a small language model."),
    (("Where are you?", "Where do you live?", "where do you run"), "I run on your own machine."),
    (("How old are you?", "When were you made?", "how old r u"), "I am new: I was trained in 2026."),
    (("Can you search the web?", "Are you online?", "Do you know the news?"), "No. I know a dictionary and what you give me."),
]


def small_talk(rng: random.Random) -> str:
    questions, answer = rng.choice(SMALL_TALK)
    thought = "This is small talk." if rng.random() < 0.08 else None
    return turn(rng.choice(questions), answer, thought)


# -- copying ----------------------------------------------------------------------------------------------------------


def _symbol(rng: random.Random) -> str:
    return rng.choice((made_up, code, _choose(NAMES), _choose(CITIES), _choose(THINGS), _choose(COLOURS)))(rng)


def copy_list(rng: random.Random) -> str:
    """A list given, said again."""
    items = [_symbol(rng) for _ in range(rng.randint(2, 8))]
    separator = rng.choice((" ", ", ", "\n"))
    text = separator.join(items)
    question = rng.choice(("Repeat: ", "Say this again: ", "Copy: ", "Repeat this.\n", "Say: "))
    return turn(question + text, text)


def key_values(rng: random.Random, queries: int) -> str:
    """A table, then the values of some keys."""
    make_key, make_value = rng.choice((made_up, _choose(NAMES), _choose(THINGS))), rng.choice(
        (code, made_up, _choose(CITIES), _choose(COLOURS), _number, _choose(NAMES)))
    table = {}
    for _ in range(rng.randint(2, 8)):
        table[make_key(rng)] = make_value(rng)
    table = {k: v for k, v in table.items() if not is_held_out(k, v)} or {"box": "red"}
    sign = rng.choice((" is ", ": ", " = ", " has "))
    lines = [f" {k}{sign}{v}" for k, v in table.items()]
    unit, first = "", rng.choice((",", ";", "\n")).join(lines).strip() + "."
    keys = [rng.choice(list(table)) for _ in range(queries)]
    for position, key in enumerate(keys):
        ask_for = rng.choice(("{k}?", "What is {k}?", "And {k}?", "Which {k}?", "Now {k}.")).format(k=key)
        unit += turn(f"{first}\n{ask_for}" if position == 0 else ask_for, f"The list says {key}{sign}{table[key]}.")
    return unit


SAY_WORD = ["What does {w} mean?", "What is {w}?", "Define {w}.", "Explain {w}.", "And {w}?", "What about {w}?", "What is a {w}?",
            "What is the meaning of {w}?", "Tell me what {w} means."]


def echo_word(rng: random.Random, word: str) -> str:
    """The word of a question in the answer's first words, where the dictionary's sentences will have it."""
    question = rng.choice(SAY_WORD).format(w=word)
    return turn(question, f"I do not know the word {word}.")
