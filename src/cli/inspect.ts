// nandu inspect: what a model file holds, without running it.

import type { Command } from 'commander';
import { loadAddon, type ModelFacts } from '../addon/load.js';
import { bytes, count, figure, Progress, table, toJson } from './format.js';
import { modelPath } from './model.js';
import { modelOption } from './options.js';

export function registerInspect(program: Command): void {
  program
    .command('inspect')
    .summary('what a model file holds')
    .description(
      'Shows geometry, tensor types, bytes of KV a token by kind of layer, and bytes of weights that a token touches.',
    )
    .argument('[file]', 'GGUF file, as --model')
    .addOption(modelOption())
    .option('--verify', 'read all weights and check that no scale is NaN or infinite (about 0.1 s a GiB)')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  nandu inspect v4.gguf
  nandu inspect v4-00001-of-00004.gguf --verify --json`,
    )
    .action(inspect);
}

async function inspect(file: string | undefined, flags: { model?: string; verify?: true; json?: true }): Promise<void> {
  const addon = loadAddon();
  const model = modelPath(flags.model ?? file);
  const progress = new Progress('checking weights');
  const options = { verify: flags.verify === true };
  const facts = await addon.inspect(model, options, progress.update).finally(() => progress.end());
  console.log(flags.json ? toJson({ ...facts, verified: options.verify }) : describe(facts, options.verify));
}

function describe(facts: ModelFacts, verified: boolean): string {
  const { geometry, layers, kv } = facts;
  const rows: string[][] = [
    ['file', facts.path],
    ['name', facts.name],
    ['architecture', facts.architecture],
    ['weights', `${bytes(facts.weight_bytes)}${verified ? ', every scale is finite' : ''}`],
    ['read for a token', bytes(facts.active_bytes_per_token)],
    ['layers', `${layers.plain} plain, ${layers.csa} CSA, ${layers.hca} HCA`],
    [
      'tokenizer',
      facts.tokenizer.pre === '' ? facts.tokenizer.model : `${facts.tokenizer.model}, ${facts.tokenizer.pre}`,
    ],
  ];
  const shape = Object.entries(geometry).map(([key, value]) => [`  ${key}`, figure(value)]);
  const types = facts.types.map(({ type, tensors, bytes: size }) => [
    `  ${type}`,
    `${count(tensors)} tensors`,
    bytes(size),
  ]);
  const memory = (['reference', 'f32'] as const).map((mode) => {
    const {
      bytes_per_token: all,
      csa_bytes_per_token: csa,
      hca_bytes_per_token: hca,
      sequence_bytes: fixed,
    } = kv[mode];
    const perToken = `${figure(all)} B a token (CSA ${figure(csa)}, HCA ${figure(hca)})`;
    return [`  ${mode}`, perToken, `and ${bytes(fixed)} a sequence`];
  });
  return [table(rows), '\ngeometry', table(shape), '\ntensors', table(types), '\nKV', table(memory)].join('\n');
}
