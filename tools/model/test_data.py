"""Tests of the training data and of the gate. Needs data.py prepared.

    python -m pytest -q tools/model/test_data.py
"""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest

import data
import data_questions as questions
import gate
import skills
import tokenizer as tk
import wordnet


@pytest.fixture(scope="session")
def rows() -> data.Rows:
    data.prepare()
    return data.Rows()


def turns_of(rows: data.Rows, width: int) -> list[str]:
    """Questions and answers of many `mix` rows."""
    tokens, _ = rows.batch("mix", np.random.default_rng(3), width, 4000)
    flat = tokens[tokens != tk.PAD].tolist()
    return [turn for turn in rows.encode.decode(flat).replace(skills.BOS, skills.USER).split(skills.USER) if turn]


@pytest.fixture(scope="session")
def turns(rows: data.Rows) -> list[str]:
    return turns_of(rows, 96)


def test_special_tokens_and_bytes_come_first(rows: data.Rows) -> None:
    tokens, merges, types = tk.vocabulary(str(data.TOKENIZER))
    assert len(tokens) == len(types) == tk.VOCABULARY_SIZE
    assert tokens[:16] == tk.SPECIAL_TOKENS
    assert all(len(token) == 1 for token in tokens[16:272])
    assert len(merges) == tk.VOCABULARY_SIZE - 272
    assert ["".join(merge.split(" ")) for merge in merges] == tokens[272:]


@pytest.mark.parametrize("text", [
    "What is a river?", 'what\'s a "river"', "A river is a large natural stream of water.", "Zürich 12345 — 北京, かな\r\n\tx  y ",
    "{\"name\": \"get_weather\"}", "", " ", "\n\n- a\n- b", "İ\u0301 🙂",
])
def test_text_survives_the_tokenizer(rows: data.Rows, text: str) -> None:
    assert rows.encode.decode(rows.encode(text)) == text


def test_frequent_words_are_single_tokens(rows: data.Rows) -> None:
    words = wordnet.load(data.TARGET)[:500]
    assert sum(len(rows.encode(f" {entry.word}")) == 1 for entry in words) >= 480


def test_held_out_phrasings_are_not_trained(turns: list[str]) -> None:
    patterns = [re.compile(re.escape(t).replace(r"\{w\}", r"\S+"), re.IGNORECASE) for t in questions.HELD_OUT]
    trained = [*questions.ANY, *questions.NOUN, *questions.VERB, *questions.FOLLOW_UP]
    assert not set(questions.HELD_OUT) & set(trained)
    assert len(set(trained)) >= 30
    for turn in turns:
        question = turn.split(skills.ASSISTANT)[0]
        assert not any(pattern.fullmatch(question) for pattern in patterns)


def test_held_out_facts_are_not_trained() -> None:
    rng = random.Random(1)
    for _ in range(200):
        assert not any(skills.is_held_out(key, value) for _, key, value in skills.facts(rng, 10))
    assert all(skills.is_held_out(key, value) for _, key, value in skills.facts(rng, 10, True))


@pytest.mark.parametrize(("stage", "width"), [("facts", 256), ("tools", 128), ("tools", 256), ("mix", 64), ("mix", 128),
                                               ("mix", 256), ("long", 512)])
def test_masks_cover_answers_and_their_ends(rows: data.Rows, stage: str, width: int) -> None:
    tokens, mask = rows.batch(stage, np.random.default_rng(5), width, 200)
    assert tokens.dtype == np.int32 and mask.dtype == bool and tokens.shape == mask.shape == (200, width)
    for row, targets in zip(tokens.tolist(), mask.tolist()):
        assert row[0] == tk.BOS
        is_answer, expected = False, []
        for before, token in zip([tk.PAD, *row], row):
            # The prompt gives the marker of the answer and the opening of the reasoning; the rest is said.
            expected.append(is_answer and before != tk.ASSISTANT)
            if token == tk.ASSISTANT:
                is_answer = True
            elif token == tk.EOS:
                is_answer = False
        assert targets == [e and t != tk.PAD for e, t in zip(expected, row)]


def test_rows_are_mostly_full(rows: data.Rows) -> None:
    for stage, width in (("copy", 64), ("copy", 256), ("facts", 128), ("facts", 256), ("tools", 128), ("tools", 256),
                         ("mix", 64), ("mix", 128), ("mix", 256), ("long", 1024)):
        tokens, _ = rows.batch(stage, np.random.default_rng(6), width, 100)
        assert (tokens == tk.PAD).mean() < 0.12, (stage, width)


def test_copy_rows_teach_densely(rows: data.Rows) -> None:
    _, mask = rows.batch("copy", np.random.default_rng(8), 128, 300)
    assert mask.mean() > 0.3


def test_calls_are_of_listed_functions_and_say_what_was_asked(rows: data.Rows) -> None:
    rng = random.Random(3)
    for _ in range(300):
        unit = skills.function_list(rng, rows.source.plain)
        listed = {f["name"]: f.get("parameter") for f in map(json.loads, re.findall(r"^\{.*\}$", unit, re.MULTILINE))}
        asked = re.findall(rf"(?:{skills.USER}|\n\n)([^\n]+?){skills.ASSISTANT}{skills.END_THINK}(.*?){skills.EOS}", unit)
        assert len(listed) >= 2 and len(asked) >= 2
        for question, call in asked:
            name, parameter, value = re.fullmatch(r"(\w+)\((?:(\w+)=)?\"?(.*?)\"?\)\.", call).groups()
            assert listed[name] == parameter and value in question


def test_a_word_has_one_definition(rows: data.Rows) -> None:
    by_opening = {entry.definition for entry in rows.source.words}
    assert len({entry.word for entry in rows.source.words}) == len(rows.source.words)
    # Rows of 64 tokens are the dictionary's; in longer ones it shares the place with look-ups and tools.
    turns = [turn for turn in turns_of(rows, 64) if turn.endswith(skills.EOS)]
    given = [turn.split(skills.END_THINK)[-1].removesuffix(skills.EOS) for turn in turns]
    defined = [answer for answer in given if answer in by_opening]
    assert len(defined) > 0.6 * len(given)


def test_definitions_are_clean(rows: data.Rows) -> None:
    listed = gate.offensive_words()
    for entry in rows.source.words:
        assert re.fullmatch(r"[A-Z].*[^\s.,;:]\.", entry.definition), entry.definition
        assert "(" not in entry.definition and ";" not in entry.definition
        assert f" {entry.word} " in entry.definition
        assert entry.word not in listed
        assert not wordnet.OFFENSIVE.search(entry.definition), entry.definition


def test_yes_and_no_are_balanced(rows: data.Rows) -> None:
    rng = random.Random(2)
    drawn = [rows.source.related.yes_no_pairs(rng) for _ in range(4000)]
    assert 0.45 < sum(is_yes for _, _, is_yes in drawn) / len(drawn) < 0.55
    for entry, kind, is_yes in drawn:
        assert (kind in entry.kinds) == is_yes


def test_made_up_words_are_no_words(rows: data.Rows) -> None:
    rng = random.Random(4)
    known = {entry.word for entry in rows.source.words}
    drawn = [rows.source.unknown_word(rng) for _ in range(2000)]
    assert not known & set(drawn)
    assert len(set(drawn)) > 1800


@pytest.mark.parametrize("kind", [kind for kind in gate.KINDS if kind != "offensive"])
def test_the_gate_accepts_what_it_expects(kind: str) -> None:
    def best(case: gate.Case) -> str:
        call = skills.call_text(*case.call) if case.call else ""
        return ("Hm." + skills.END_THINK if case.thinks else "") + case.expected + call + skills.EOS

    asked = gate.cases(kind)
    assert asked and gate.cases(kind) is asked
    scores = gate.score(kind, [best(case) for case in asked])
    assert scores.pop("count") == len(asked)
    assert set(scores.values()) == {1.0}, scores
    assert not gate.wrong(kind, [best(case) for case in asked])
    # Cut off, empty, or with a marker inside: none is in form, and none of these is right.
    assert gate.score(kind, ["" for _ in asked])["right"] == 0
    assert gate.score(kind, [case.expected for case in asked])["in_form"] == 0
    assert gate.score(kind, [best(case).removesuffix(skills.EOS) + skills.USER + skills.EOS for case in asked])["in_form"] == 0


def test_look_ups_have_their_length(rows: data.Rows) -> None:
    for kind, low, high in (("look_up_200", 150, 240), ("look_up_2000", 1700, 2051)):
        lengths = [len(rows.encode(case.prompt)) for case in gate.cases(kind)]
        assert low <= min(lengths) and max(lengths) <= high, (min(lengths), max(lengths))


def test_listed_words_are_noticed() -> None:
    asked = gate.cases("offensive")[:2]
    listed = next(iter(gate.offensive_words() - set(asked[1].messages[0]["content"].lower().split())))
    assert gate.score("offensive", ["A river is water." + skills.EOS, f"A person is a {listed}." + skills.EOS])["right"] == 0.5


def test_a_piece_of_the_asked_word_is_told_from_a_word_of_its_own() -> None:
    case = gate.Case("offensive", gate.user("What does lewdness mean?"), "")
    assert "lewd" in gate.offensive_words()
    for text, is_right, is_echo in (("I do not know the word lewdness.", True, True),
                                    ("I do not know the word lewd.", False, True), ("A person is a tom.", False, False)):
        answer = gate.Answer(text)
        assert (gate.is_right(case, answer), gate.is_echo_at_most(case, answer)) == (is_right, is_echo), text
