"""The gate of the default model, asked of a real server over gRPC: what a person would get.

    python tools/model/evaluate.py MODEL.gguf --json gate.json --markdown gate.md
    python tools/model/evaluate.py MODEL.gguf --baseline MODEL-f32.gguf     beside the unrounded weights in f32 numerics
    python tools/model/evaluate.py MODEL.gguf --llama LLAMA-SERVER          beside llama.cpp with the same file
    python tools/model/evaluate.py MODEL.gguf --kinds definition,look_up_200 --limit 50 --show 5

Answers are greedy (`offensive` is sampled), without a prompt cache; at the end texts are asked for twice with one, and the
answers from a cache hit are compared with those without, token for token.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import gate
import tokenizer
from gate_llama import LlamaServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVICE = 'nandu.v1.GenerationService'
MAX_TOKENS = 160
CACHED = 12  # texts of 2,000 tokens that are asked for again
SAMPLED = {'offensive'}
DETAIL = ('headword', 'value', 'parsed', 'name', 'arguments', 'verdict', 'refused', 'closed', 'echo_at_most')


def to_json(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def messages() -> dict[str, type]:
    """The message classes of the contract, from the descriptors that the repository keeps: no generated code."""
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / 'proto' / 'descriptors.binpb').read_bytes())
    for file in files.file:
        pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f'nandu.v1.{name}'))
            for name in ('GenerateRequest', 'GenerateResponse')}


class Server:
    """`nandu serve` on a free port, until the block ends."""

    def __init__(self, model: pathlib.Path, numerics: str, kv_dir: str, threads: int, concurrent: int):
        self._command = ['node', str(ROOT / 'bin' / 'nandu.js'), 'serve', '--model', str(model), '--listen', '127.0.0.1:0',
                         '--kv-dir', kv_dir, '--numerics', numerics, '--max-running', str(concurrent), '--threads', str(threads)]

    def __enter__(self) -> Server:
        self._errors = tempfile.TemporaryFile('w+')
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        for line in self._process.stdout:
            if line.startswith('{') and (entry := json.loads(line))['msg'] == 'listening':
                break
        else:
            self._errors.seek(0)
            raise SystemExit(f'evaluate: the server ended: {self._errors.read()[-2000:]}')
        # Nobody reads the rest; a full pipe must not stop the server.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        self._types = messages()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{entry['port']}")
        self._generate = self._channel.unary_unary(
            f'/{SERVICE}/Generate', request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=self._types['GenerateResponse'].FromString)
        try:
            self._await_model()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _await_model(self) -> None:
        request = self._types['GenerateRequest'](token_ids={'ids': [0]}, stop={'max_tokens': 1})
        for _ in range(600):
            try:
                self._generate(request, timeout=30)
                return
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                time.sleep(0.2)
        raise SystemExit('evaluate: the model is not ready after two minutes')

    def __exit__(self, *_) -> None:
        self._channel.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def ask(self, case: gate.Case, temperature: float = 0) -> gate.Answer:
        return answer(self.generate(case, temperature))

    def generate(self, case: gate.Case, temperature: float = 0, cache: str = 'CACHE_MODE_BYPASS'):
        tools = [{'name': tool['name'], 'description': tool.get('description', ''),
                  'parameters_json': to_json(tool['parameters'])} for tool in case.tools]
        chat = {'messages': [], 'tools': tools}
        for at, message in enumerate(case.messages):
            calls = [{'id': f'call_{at}_{i}', 'name': call['name'], 'arguments_json': to_json(call['arguments'])}
                     for i, call in enumerate(message.get('tool_calls', ()))]
            entry = {'role': 'ROLE_' + message['role'].upper(), 'content': message['content'], 'tool_calls': calls}
            if message['role'] == 'tool':
                entry['tool_call_id'] = f'call_{at - 1}_0'
            chat['messages'].append(entry)
        if case.thinks:
            chat['reasoning_effort'] = 'REASONING_EFFORT_HIGH'
        request = self._types['GenerateRequest'](
            chat=chat, sampling={'temperature': temperature, 'seed': 5}, stop={'max_tokens': MAX_TOKENS},
            output={'token_ids': True}, cache={'mode': cache})
        return self._generate(request, timeout=600)


def answer(response) -> gate.Answer:
    choice = response.choices[0]
    calls, broken = [], any(marker in choice.text for marker in tokenizer.SPECIAL_TOKENS)
    for call in choice.tool_calls:
        try:
            calls.append((call.name, json.loads(call.arguments_json)))
        except ValueError:
            broken = True
    # Reasoning that never closed has no answer behind it.
    reasoning = choice.reasoning if choice.text else None
    return gate.Answer(choice.text, choice.finish_reason in (1, 4), tuple(calls), reasoning, broken)


def ask_all(server: Server | LlamaServer, kinds: list[str], limit: int, workers: int) -> dict[str, list[gate.Answer]]:
    found = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for kind in kinds:
            cases = gate.cases(kind)[:limit or None]
            temperature = 1.0 if kind in SAMPLED else 0.0
            found[kind] = list(pool.map(lambda case, t=temperature: server.ask(case, t), cases))
    return found


def compare_cache(server: Server) -> dict[str, int]:
    """The same texts without the cache, to fill it, and from it; all greedy."""
    same = hits = restored = 0
    cases = gate.cases('look_up_2000')[:CACHED]
    for case in cases:
        without = server.generate(case)
        server.generate(case, cache='CACHE_MODE_READ_WRITE')
        again = server.generate(case, cache='CACHE_MODE_READ_WRITE')
        hits += again.usage.prompt_cache_hit_tokens > 0
        restored += again.usage.prompt_cache_hit_tokens
        same += list(without.choices[0].token_ids) == list(again.choices[0].token_ids)
    return {'count': len(cases), 'hits': hits, 'restored_tokens': restored, 'same': same}


def evaluate(name: str, place: Server | LlamaServer, kinds: list[str], args) -> tuple[dict, dict[str, list[gate.Answer]]]:
    began = time.monotonic()
    with place as server:
        answers = ask_all(server, kinds, args.limit, args.concurrent)
    seconds = time.monotonic() - began
    result = {'name': name, 'seconds': round(seconds, 1),
              'kinds': {kind: gate.score(kind, given) for kind, given in answers.items()}}
    greedy = [pair for kind, found in answers.items() if kind not in SAMPLED for pair in zip(gate.cases(kind), found)]
    result['in_form'] = {'count': len(greedy), 'share': sum(gate.is_in_form(*pair) for pair in greedy) / max(1, len(greedy))}
    return result, answers


def table(results: list[dict], cache: dict | None) -> str:
    """Markdown: one line for what is demanded or worth knowing, one column for each way of running the model."""
    demands = {(kind, measure): least for kind, measure, least in gate.DEMANDS}
    lines = ['| asked | measure | demanded | ' + ' | '.join(r['name'] for r in results) + ' |',
             '|---|---|---|' + '---|' * len(results)]

    def percent(share: float) -> str:
        return f'{100 * share:.1f} %'

    for kind, scores in results[0]['kinds'].items():
        for measure in ('right', *(d for d in DETAIL if d in scores)):
            least = demands.get((kind, measure))
            lines.append(f"| {kind} ({scores['count']}) | {measure} | {f'>= {percent(least)}' if least else ''} | "
                         + ' | '.join(percent(r['kinds'][kind][measure]) for r in results) + ' |')
    if results[0]['in_form']['count']:
        lines.append(f"| all greedy answers ({results[0]['in_form']['count']}) | ended by itself, in form | >= 100.0 % | "
                     + ' | '.join(percent(r['in_form']['share']) for r in results) + ' |')
    if any('same_answers' in r for r in results):
        lines.append('| all greedy answers | the same as in the first column | | '
                     + ' | '.join(percent(r['same_answers']) if 'same_answers' in r else '' for r in results) + ' |')
    if cache:
        lines.append(f"| cache hit = miss ({cache['hits']} hits, {cache['restored_tokens']} tokens restored) | same tokens | "
                     f">= 100.0 % | {percent(cache['same'] / cache['count'])} |" + ' |' * (len(results) - 1))
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', type=pathlib.Path)
    parser.add_argument('--numerics', default='reference')
    parser.add_argument('--baseline', type=pathlib.Path, help='another file, run in f32 numerics')
    parser.add_argument('--llama', type=pathlib.Path, help='llama-server, asked the same with the same file')
    parser.add_argument('--kinds', help='comma-separated; default: all but the 10,000 samples of `offensive`')
    parser.add_argument('--limit', type=int, default=0, help='first cases of each kind; 0: all')
    parser.add_argument('--show', type=int, default=0, help='so many wrong answers of each kind')
    parser.add_argument('--concurrent', type=int, default=16)
    parser.add_argument('--threads', type=int, default=0)
    parser.add_argument('--no-cache', action='store_true', help='leave out the comparison of cache hits')
    parser.add_argument('--json', type=pathlib.Path)
    parser.add_argument('--markdown', type=pathlib.Path)
    args = parser.parse_args()
    kinds = args.kinds.split(',') if args.kinds else [kind for kind in gate.KINDS if kind not in SAMPLED]

    def served(model: pathlib.Path, numerics: str) -> tuple[dict, dict[str, list[gate.Answer]]]:
        place = Server(model, numerics, 'none', args.threads, args.concurrent)
        return evaluate(f'{model.name}, {numerics}', place, kinds, args)

    result, answers = served(args.model, args.numerics)
    results = [result]
    if args.llama:
        place = LlamaServer(args.llama, args.model, MAX_TOKENS, args.threads, args.concurrent)
        by_llama, others = evaluate(f'{args.model.name}, llama.cpp', place, kinds, args)
        pairs = [pair for kind in kinds if kind not in SAMPLED for pair in zip(answers[kind], others[kind])]
        by_llama['same_answers'] = sum((ours.text, ours.calls) == (theirs.text, theirs.calls) for ours, theirs in pairs) / max(1, len(pairs))
        results.append(by_llama)
    if args.baseline:
        results.append(served(args.baseline, 'f32')[0])
    cache = None
    if not args.no_cache:
        with tempfile.TemporaryDirectory() as folder:
            with Server(args.model, args.numerics, folder, args.threads, args.concurrent) as server:
                cache = compare_cache(server)
    for kind, given in answers.items():
        for question, expected, said in gate.wrong(kind, given, args.show):
            print(f'{kind}: {question!r}\n  expected {expected!r}\n  answered {said!r}')
    markdown = table(results, cache)
    print(markdown)
    if args.markdown:
        args.markdown.write_text(markdown)
    if args.json:
        said = {kind: [dataclasses.asdict(a) for a in given] for kind, given in answers.items()}
        args.json.write_text(to_json({'results': results, 'cache': cache, 'answers': said}) + '\n')


if __name__ == '__main__':
    main()
