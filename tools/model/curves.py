"""Draws a training log: loss of the answers, and the share of answers that are right from end to end, by row length.

    python tools/model/curves.py RUN/log.jsonl curves.svg       also prints a table, a line for every 2 % of the run
"""

import json
import math
import pathlib
import sys

WIDTH, HEIGHT, LEFT, TOP = 760, 300, 46, 18
COLOURS = {'loss': '#888888', 'exact_copy_128': '#bbaa44', 'exact_mix_64': '#1f77b4', 'exact_mix_256_w16': '#2ca02c',
           'exact_long_1024_w128': '#d62728'}
TITLES = {'loss': 'loss (right scale, to 5)', 'exact_copy_128': 'right: copying', 'exact_mix_64': 'rows of 64: dictionary',
          'exact_mix_256_w16': '256, window 16', 'exact_long_1024_w128': '1,024, window 128'}


def smooth(lines, key, span):
    """(tokens, mean of the last `span` values) where the key is logged and a number: a row of text has no targets."""
    points = [(line['tokens'], line[key]) for line in lines if math.isfinite(line.get(key, math.nan))]
    for i, (tokens, _) in enumerate(points):
        window = points[max(0, i - span + 1) : i + 1]
        yield tokens, sum(value for _, value in window) / len(window)


def drawing(lines):
    last = lines[-1]['tokens']
    x = lambda tokens: LEFT + tokens / last * (WIDTH - 2 * LEFT)  # noqa: E731
    y = lambda share: TOP + (1 - share) * (HEIGHT - TOP - 40)  # noqa: E731
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
           '<title>Loss and exact answers over the tokens of the training run</title>',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<path d="M{LEFT} {y(share):.0f}H{WIDTH - LEFT}" stroke="#dddddd"/>')
        out.append(f'<text x="8" y="{y(share) + 4:.0f}">{share:.2f}</text>')
        out.append(f'<text x="{WIDTH - LEFT + 6}" y="{y(share) + 4:.0f}">{5 * share:.1f}</text>')
    for before, line in zip(lines, lines[1:]):
        if before['stage'] != line['stage']:
            out.append(f'<path d="M{x(line["tokens"]):.0f} {TOP}V{y(0):.0f}" stroke="#bbbbbb" stroke-dasharray="3"/>')
            out.append(f'<text x="{x(line["tokens"]) + 3:.0f}" y="{TOP + 10}">{line["stage"]}</text>')
    for i, (key, colour) in enumerate(COLOURS.items()):
        scale = 5 if key == 'loss' else 1
        path = ' '.join(f'{x(tokens):.1f},{y(min(value / scale, 1)):.1f}' for tokens, value in smooth(lines, key, 8))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out.append(f'<text x="{LEFT + 140 * i}" y="{HEIGHT - 6}" fill="{colour}">{TITLES[key]}</text>')
    out.append(f'<text x="{WIDTH - 120}" y="{HEIGHT - 24}">{last / 1e6:.1f} M tokens</text></svg>')
    return '\n'.join(out) + '\n'


def table(lines):
    keys = ['loss', 'exact_copy_128', 'exact_mix_64', 'exact_mix_256_w16', 'exact_tools_256',
            *(f'exact_long_{length}_w128' for length in (512, 1024, 2048))]
    print('| minutes | tokens | stage | ' + ' | '.join(keys) + ' |\n' + '|---' * (len(keys) + 3) + '|')
    smoothed = {key: dict(smooth(lines, key, 8)) for key in keys}
    step = max(1, len(lines) // 50)
    for line in lines[step - 1 :: step]:
        cells = []
        for key in keys:
            known = [value for tokens, value in smoothed[key].items() if tokens <= line['tokens']]
            cells.append(f'{known[-1]:.3f}' if known else '')
        print(f'| {line["minutes"]:.1f} | {line["tokens"] / 1e6:.2f} M | {line["stage"]} | ' + ' | '.join(cells) + ' |')


def main():
    lines = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    pathlib.Path(sys.argv[2]).write_text(drawing(lines))
    table(lines)


if __name__ == '__main__':
    main()
