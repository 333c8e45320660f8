"""The default model's tokenizer: byte-level BPE in DeepSeek's form, with a vocabulary of 4096.

Ids 0-15 are the special tokens, 16-271 the bytes, then the merges in order. The three split expressions are those that
llama.cpp and nandu apply for `tokenizer.ggml.pre = joyai-llm`, so a GGUF with `vocabulary(path)` tokenises the same.
"""

from __future__ import annotations

import json
import random

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

VOCABULARY_SIZE = 4096
BOS, EOS, PAD, USER, ASSISTANT, REMINDER, THINK, END_THINK, DSML = range(9)
SPECIAL_TOKENS = [
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<｜User｜>", "<｜Assistant｜>", "<｜latest_reminder｜>",
    "<think>", "</think>", "｜DSML｜", "<｜action｜>", "<｜query｜>", "<｜authority｜>", "<｜domain｜>", "<｜title｜>", "<｜read_url｜>",
    "<｜extracted_url｜>",
]
SPLITS = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
]
# Token types of GGUF (gguf.TokenType): a special token is CONTROL, except those that are shown and parsed as text.
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
SHOWN = {"<think>", "</think>", "｜DSML｜"}


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    splits = [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in SPLITS]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(out_json: str, seed: int = 5) -> tokenizers.Tokenizer:
    """Learns the merges from a sample of what the model will read, and writes the file."""
    import data  # It needs this module for everything else.

    texts = data.tokenizer_texts(random.Random(seed))
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    # The trainer puts special tokens first in the order given, then the alphabet sorted by code point.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=SPECIAL_TOKENS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=2)
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY_SIZE:
        raise SystemExit(f"tokenizer: {tokenizer.get_vocab_size()} tokens instead of {VOCABULARY_SIZE}: too little text")
    if [tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] != list(range(len(SPECIAL_TOKENS))):
        raise SystemExit("tokenizer: the special tokens are not at 0-15")
    tokenizer.save(out_json)
    return tokenizer


def rebuild(tokens: list[str], merges: list[str], out_json: str) -> None:
    """Writes the file again from what `vocabulary` made of it."""
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.save(out_json)


class Encoder:
    """Text to ids. A marker in the text becomes its special token: for text of our own making only."""

    def __init__(self, path: str):
        self.tokenizer = tokenizers.Tokenizer.from_file(path)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def __call__(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def batch(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def load(path: str) -> Encoder:
    return Encoder(path)


def vocabulary(path: str) -> tuple[list[str], list[str], list[int]]:
    """(tokens, merges, token types) as GGUF stores them: byte-level spelling, "left right"."""
    with open(path, encoding="utf8") as file:
        model = json.load(file)["model"]
    by_id = sorted(model["vocab"].items(), key=lambda item: item[1])
    tokens = [token for token, _ in by_id]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    types = [NORMAL] * len(tokens)
    for i, token in enumerate(SPECIAL_TOKENS):
        types[i] = USER_DEFINED if token in SHOWN else CONTROL
    return tokens, merges, types


if __name__ == "__main__":
    import sys

    train(sys.argv[1])
