"""Checks the encoding of conversations against the server's: the same text and the same tokens, byte for byte.

Takes rows of the training data and cases of the gate, reads them back as messages and tools, and lets the server's own
encoder write the prompt anew (gate-encoding.mjs; nandu must be built, data.py prepared).

    python tools/model/gate_encoding.py [COUNT]
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import data
import gate
import skills
import tokenizer as tk


def read_back(text: str) -> dict | None:
    """A row's text as the conversation that it is; None when it is none, as random tokens are none."""
    setup, *turns = text.removeprefix(skills.BOS).split(skills.USER)
    system, _, listed = setup.partition(f"\n\n{skills.TOOLS_HEADER}")
    tools = [json.loads(line) for line in listed.removesuffix(skills.TOOLS_FOOTER).split("\n") if line]
    messages: list[dict] = [{"role": "system", "content": system}] if system else []
    thinks = False
    for turn in turns:
        asked, answered, said = turn.partition(skills.ASSISTANT)
        if not answered or not said.endswith(skills.EOS):
            return None
        result = asked.removeprefix("<tool_result>").removesuffix("</tool_result>")
        messages.append({"role": "user", "content": asked} if result == asked else {"role": "tool", "content": result})
        thought, _, _ = said.partition(skills.END_THINK)
        answer = gate.parse(said, True)
        message = {"role": "assistant", "content": answer.text}
        if thought:
            thinks = True
            message["reasoning"] = thought.removeprefix(skills.THINK)
        if answer.calls:
            message["tool_calls"] = [{"name": name, "arguments": values} for name, values in answer.calls]
        messages.append(message)
    return {"messages": messages, "tools": tools, "thinks": thinks} if turns else None


def training_conversations(count: int) -> list[dict]:
    rows, rng, found = data.Rows(), np.random.default_rng(7), []
    while len(found) < count:
        stage, width = ("copy", "mix", "mix", "mix", "long")[len(found) % 5], (64, 64, 128, 320, 512)[len(found) % 5]
        tokens, _ = rows.batch(stage, rng, width, 1)
        ids = [int(i) for i in tokens[0] if i != tk.PAD]
        last = max((at for at, i in enumerate(ids) if i == tk.EOS), default=-1)
        if last < 0 or tk.USER not in ids:
            continue
        ids = ids[: last + 1]
        # Without tools the server forgets all reasoning before the last question: the conversation ends at the first.
        if tk.THINK in ids and tk.DSML not in ids:
            ids = ids[: next(at for at in range(ids.index(tk.THINK), len(ids)) if ids[at] == tk.EOS) + 1]
        conversation = read_back(rows.encode.decode(ids))
        if conversation is None:
            raise SystemExit(f"no conversation: {rows.encode.decode(ids)!r}")
        if conversation["thinks"] and conversation["tools"] and not all(
                "reasoning" in m for m in conversation["messages"] if m["role"] == "assistant"):
            continue  # The server would open every answer with <think>.
        ids += [tk.ASSISTANT, tk.THINK if conversation["thinks"] else tk.END_THINK]
        found.append(conversation | {"text": rows.encode.decode(ids), "ids": ids})
    return found


def gate_conversations(each: int) -> list[dict]:
    encode = tk.load(str(data.TOKENIZER))
    return [{"messages": c.messages, "tools": c.tools, "thinks": c.thinks, "text": c.prompt, "ids": encode(c.prompt)}
            for kind in gate.KINDS for c in gate.cases(kind)[:each]]


def main(count: int) -> int:
    conversations = training_conversations(count) + gate_conversations(20)
    tokens, merges, types = tk.vocabulary(str(data.TOKENIZER))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"tokens": tokens, "merges": merges, "types": types}, file)
        file.flush()
        script = pathlib.Path(__file__).with_name("gate-encoding.mjs")
        lines = "".join(json.dumps(c) + "\n" for c in conversations)
        return subprocess.run(["node", str(script), file.name], input=lines, text=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
