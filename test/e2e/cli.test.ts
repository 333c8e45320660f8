// The command as a person or a script meets it: bin/nandu.js in a process of its own, real addon, small models.
// Needs the build (npm test makes it).

import { spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';

// Dozens of processes, on a machine that may have other work.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const bin = fileURLToPath(new URL('../../bin/nandu.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'nandu-cli-'));
const at = (name: string) => join(folder, name);
const golden = at('golden.gguf');
const small = at('small.gguf');
const ids = at('ids.txt');

function nandu(args: readonly string[], input = '', environment: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...args], {
    input,
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  });
  // On a busy machine anything may take the second after which progress is shown.
  return { status, stdout, stderr: stderr.replace(/^.+ {2}\d+ % .*\n/gm, '') };
}
// biome-ignore lint/suspicious/noExplicitAny: what JSON holds is what these tests find out
function json(args: readonly string[], input = ''): any {
  const { status, stdout, stderr } = nandu([...args, '--json'], input);
  expect([status, stderr]).toEqual([0, '']);
  return JSON.parse(stdout);
}
/** Exit code and the one line that says why. */
function refusal(args: readonly string[], environment: NodeJS.ProcessEnv = {}): [number | null, string] {
  const { status, stdout, stderr } = nandu(args, '', environment);
  expect(stdout).toBe('');
  expect(stderr.trim().split('\n').length).toBe(1);
  return [status, stderr.trim()];
}

beforeAll(() => {
  writeFileSync(ids, Array.from({ length: 150 }, (_, index) => (index * 7) % 512).join('\n'));
  // A name that every object knows means no preset.
  expect(nandu(['synth', golden, '--preset', 'golden', '--name', 'constructor']).status).toBe(0);
  const flags = ['--vocab', '600', '--ratios', '0,4,128', '--context', '1024', '--experts', '4', '--name', 'small'];
  expect(nandu(['synth', small, ...flags]).status).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

test('help: every command, with examples; exit codes and environment at the top', () => {
  const top = nandu(['--help']);
  expect(top.status).toBe(0);
  for (const word of [
    'serve',
    'run',
    'score',
    'inspect',
    'plan',
    'synth',
    'tokenize',
    'Exit codes:',
    'NANDU_TARGET',
    'Examples:',
  ]) {
    expect(top.stdout).toContain(word);
  }
  for (const command of ['serve', 'run', 'score', 'inspect', 'plan', 'synth', 'tokenize']) {
    const help = nandu([command, '--help']);
    expect(help.status).toBe(0);
    expect(help.stdout).toContain('Examples:');
    expect(help.stdout).toContain(`nandu ${command}`);
  }
  expect(nandu(['--version']).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test('without a build the command says how to make one', () => {
  mkdirSync(at('clone/bin'), { recursive: true });
  writeFileSync(at('clone/package.json'), '{"type":"module"}');
  copyFileSync(bin, at('clone/bin/nandu.js'));
  const { status, stderr } = spawnSync(process.execPath, [at('clone/bin/nandu.js')], { encoding: 'utf8' });
  expect(status).toBe(69);
  expect(stderr).toBe('nandu: not built yet: run `npm ci` or `npm run build` in the clone\n');
});

test('wrong use exits 64 with one line that names the flag', () => {
  expect(refusal(['frob'])).toEqual([64, "nandu: unknown command 'frob'"]);
  expect(refusal(['run', '--frob'])).toEqual([64, "nandu: unknown option '--frob'"]);
  expect(refusal(['run'])).toEqual([64, 'nandu: give one of --prompt, --tokens and --chat']);
  expect(refusal(['run', '--prompt', 'a', '--chat'])[0]).toBe(64);
  expect(refusal(['run', '--prompt', ''])).toEqual([64, 'nandu: --prompt is empty']);
  expect(refusal(['run', '--prompt', 'a', '--top-p', '0'])[1]).toContain("'--top-p <x>'");
  expect(refusal(['run', '--prompt', 'a', '--numerics', 'f16'])[1]).toContain('--numerics');
  expect(refusal(['run', '--prompt', 'a', '--stop', ''])[1]).toContain('--stop');
  expect(refusal(['run', '--model', golden, '--tokens', ids, '--stop', 'a'])).toEqual([
    64,
    `nandu: --stop: ${golden} holds no vocabulary`,
  ]);
  expect(refusal(['score', '--model', golden])).toEqual([64, 'nandu: give either --tokens or --text']);
  expect(refusal(['score', '--model', golden, '--text', ids])).toEqual([
    64,
    `nandu: ${golden} holds no vocabulary: give --tokens instead of --text`,
  ]);
  expect(refusal(['run', '--model', golden, '--prompt', 'a'])[0]).toBe(64);
  expect(refusal(['synth', at('x'), '--type', 'frob=Q8_0'])[1]).toContain('--type frob=Q8_0');
  expect(refusal(['synth', at('x'), '--type', 'constructor=F32'])[0]).toBe(64);
  expect(refusal(['synth', at('x'), '--type', 'experts=Q9'])).toEqual([64, expect.stringContaining("'Q9'")]);
  expect(refusal(['synth', at('x'), '--vocab', '5'])[1]).toContain('--vocab');
  for (const ratios of ['0,5', '', '0,,4']) {
    expect(refusal(['synth', at('x'), '--ratios', ratios])[1]).toContain('--ratios');
  }
  expect(refusal(['run', '--prompt', 'a', '-n', '3', '--min-tokens', '4'])).toEqual([
    64,
    'nandu: --min-tokens is more than --max-tokens',
  ]);
});

test('a file that cannot be used exits 66 with one line that names it and what is wrong', () => {
  expect(refusal(['inspect', at('none.gguf')])).toEqual([66, expect.stringContaining(at('none.gguf'))]);
  expect(refusal(['run', '--model', ids, '--prompt', 'a'])).toEqual([66, expect.stringContaining(ids)]);
  const cut = at('cut.gguf');
  writeFileSync(cut, readFileSync(golden));
  truncateSync(cut, statSync(golden).size - 4096);
  for (const args of [
    ['inspect', cut],
    ['score', '--model', cut, '--tokens', ids],
    ['run', '--model', cut, '--tokens', ids],
  ]) {
    expect(refusal(args)).toEqual([66, expect.stringMatching(/^nandu: tensor /)]);
  }
  const lost = readFileSync(small);
  const key = 'tokenizer.ggml.eos_token_id';
  lost.writeUInt32LE(600, lost.indexOf(key) + key.length + 4); // behind the type of the value
  writeFileSync(at('lost.gguf'), lost);
  const eos = `nandu: metadata key ${key} is not the id of one of the 600 tokens (${at('lost.gguf')})`;
  expect(refusal(['score', '--model', at('lost.gguf'), '--tokens', ids])).toEqual([66, eos]);
  expect(refusal(['score', '--model', golden, '--tokens', at('none.txt')])).toEqual([
    66,
    `nandu: ${at('none.txt')}: no such file`,
  ]);
  writeFileSync(at('words.txt'), '1 2 three');
  expect(refusal(['run', '--model', golden, '--tokens', at('words.txt')])[1]).toContain('entry 3, "three"');
  writeFileSync(at('big.txt'), '1 2 512');
  expect(refusal(['run', '--model', golden, '--tokens', at('big.txt')])).toEqual([
    66,
    `nandu: ${at('big.txt')}: token id 512 is outside the vocabulary of 512 tokens`,
  ]);
  expect(refusal(['score', '--model', golden, '--tokens', at('big.txt')])).toEqual([
    66,
    `nandu: ${at('big.txt')}: number 2 is 512, outside the vocabulary of 512`,
  ]);
  writeFileSync(at('latin.txt'), Buffer.from('caf\xe9', 'latin1'));
  expect(refusal(['tokenize', '--file', at('latin.txt')])).toEqual([
    66,
    `nandu: ${at('latin.txt')}: is not UTF-8 text`,
  ]);
  writeFileSync(at('empty.txt'), ' \n');
  expect(refusal(['run', '--model', golden, '--tokens', at('empty.txt')])[0]).toBe(66);
  expect(refusal(['score', '--model', golden, '--tokens', at('empty.txt')])[0]).toBe(66);
  expect(refusal(['tokenize', '--model', golden, '--text', 'a'])[1]).toContain('holds no vocabulary');
});

test('an unknown kernel target is wrong configuration: 78', () => {
  const [status, line] = refusal(['run', '--model', golden, '--tokens', ids], { NANDU_TARGET: 'mmx' });
  expect(status).toBe(78);
  expect(line).toContain("'mmx'");
});

test('plan: a preset with everything given measures nothing, and the figures are exact', () => {
  const machine = ['--ram', '1TiB', '--ssd', '1TB', '--disk-bandwidth', '3GB/s', '--memory-bandwidth', '200GB'];
  const pro = ['plan', '--preset', 'V4-Pro', '--context', '1000000', ...machine];
  expect(json(pro)).toMatchObject({
    ...{ model: 'V4-Pro', context_tokens: 1_000_000, layers: { plain: 0, csa: 30, hca: 31 } },
    ...{ bytes_per_million_tokens: 5_031_437_500, published_bytes_per_million_tokens: 5_481_437_500 },
    ...{ ram_bytes: 2 ** 40, ssd_bytes: 1e12, disk_bytes_per_second: 3e9, memory_bytes_per_second: 200e9 },
    ...{ price_list: 'default', currency: 'CNY' },
    costs: [{ class: 'standard', hit_picos: '25000000000', miss_picos: '3000000000000' }],
  });
  const { stdout, stderr } = nandu(pro);
  expect(stderr).toBe('');
  for (const text of ['5.481 GB', '30 x (584 + 128) / 4 + 31 x 584 / 128', '30 x (584 + 68) / 4 + 31 x 584 / 128']) {
    expect(stdout).toContain(text);
  }
  expect(stdout).toMatch(/hit 0\.025 +miss 3 +CNY/);
});

test('plan: a model file, this machine measured, and prices from a file', () => {
  writeFileSync(at('prices.yaml'), 'currency: USD\nname: mine\nclasses: [{ name: x, hit: 1, miss: 2, output: 3 }]\n');
  const planned = json(['plan', '--model', golden, '--context', '1000', '--prices', at('prices.yaml')]);
  const { kv } = json(['inspect', golden]);
  expect(planned.bytes_per_token.total).toBe(kv.reference.bytes_per_token);
  expect(planned.disk_bytes_per_second).toBeGreaterThan(1e6);
  expect(planned.memory_bytes_per_second).toBeGreaterThan(1e8);
  expect(planned.ram_bytes).toBeGreaterThan(2 ** 28);
  expect(planned).toMatchObject({ model: 'constructor', price_list: 'mine', currency: 'USD' });
  expect(planned).not.toHaveProperty('published_bytes_per_million_tokens');
  expect(planned.costs).toEqual([{ class: 'x', hit_picos: '1000000000', miss_picos: '2000000000' }]);
});

test('plan: wrong use exits 64, a wrong price list 78 by line and entry', () => {
  const preset = ['plan', '--preset', 'V4-Flash', '--disk-bandwidth', '1GB', '--memory-bandwidth', '1GB'];
  expect(refusal(['plan'])).toEqual([64, 'nandu: give either --model or --preset']);
  expect(refusal([...preset, '--model', golden])).toEqual([64, 'nandu: give either --model or --preset']);
  expect(refusal(['plan', '--preset', 'V5'])[1]).toContain('V4-Flash, V4-Pro');
  for (const flags of [
    ['--ram', 'much'],
    ['--ssd', '-1'],
    ['--disk-bandwidth', '0'],
    ['--memory-bandwidth', '1GB/h'],
    ['--context', '0'],
  ]) {
    const [code, line] = refusal([...preset, ...flags]);
    expect([code, line.includes(flags[0] as string)], line).toEqual([64, true]);
  }
  writeFileSync(
    at('wrong.yaml'),
    'currency: USD\nname: x\nclasses:\n  - name: a\n    hit: 1\n    miss: 0.0000001\n    output: 1\n',
  );
  const why = `nandu: ${at('wrong.yaml')}:6: classes[0].miss: has more than 6 decimals`;
  for (const args of [
    [...preset, '--prices', at('wrong.yaml')],
    ['serve', '--prices', at('wrong.yaml')],
  ]) {
    expect(refusal(args)).toEqual([78, expect.stringContaining(why)]);
  }
  expect(refusal(['serve', '--prices', at('none.yaml')])).toEqual([78, expect.stringContaining(at('none.yaml'))]);
});

test('serve: a wrong flag of the cache exits 64 by name, the same as a variable 78', () => {
  for (const [flag, value] of [
    ['--kv-points', 'some'],
    ['--io', 'aio'],
    ['--kv-max-bytes', 'lots'],
    ['--kv-memory', '-1'],
    ['--kv-write-budget', '1XB'],
    ['--kv-fault', 'fire=1'],
  ] as const) {
    const [code, line] = refusal(['serve', flag, value]);
    expect([code, line.includes(`${flag}: "${value}"`)], line).toEqual([64, true]);
  }
  expect(refusal(['serve'], { NANDU_IO: 'aio' })).toEqual([78, expect.stringContaining('NANDU_IO: "aio"')]);
});

test('score: the figures do not depend on chunks, and the logits are a [tokens, vocab] array', () => {
  const logits = at('logits.npy');
  const whole = json(['score', '--model', golden, '--tokens', ids, '--numerics', 'f32', '--logits', logits]);
  expect(whole).toMatchObject({ tokens: 150, numerics: 'f32', chunk: 512, model: golden });
  expect(whole.perplexity).toBeCloseTo(Math.exp(whole.mean_log_loss), 6);
  expect(whole.tokens_per_second).toBeGreaterThan(0);
  expect(whole.selections).toBeGreaterThan(0);
  const single = json([
    'score',
    '--model',
    golden,
    '--tokens',
    ids,
    '--numerics',
    'f32',
    '--chunk',
    '1',
    '--threads',
    '1',
  ]);
  expect(single.mean_log_loss).toBe(whole.mean_log_loss);
  const npy = readFileSync(logits);
  const header = npy.subarray(10, 10 + npy.readUInt16LE(8)).toString();
  expect(header).toContain("'shape': (150, 512)");
  expect(header).toContain("'descr': '<f4'");
  expect(npy.length).toBe(10 + header.length + 150 * 512 * 4);
  const plain = nandu(['score', '--model', golden, '--tokens', ids]).stdout;
  expect(plain).toMatch(/^tokens_per_second +\d/m);
  expect(plain).toMatch(/^perplexity +\d/m);
});

test('score --text reads text by the vocabulary of the model', () => {
  writeFileSync(at('text.txt'), 'The quick brown fox.');
  const scored = json(['score', '--model', small, '--text', at('text.txt')]);
  const tokens = json(['tokenize', '--model', small, '--file', at('text.txt'), '--add-bos']);
  expect(scored.tokens === tokens.num_tokens || scored.tokens === tokens.num_tokens - 1).toBe(true);
});

test('run on token ids: the same answer each time, as many tokens as asked for', () => {
  const args = ['run', '--model', golden, '--tokens', ids, '--max-tokens', '20', '--ignore-eos'];
  const first = json(args);
  expect(first.prompt_tokens).toEqual(readFileSync(ids, 'utf8').split('\n').map(Number));
  expect(first.output_tokens.length).toBe(20);
  expect(first).toMatchObject({ text: '', finish_reason: 'length', numerics: 'reference' });
  for (const key of ['load_seconds', 'prefill_tokens_per_second', 'decode_tokens_per_second']) {
    expect(first[key]).toBeGreaterThan(0);
  }
  expect(json([...args, '--threads', '1']).output_tokens).toEqual(first.output_tokens);
  expect(nandu(args).stdout.trim().split(' ').map(Number)).toEqual(first.output_tokens);
});

test('run on text: the text is that of its tokens, a seed repeats it, a stop text ends it', () => {
  const args = [
    'run',
    '--model',
    small,
    '--prompt',
    'Hello',
    '--max-tokens',
    '30',
    '--temperature',
    '1',
    '--ignore-eos',
  ];
  const first = json([...args, '--seed', '5']);
  expect(json([...args, '--seed', '5'])).toMatchObject({
    output_tokens: first.output_tokens,
    text: first.text,
    seed: 5,
  });
  expect(json([...args, '--seed', '6']).output_tokens).not.toEqual(first.output_tokens);
  const decoded = json(['tokenize', '--model', small, '--decode', '--text', first.output_tokens.join(' ')]);
  expect(decoded.text).toBe(first.text);
  const stop = [...first.text].slice(8, 12).join('');
  const stopped = json([...args, '--seed', '5', '--stop', stop]);
  expect(stopped.text).toBe(first.text.slice(0, first.text.indexOf(stop)));
  expect(stopped.finish_reason).toBe('stop_sequence');
});

test('run --max-tokens 0 computes the prompt only; a prompt beyond the context is refused', () => {
  expect(json(['run', '--model', golden, '--tokens', ids, '--max-tokens', '0'])).toMatchObject({
    output_tokens: [],
    finish_reason: 'length',
  });
  expect(refusal(['run', '--model', golden, '--tokens', ids, '--context', '100'])).toEqual([
    64,
    'nandu: the prompt has 150 tokens, the context 100',
  ]);
});

test('run --chat answers line by line', () => {
  const { status, stdout, stderr } = nandu(
    ['run', '--model', small, '--chat', '--max-tokens', '5'],
    'Hello\n\nAnd now?\n',
  );
  expect(status).toBe(0);
  expect(stderr.match(/output tokens/g)?.length).toBe(2);
  expect(stdout.length).toBeGreaterThan(2);
});

test('run --chat --json prints an object a line', () => {
  const { stdout } = nandu(['run', '--model', small, '--chat', '--max-tokens', '3', '--json'], 'Hello\nAnd now?\n');
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(answers.map(({ output_tokens }) => output_tokens.length)).toEqual([3, 3]);
});

/** Started with an input that stays open; exit code, or the signal's name, and what it said. */
function started(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [bin, ...args], { env: { ...process.env, ...environment } });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    said.stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    said.stderr += chunk.toString();
  });
  const ended = new Promise<number | string | null>((resolve) =>
    child.on('close', (code, signal) => resolve(code ?? signal)),
  );
  return { child, said, ended };
}

test('an interrupt ends a conversation that waits for its next line', async () => {
  const { child, said, ended } = started(['run', '--model', small, '--chat', '--max-tokens', '3']);
  child.stdin.write('Hello\n');
  await vi.waitFor(() => expect(said.stderr).toContain('output tokens'), 30_000);
  child.kill('SIGINT');
  expect(await ended).toBe(130);
  expect(said.stderr).toMatch(/\nnandu: interrupted\n$/);
});

// script(1) of util-linux is the terminal.
test.skipIf(spawnSync('script', ['--version']).status !== 0)(
  'Ctrl-C on a terminal ends a conversation in the middle of an answer',
  async () => {
    const words = ['run', '--model', small, '--chat', '--ignore-eos', '--max-tokens', '100000'];
    const line = [process.execPath, bin, ...words].map((word) => `'${word}'`).join(' ');
    const child = spawn('script', ['-qefc', line, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
    let shown = '';
    child.stdout.on('data', (chunk: Buffer) => {
      shown += chunk.toString();
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    await vi.waitFor(() => expect(shown).toContain('> '), 30_000);
    child.stdin.write('Hello\r');
    await vi.waitFor(() => expect(shown.split('Hello')[1]?.trim()).toMatch(/./), 30_000);
    child.stdin.write('\x03');
    expect(await ended).toBe(130);
    expect(shown).toMatch(/nandu: interrupted\r\n$/);
  },
);

test('an interrupt ends run with 130', async () => {
  const args = ['run', '--model', small, '--prompt', 'Hello', '--max-tokens', '100000', '--ignore-eos'];
  const child = spawn(process.execPath, [bin, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  child.stdout.once('data', () => child.kill('SIGINT'));
  child.stdout.resume();
  const status = await new Promise((resolve) => child.on('close', resolve));
  expect(status).toBe(130);
  expect(stderr).toBe('nandu: interrupted\n');
});

test('an interrupt ends synth with 130, and nothing is left of the file', async () => {
  mkdirSync(at('begun'));
  const { child, ended } = started(['synth', at('begun/medium.gguf'), '--preset', 'medium', '--no-vocab']);
  await vi.waitFor(() => expect(readdirSync(at('begun')).length).toBe(1), { timeout: 30_000, interval: 10 });
  child.kill('SIGINT');
  expect(await ended).toBe(130);
  expect(readdirSync(at('begun'))).toEqual([]);
});

test('a signal before serve listens ends it with 0, and it does not listen', async () => {
  // As soon as somebody handles the signal, it comes.
  const early =
    "process.on('newListener', (name) => name === 'SIGTERM' && setImmediate(() => process.kill(process.pid, name)))";
  const { said, ended } = started(['serve', '--listen', '127.0.0.1:0'], {
    ...{ NANDU_KV_DIR: 'none', NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(early)}` },
  });
  expect([await ended, said.stderr]).toEqual([0, '']);
  expect(said.stdout).not.toContain('listening');
});

test('serve on the socket that a killed server left behind, and on nothing else that is there', async () => {
  const path = at('socket');
  const listen = ['--listen', `unix:${path}`];
  // A socket whose owner is killed before it can clean up.
  const owner =
    "require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
  expect(spawnSync(process.execPath, ['-e', owner, path]).signal).toBe('SIGKILL');
  expect(statSync(path).isSocket()).toBe(true);
  const { child, said, ended } = started(['serve', '--model', golden, '--kv-dir', 'none', ...listen]);
  await vi.waitFor(() => expect(said.stdout).toContain('"listening"'), 30_000);
  expect(refusal(['serve', ...listen])).toEqual([69, expect.stringContaining('is in use by another process')]);
  child.kill('SIGTERM');
  expect(await ended).toBe(0);
  writeFileSync(path, '');
  expect(refusal(['serve', ...listen])).toEqual([69, expect.stringContaining('something else than a socket is there')]);
});

test('inspect: geometry, types and bytes, verified when asked for', () => {
  const facts = json(['inspect', small, '--verify']);
  expect(facts).toMatchObject({
    name: 'small',
    architecture: 'deepseek4',
    verified: true,
    layers: { plain: 1, csa: 1, hca: 1 },
    geometry: { layers: 3, vocab: 600, context: 1024, experts: 4 },
    tokenizer: { model: 'gpt2', pre: 'joyai-llm' },
  });
  expect(facts.types.map(({ type }: { type: string }) => type)).toContain('MXFP4');
  expect(facts.weight_bytes).toBeLessThanOrEqual(statSync(small).size);
  expect(facts.kv.f32.bytes_per_token).toBeGreaterThan(facts.kv.reference.bytes_per_token);
  const { stdout } = nandu(['inspect', '--model', small]);
  for (const word of ['geometry', 'tensors', 'KV', 'MXFP4', '1 plain, 1 CSA, 1 HCA']) expect(stdout).toContain(word);
});

test('synth: same flags, same bytes; another seed, other bytes; a vocabulary or none', () => {
  const flags = ['--preset', 'tiny', '--ratios', '0,4', '--vocab', '512', '--type', 'all=Q8_0'];
  for (const [name, seed] of [
    ['a', '1'],
    ['b', '1'],
    ['c', '2'],
  ] as const) {
    expect(nandu(['synth', at(name), ...flags, '--seed', seed]).status).toBe(0);
  }
  expect(readFileSync(at('a')).equals(readFileSync(at('b')))).toBe(true);
  expect(readFileSync(at('a')).equals(readFileSync(at('c')))).toBe(false);
  expect(json(['inspect', at('a')]).tokenizer.model).toBe('gpt2');
  expect(nandu(['synth', at('d'), ...flags, '--no-vocab']).status).toBe(0);
  expect(json(['inspect', at('d')])).toMatchObject({
    tokenizer: { model: 'no_vocab' },
    geometry: { vocab: 512, layers: 2 },
  });
  expect(refusal(['synth', join(folder, 'none', 'x.gguf')])[0]).toBe(74);
});

test('tokenize: any text comes back byte for byte, specials only when asked for', () => {
  const text = 'Grüße, 世界! 👋\n\ttab <think> done\u0000';
  const args = ['tokenize', '--model', small];
  const encoded = json(args, text);
  expect(encoded.ids.length).toBe(encoded.num_tokens);
  expect(JSON.parse(nandu([...args, '--ids', '--json'], text).stdout)).toEqual(encoded.ids);
  const back = nandu([...args, '--decode'], nandu([...args, '--ids'], text).stdout);
  expect(back.stdout).toBe(text);
  const special = json([...args, '--parse-special', '--add-bos'], '<think>a');
  expect(special.ids).toEqual([0, 6, expect.any(Number)]);
  expect(json(args, '<think>a').num_tokens).toBeGreaterThan(3);
  expect(nandu([...args, '--decode', '--text', '6 5000']).status).toBe(66);
});
