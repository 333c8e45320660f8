"""Training rows of the default model: (tokens, target mask), made on the fly, seeded, from nothing but WordNet and us.

Stages:
  copy   what makes copying arise: random tokens said again, tables with queries, short look-ups, words echoed
  facts  the same without random tokens: what can be found again behind some hundred tokens
  tools  which function, which argument
  mix    the dictionary (three quarters of the tokens) and all skills
  long   look-ups and dictionary turns in rows of 512 tokens and more

A row is one sequence to the model: it begins with the sentence-begin marker and holds turns until it is full. The first
turn of a row of 64 is a fresh conversation of one question, so `mix` wants at least half of its tokens in short rows
(T of 48 to 64); tool calls need T >= 256, and look-ups in a text T >= 128. The mask is true where the prediction of that
token counts: the answers with their end marker, and in `copy` what a row repeats.

    python tools/model/data.py prepare      WordNet, then the tokenizer, into NANDU_DICT_DATA
    python tools/model/data.py show STAGE T prints rows, targets in green
    python tools/model/data.py speed        tokens a second, supervised and padded share
"""

from __future__ import annotations

import random
import re
import sys
import time

import numpy as np

import data_questions as questions
import skills
import tokenizer as tk
import wordnet

Stage = ("copy", "facts", "tools", "mix", "long")
TARGET = 2000
OFTEN = 500
"""The most frequent words, which the gate asks for, are seen twice as often as the others."""
OFTEN_TIMES = 2
TOKENIZER = wordnet.WORK / "tokenizer.json"
SYSTEM_SHARE = 0.1
POOL_UNITS = 6000


class Source:
    """Units of conversation as text."""

    def __init__(self, target: int = TARGET):
        self.words = wordnet.load(target)
        self.related = questions.Relations(self.words)
        self.rare = wordnet.rare_words(target)
        self.offensive = sorted(wordnet.offensive_words(target))
        self.plain = tuple(entry.word for entry in self.words)
        self._order: list[wordnet.Word] = []

    def next_word(self, rng: random.Random) -> wordnet.Word:
        """Every word comes as often as its weight says, to within one round."""
        if not self._order:
            self._order = self.words + self.words[:OFTEN] * (OFTEN_TIMES - 1)
            rng.shuffle(self._order)
        return self._order.pop()

    def unknown_word(self, rng: random.Random) -> str:
        if rng.random() < 0.3:
            return rng.choice(self.rare)
        while True:
            word = skills.made_up(rng)
            if not wordnet.is_known_form(word):
                return word

    def dictionary(self, rng: random.Random) -> str:
        """A turn that may stand anywhere in a conversation."""
        draw = rng.random()
        if draw < 0.70:
            return questions.define(rng, self.next_word(rng))
        if draw < 0.72:
            return questions.define_then_opposite(rng, rng.choice(self.related.opposite))
        if draw < 0.88:
            return questions.relation(rng, self.related)
        if draw < 0.94:
            return questions.unknown(rng, self.unknown_word(rng))
        if draw < 0.97:
            return questions.unexplained(rng, rng.choice(self.offensive))
        return skills.small_talk(rng)

    def follow_up(self, rng: random.Random) -> str:
        """A turn behind another one."""
        if rng.random() < 0.35:
            return questions.define(rng, self.next_word(rng), True)
        if rng.random() < 0.05:
            return questions.unknown(rng, self.unknown_word(rng), True)
        if rng.random() < 0.02:
            return questions.unexplained(rng, rng.choice(self.offensive), True)
        return self.dictionary(rng)

    def short_look_up(self, rng: random.Random) -> str:
        count = rng.choice((2, 3, 3, 4, 5, 6, 8, 10, 12, 14, 16))
        return skills.look_up(rng, count, rng.randint(2, 5))

    def dense_look_up(self, rng: random.Random) -> str:
        """Few facts, nearly all of them asked."""
        count = rng.randint(1, 6)
        return skills.look_up(rng, count, count, absent=0)

    def tool(self, rng: random.Random) -> str:
        return skills.tool_session(rng, rng.choice((1, 2, 2, 3)), self.plain)

    def tools(self, rng: random.Random) -> str:
        return skills.tool_session(rng, rng.choice((2, 3, 3, 4)), self.plain)

    def functions(self, rng: random.Random) -> str:
        return skills.function_list(rng, self.plain)

    def copying(self, rng: random.Random) -> str:
        draw = rng.random()
        if draw < 0.30:
            return skills.key_values(rng, rng.randint(1, 6))
        if draw < 0.45:
            return skills.copy_list(rng)
        if draw < 0.75:
            return self.dense_look_up(rng)
        return self.echo(rng)

    def echo(self, rng: random.Random) -> str:
        return skills.echo_word(rng, rng.choice(self.words).word if rng.random() < 0.5 else skills.made_up(rng))

    def long_look_up(self, rng: random.Random, tokens: int) -> str:
        """A text of up to about that many tokens, and questions in the rest of the row."""
        share = rng.choice((0.3, 0.5, 0.7, 0.85))
        count = max(3, int(tokens * share / 13))
        return skills.look_up(rng, count, 2 + int(tokens * (1 - share) / 26), absent=0.03)


class Pool:
    """Encoded units by length, so that a row can be filled exactly."""

    def __init__(self, make, encode: tk.Encoder):
        self._make, self._encode = make, encode
        self._by_length: dict[int, list[np.ndarray]] = {}
        self._left = 0

    def _fill(self, rng: random.Random) -> None:
        texts = [self._make(rng) for _ in range(POOL_UNITS)]
        self._by_length = {}
        for ids in self._encode.batch(texts):
            self._by_length.setdefault(len(ids), []).append(np.asarray(ids, np.int32))
        self._left = len(texts)
        self._lengths = sorted(self._by_length)

    def take(self, rng: random.Random, room: int, is_first: bool) -> np.ndarray | None:
        """A unit of at most `room` tokens: any where it is the row's first or there is much room, one that fills it well
        else."""
        # What is left of a pool is what did not fit before; it goes when the pool is made anew.
        if self._left < POOL_UNITS // 3:
            self._fill(rng)
        fitting = [n for n in self._lengths if n <= room and self._by_length[n]]
        if not fitting and is_first:
            self._fill(rng)
            fitting = [n for n in self._lengths if n <= room]
        if not fitting:
            return None
        if is_first or room > 2.2 * self._lengths[len(self._lengths) // 2]:
            length = rng.choices(fitting, [len(self._by_length[n]) for n in fitting])[0]
        else:
            # Half of the time the best fit, for else the tail of every row would be padding.
            length = rng.choice(fitting[-3:]) if rng.random() < 0.6 else rng.choices(
                fitting, [len(self._by_length[n]) for n in fitting])[0]
        self._left -= 1
        return self._by_length[length].pop()


class Rows:
    """Makes batches; `batch` below uses one of these for the process."""

    def __init__(self, tokenizer_path=TOKENIZER, target: int = TARGET):
        self.encode = tk.load(str(tokenizer_path))
        self.source = source = Source(target)
        self.pools = {name: Pool(make, self.encode) for name, make in {
            "dictionary": source.dictionary, "follow_up": source.follow_up, "look_up": source.short_look_up,
            "tool": source.tool, "tools": source.tools, "functions": source.functions, "copying": source.copying,
            "echo": source.echo}.items()}
        self._systems = [np.asarray(self.encode(text), np.int32) for text in skills.SYSTEM]

    def batch(self, stage: str, rng: np.random.Generator, tokens_per_row: int, rows: int):
        make = {"copy": self._copy_row, "facts": self._facts_row, "tools": self._tools_row, "mix": self._mix_row,
                "long": self._long_row}[stage]
        draw = random.Random(int(rng.integers(1 << 62)))
        tokens = np.full((rows, tokens_per_row), tk.PAD, np.int32)
        mask = np.zeros((rows, tokens_per_row), bool)
        for r in range(rows):
            mask[r] = make(draw, tokens[r])
        return tokens, mask

    # Each fills its row and returns the row's mask.

    def _copy_row(self, rng: random.Random, row: np.ndarray) -> np.ndarray:
        draw = rng.random()
        if draw < 0.25:
            return repeated_row(rng, row)
        if draw < 0.40:
            return recall_row(rng, row)
        return self._filled(rng, row, "tool" if len(row) >= 256 and draw < 0.55 else "copying", "copying")

    def _facts_row(self, rng: random.Random, row: np.ndarray) -> np.ndarray:
        return self._filled(rng, row, "look_up" if rng.random() < 0.75 else "copying", "copying")

    def _tools_row(self, rng: random.Random, row: np.ndarray) -> np.ndarray:
        return self._filled(rng, row, "tools" if len(row) >= 256 and rng.random() < 0.8 else "functions", "functions")

    def _mix_row(self, rng: random.Random, row: np.ndarray) -> np.ndarray:
        draw = rng.random()
        if len(row) >= 192 and draw < 0.35:
            self._fill(rng, row, "tool", "follow_up")
        elif len(row) >= 96 and draw < 0.85:
            at = self._fill(rng, row, "look_up", "look_up" if draw < 0.70 else "follow_up")
            self._fill(rng, row, None, "follow_up", at)
        elif draw > 0.97:
            self._fill(rng, row, "copying", "follow_up")
        else:
            self._fill(rng, row, "dictionary", "follow_up")
        return answers(row)

    def _long_row(self, rng: random.Random, row: np.ndarray) -> np.ndarray:
        if rng.random() < 0.15:
            return self._mix_row(rng, row)
        # A long text costs a millisecond, so it is made for its row; the pool only fills what is left.
        ids = self.encode(skills.BOS + self.source.long_look_up(rng, len(row)))
        end = min(len(row), len(ids))
        row[:end] = ids[:end]
        self._fill(rng, row, None, "follow_up", end)
        return answers(row)

    def _filled(self, rng: random.Random, row: np.ndarray, first: str, then: str) -> np.ndarray:
        at = self._fill(rng, row, first, then)
        # Only the shortest units fit behind the others.
        self._fill(rng, row, None, "echo", at)
        return answers(row)

    def _fill(self, rng: random.Random, row: np.ndarray, first: str | None, then: str, at: int = 0) -> int:
        if first:
            row[0] = tk.BOS
            at, name = 1, first
            if first in ("dictionary", "look_up") and rng.random() < SYSTEM_SHARE:
                text = rng.choice(self._systems)
                row[1: 1 + len(text)] = text
                at += len(text)
        else:
            name = then
        while (unit := self.pools[name].take(rng, len(row) - at, name == first)) is not None:
            row[at: at + len(unit)] = unit
            at += len(unit)
            name, first = then, None
        return at


def answers(row: np.ndarray) -> np.ndarray:
    """True on what the model says: behind the marker of its turn and the opening that the prompt gives, up to the end."""
    opened = np.cumsum(row == tk.ASSISTANT)
    closed = np.cumsum(row == tk.EOS)
    inside = np.zeros(len(row), bool)
    inside[1:] = opened[:-1] > closed[:-1]
    inside[1:] &= row[:-1] != tk.ASSISTANT
    return inside & (row != tk.PAD)


def _random_tokens(rng: random.Random, count: int, first: int, span: int) -> np.ndarray:
    raw = np.frombuffer(rng.randbytes(2 * count), np.uint16).astype(np.int32)
    return first + raw % span


def _alphabet(rng: random.Random) -> tuple[int, int]:
    """(first id, how many): a copying circuit arises sooner among few tokens, and must then serve all of them. The first
    merges are the most frequent ones."""
    return (272, 256) if rng.random() < 0.5 else (16, tk.VOCABULARY_SIZE - 16)


def repeated_row(rng: random.Random, row: np.ndarray) -> np.ndarray:
    """Random tokens, again and again: nearly every token can be known, and only by copying."""
    row[0] = tk.BOS
    period = rng.randint(3, max(4, len(row) // 3))
    segment = _random_tokens(rng, period, *_alphabet(rng))
    row[1:] = np.resize(segment, len(row) - 1)
    mask = np.ones(len(row), bool)
    # The first token of the second round can be known by counting only.
    mask[: period + 2] = False
    return mask


def recall_row(rng: random.Random, row: np.ndarray) -> np.ndarray:
    """Pairs in random order: behind a key that came before, its value is known."""
    row[0] = tk.BOS
    width = rng.choice((1, 1, 2))
    alphabet = _alphabet(rng)
    keys = np.unique(_random_tokens(rng, rng.randint(3, max(4, len(row) // 10)), *alphabet))
    values = [_random_tokens(rng, width, *alphabet) for _ in keys]
    mask = np.zeros(len(row), bool)
    seen, at = set(), 1
    while at + 1 + width <= len(row):
        i = rng.randrange(len(keys))
        row[at] = keys[i]
        row[at + 1: at + 1 + width] = values[i]
        mask[at + 1: at + 1 + width] = i in seen
        seen.add(i)
        at += 1 + width
    return mask


_rows: Rows | None = None


def use(target: int) -> None:
    """How many words the rows of `batch` are about, from now on in this process and those forked from it."""
    global _rows
    _rows = Rows(target=target)


def batch(stage: str, rng: np.random.Generator, tokens_per_row: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens int32[rows, T], mask bool[rows, T]). Units come from pools that outlive the call, so a row follows from the
    calls before it too: resuming from a checkpoint goes on with other rows of the same kind."""
    global _rows
    _rows = _rows or Rows()
    return _rows.batch(stage, rng, tokens_per_row, rows)


def tokenizer_texts(rng: random.Random) -> list[str]:
    """What the vocabulary is learnt from: the mixture, without its markers and without long numbers, which would
    fill the vocabulary with numerals that are each seen once."""
    source = Source()
    makers = [(source.follow_up, 40_000), (source.short_look_up, 3_000), (source.tool, 2_000)]
    texts = [make(rng) for make, count in makers for _ in range(count)]
    # A word that is one token is copied in one step, so those of the dictionary come before all else that is frequent.
    texts += [f" {entry.word}" for entry in source.words for _ in range(60)]
    texts += [form for name in skills.NAMES + skills.CITIES for form in (name, f" {name}") for _ in range(40)]
    markers = re.compile("|".join(map(re.escape, tk.SPECIAL_TOKENS)))
    return [re.sub(r"(\d\d)\d+", r"\1", part) for text in texts for part in markers.split(text) if part]


def prepare() -> None:
    wordnet.fetch()
    if not TOKENIZER.exists():
        tk.train(str(TOKENIZER))


def show(stage: str, width: int, count: int = 6) -> None:
    rows = Rows()
    tokens, mask = rows.batch(stage, np.random.default_rng(1), width, count)
    for ids, targets in zip(tokens, mask):
        print("".join(f"\x1b[32m{rows.encode.decode([int(t)])}\x1b[0m" if m else rows.encode.decode([int(t)])
                      for t, m in zip(ids, targets)))
        print("-" * 100)


def speed() -> None:
    rows, rng = Rows(), np.random.default_rng(1)
    for stage, width in (("copy", 64), ("copy", 128), ("copy", 256), ("mix", 48), ("mix", 64), ("mix", 128), ("mix", 256),
                         ("long", 512), ("long", 1024), ("long", 2048)):
        count = 200_000 // width
        rows.batch(stage, rng, width, 8)
        started = time.process_time()
        tokens, mask = rows.batch(stage, rng, width, count)
        seconds = time.process_time() - started
        print(f"{stage} {width}: {tokens.size / seconds:,.0f} tokens/s, supervised {mask.mean():.2f}, "
              f"padding {(tokens == tk.PAD).mean():.3f}")


if __name__ == "__main__":
    command = sys.argv[1] if len(sys.argv) > 1 else "prepare"
    if command == "show":
        show(sys.argv[2], int(sys.argv[3]))
    else:
        {"prepare": prepare, "speed": speed}[command]()
