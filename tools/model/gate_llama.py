"""llama.cpp as a second engine of the gate: `llama-server` asked for the very prompts that nandu makes, markers by their names;
its tokenizer reads them from the vocabulary in the file.

Its caches are f32: what differs from nandu's column are the fp8 and fp4 rows of the caches, and how products round.
bench/kv/llama-server.sh builds it.
"""

from __future__ import annotations

import http.client
import json
import pathlib
import socket
import subprocess
import tempfile
import time

import gate
import skills

CONTEXT = 4096
"""Tokens of prompt and answer: as many as the default model promises."""


class LlamaServer:
    """`llama-server` on a free port, until the block ends."""

    def __init__(self, program: pathlib.Path, model: pathlib.Path, max_tokens: int, threads: int, concurrent: int):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self._port = probe.getsockname()[1]
        self._max_tokens = max_tokens
        self._command = [
            str(program), '--model', str(model), '--host', '127.0.0.1', '--port', str(self._port), '--no-ui', '--offline', '--special',
            '--ctx-size', str(CONTEXT * concurrent), '--parallel', str(concurrent), '--cache-ram', '0', '--no-repack',
            '--flash-attn', 'off', '--cache-type-k', 'f32', '--cache-type-v', 'f32', *(['--threads', str(threads)] if threads else [])]

    def __enter__(self) -> LlamaServer:
        self._errors = tempfile.TemporaryFile('w+')
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=self._errors)
        for _ in range(600):
            try:
                if self._request('GET', '/health', None)[0] == 200:
                    return self
            except OSError:
                pass
            if self._process.poll() is not None:
                break
            time.sleep(0.2)
        self._process.kill()
        self._errors.seek(0)
        raise SystemExit(f'gate_llama: llama-server does not serve: {self._errors.read()[-2000:]}')

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _request(self, method: str, path: str, body: dict | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection('127.0.0.1', self._port, timeout=600)
        try:
            connection.request(method, path, body and json.dumps(body), {'content-type': 'application/json'})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _answer(self, path: str, body: dict) -> dict:
        status, answer = self._request('POST', path, body)
        if status != 200:
            raise SystemExit(f'gate_llama: llama-server: {path}: {status}: {answer[:500]!r}')
        return json.loads(answer)

    def ask(self, case: gate.Case, temperature: float = 0) -> gate.Answer:
        prompt = self._answer('/tokenize', {'content': case.prompt, 'parse_special': True, 'add_special': False})['tokens']
        body = {'prompt': prompt, 'n_predict': self._max_tokens, 'temperature': temperature, 'seed': 5, 'cache_prompt': False}
        if temperature:  # nandu's sampling: of all tokens, by their probability
            body['samplers'] = ['temperature']
        found = self._answer('/completion', body)
        ended = found['stop_type'] == 'eos' and not found['content'].endswith(skills.EOS)
        return gate.parse(found['content'] + (skills.EOS if ended else ''), case.thinks)
