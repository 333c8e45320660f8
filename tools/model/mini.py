"""A small training run whose file must answer: trained, stopped, gone on with from the checkpoint, exported, served, asked.

    python tools/model/mini.py [OPTION...]      options go to train.py; mini.sh brings the packages

The budget is steps and the seed is fixed, so the figures hold on any machine up to rounding; only the time differs. Ends with
1 and says why where the loss or the answers are not what they must be.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

WORDS = 50
# The gate's questions are about the words that were trained. It reads this when it is imported.
os.environ['NANDU_DICT_WORDS'] = str(WORDS)

import evaluate
import gate

HERE = pathlib.Path(__file__).parent
STEPS = 160
STOPPED = 40  # where it is stopped and goes on from its checkpoint
START = 6.0  # the mean loss of the first ten steps is above: knowing nothing is ln 4096 = 8.3
LEARNT = 1.2  # that of the last ten is below
VERBATIM = {'definition': 0.8, 'definition_unseen': 0.5}  # least share of the answers that are right in every character


def train(run: pathlib.Path, steps: int, options: list[str]) -> list[dict]:
    """The log's lines, after training to that many steps."""
    command = [sys.executable, '-W', 'ignore', str(HERE / 'train.py'), '--run', str(run), '--steps', str(steps)]
    command += ['--geometry', 'S', '--words', str(WORDS), '--stage', 'short', '--pool', '1500', '--tokens', '2048', *options]
    subprocess.run(command, check=True)
    return [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]


def ask(model: pathlib.Path) -> dict[str, float]:
    """Shares of right answers by kind, greedy, from `nandu serve` with its default numerics."""
    # The server is to find the system's libraries, not those that were unpacked for torch.
    os.environ.pop('LD_LIBRARY_PATH', None)
    with evaluate.Server(model, 'reference', 'none', 0, 8) as server:
        answers = evaluate.ask_all(server, list(VERBATIM), 0, 8)
    for kind, given in answers.items():
        for question, expected, said in gate.wrong(kind, given, 2):
            print(f'{kind}: {question!r}\n  expected {expected!r}\n  answered {said!r}')
    return {kind: gate.score(kind, given)['right'] for kind, given in answers.items()}


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='nandu-mini-') as folder:
        run = pathlib.Path(folder)
        first = train(run, STOPPED, sys.argv[1:])
        lines = train(run, STEPS, sys.argv[1:])
        trained = time.monotonic() - began
        export = [sys.executable, str(HERE / 'export.py'), str(run / 'checkpoint.pt'), str(run / 'mini.gguf')]
        subprocess.run(export, check=True)
        right = ask(run / 'mini.gguf')
    start, before, after, end = lines[0]['loss'], first[-1]['loss'], lines[len(first)]['loss'], lines[-1]['loss']
    shares = ', '.join(f'{kind} {100 * share:.0f} % of {WORDS} verbatim' for kind, share in right.items())
    seconds = time.monotonic() - began
    print(f'mini-training: loss {start:.2f} -> {end:.2f}, {shares}; trained {trained:.0f} s, all {seconds:.0f} s')
    wrong = []
    if start <= START:
        wrong.append(f'the first loss, {start:.2f}, is not that of an untrained net')
    if not end < LEARNT:
        wrong.append(f'the last loss, {end:.2f}, is not below {LEARNT}')
    if after > before + 0.5:
        wrong.append(f'going on from the checkpoint lost what was learnt: {before:.2f} before, {after:.2f} after')
    wrong += [f'{kind}: {right[kind]:.2f} right, at least {least} wanted'
              for kind, least in VERBATIM.items() if right[kind] < least]
    for reason in wrong:
        print(f'mini-training: FAILED: {reason}')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
