"""A small training run that must reach a stated loss, stop, go on from its checkpoint, and give a file. mini.sh calls it.

The budget is steps, so the figures hold on any machine up to rounding; only the time differs.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
STEPS = 120
RESUMED = 160
START = 6.0  # the mean of the first ten steps is above: 7.22; knowing nothing is ln 4096 = 8.3
LEARNT = 2.0  # mean loss over the answers of the last 20 steps is below; 1.40 when this was written


def train(run, steps):
    """The log's lines, after training to that many steps."""
    command = [sys.executable, '-W', 'ignore', str(HERE / 'train.py'), '--run', str(run), '--steps', str(steps)]
    command += ['--geometry', 'S', '--words', '300', '--stage', 'mix', '--long-share', '0', '--tokens', '2048']
    subprocess.run(command, check=True)
    return [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]


def main():
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='nandu-mini-') as folder:
        run = pathlib.Path(folder)
        first = train(run, STEPS)
        lines = train(run, RESUMED)
        export = [sys.executable, str(HERE / 'export.py'), str(run / 'checkpoint.pt'), str(run / 'mini.gguf')]
        subprocess.run(export, check=True)
    start, before, end = lines[0]['loss'], first[-1]['loss'], sum(line['loss'] for line in lines[-2:]) / 2
    print(f'mini: loss {start:.2f} at step {lines[0]["step"]}, {before:.2f} at {STEPS}, {end:.2f} at {RESUMED} '
          f'after a restart; {time.monotonic() - began:.0f} s')
    assert start > START, 'the first loss is not that of an untrained net'
    assert end < LEARNT, f'the recipe does not learn: {end:.2f} is not below {LEARNT}'
    assert lines[len(first)]['loss'] < before + 0.5, 'going on from the checkpoint lost what was learnt'


if __name__ == '__main__':
    main()
