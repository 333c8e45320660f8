// nandu synth: writes a model file with random weights, for tests and benchmarks. The work is native/synth; flags carry
// the names of SynthOptions and SynthTypes in native/synth/synth.h.

import { readdirSync, readlinkSync, realpathSync, unlinkSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { loadAddon } from '../addon/load.js';
import { bytes, figure, Progress, SIGNAL_EXIT, type Signal, UsageError } from './format.js';
import { nativeVocabulary } from './model.js';
import { collect, integer, real } from './options.js';

/** Tokens of the vocabulary that a preset carries; null: none, token ids only. */
const PRESETS: Readonly<Record<string, number | null>> = { golden: null, tiny: 4096, small: 8192, medium: 32000 };

const WHOLE = integer(0, 0xffffffff);
const REAL = real(-1e30, 1e30);

/** Flag, how its value is read, what it says in help. */
const GEOMETRY: readonly (readonly [string, (text: string) => number, string])[] = [
  ['context', WHOLE, 'context length'],
  ['hidden', WHOLE, 'hidden size'],
  ['heads', WHOLE, 'attention heads'],
  ['head-dim', WHOLE, 'dimensions of a head'],
  ['rope-dim', WHOLE, 'of these, with rotary positions'],
  ['q-rank', WHOLE, 'rank of the queries'],
  ['groups', WHOLE, 'groups of the output projection'],
  ['o-rank', WHOLE, 'its rank a group'],
  ['window', WHOLE, 'sliding window'],
  ['experts', WHOLE, 'routed experts of a layer'],
  ['experts-used', WHOLE, 'of these, used for a token'],
  ['expert-ffn', WHOLE, 'inner size of an expert'],
  ['hash-layers', WHOLE, 'first layers that route by token id'],
  ['index-heads', WHOLE, 'heads of the indexer'],
  ['index-dim', WHOLE, 'dimensions of an indexer head'],
  ['index-top-k', WHOLE, 'compressed rows that it selects'],
  ['sinkhorn-iterations', WHOLE, 'iterations of the hyper-connections'],
  ['routed-scale', REAL, 'scale of the routed experts'],
  ['clamp', REAL, 'limit of the clamped SwiGLU'],
  ['rope-base', REAL, 'rotary base of plain layers'],
  ['compress-rope-base', REAL, 'rotary base of compressed layers'],
  ['yarn-factor', REAL, 'YaRN factor'],
  ['yarn-beta-fast', REAL, 'YaRN beta, fast'],
  ['yarn-beta-slow', REAL, 'YaRN beta, slow'],
  ['yarn-original-context', WHOLE, 'context before YaRN'],
];

const TYPE_ROLES = [
  'experts_gate_up',
  'experts_down',
  'shared',
  'projections',
  'output_a',
  'indexer',
  'compressor',
  'ape',
  'router',
  'hc',
  'embedding',
  'output',
] as const;
/** Names for several roles at once. */
const ROLE_GROUPS: Readonly<Record<string, readonly string[]>> = {
  all: TYPE_ROLES.filter((role) => role !== 'ape'), // a table, not a matrix: F32, F16 or BF16
  experts: ['experts_gate_up', 'experts_down'],
};

interface SynthFlags extends Readonly<Record<string, unknown>> {
  readonly preset: string;
  readonly seed: number;
  readonly name?: string;
  readonly ratios?: readonly number[];
  readonly type: readonly string[];
  readonly vocab?: number;
  readonly noVocab?: true;
}

export function registerSynth(program: Command): void {
  const command = program
    .command('synth')
    .summary('write a model file with random weights')
    .description(
      'Writes a GGUF file of the DeepSeek-V4 architecture with random weights, ' +
        'for tests and benchmarks. Same flags, same bytes, on every machine; llama.cpp loads it too.',
    )
    .argument('<out>', 'the file to write')
    .addOption(
      new Option('--preset <name>', 'where geometry and types come from').choices(Object.keys(PRESETS)).default('tiny'),
    )
    .option('--seed <n>', 'random numbers to use', integer(0, Number.MAX_SAFE_INTEGER), 1)
    .option('--name <text>', 'general.name')
    .option('--vocab <n>', 'tokens of the vocabulary', integer(1, 1 << 20))
    .addOption(plainFlag('--no-vocab', 'carry no vocabulary: token ids only (golden never carries one)'))
    .addOption(
      new Option('--type <role=TYPE>', 'tensor type of a kind of matrix; may be given more than once')
        .argParser(collect)
        .default([], "the preset's"),
    )
    .option('--ratios <list>', 'compress ratio of each layer, as 0,4,128: plain, CSA, HCA', ratios);
  for (const [flag, read, help] of GEOMETRY) command.option(`--${flag} <n>`, help, read);
  command
    .addHelpText(
      'after',
      `
Roles for --type: ${[...Object.keys(ROLE_GROUPS), ...TYPE_ROLES].join(', ')}; later ones win.
Types: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q4_K Q5_K Q6_K Q2_K Q3_K IQ2_XXS IQ4_NL IQ4_XS MXFP4.

Examples:
  nandu synth tiny.gguf --preset tiny
  nandu synth golden.gguf --preset golden
  nandu synth mixed.gguf --preset small --type all=Q8_0 --type experts=MXFP4 --ratios 0,4,128,4 --seed 7`,
    )
    .action(synth);
}

async function synth(out: string, flags: SynthFlags): Promise<void> {
  const options: Record<string, unknown> = { preset: flags.preset, seed: flags.seed };
  if (flags.name !== undefined) options.name = flags.name;
  if (flags.ratios !== undefined) options.compress_ratios = flags.ratios;
  for (const [flag] of GEOMETRY) {
    const value = flags[flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())];
    if (value !== undefined) options[flag.replaceAll('-', '_')] = value;
  }
  options.types = typesOf(flags.type);
  const own = PRESETS[flags.preset] ?? null;
  const carries = own !== null && flags.noVocab !== true;
  if (flags.vocab !== undefined) options.vocab_size = flags.vocab;
  const addon = loadAddon();
  const progress = new Progress(`writing ${out}`);
  const begin = performance.now();
  const vocabulary = carries ? vocabularyOf(flags.vocab ?? own) : null;
  const onSignal = (signal: Signal): void => {
    progress.end();
    removeTemporary(out);
    console.error(`nandu: ${signal === 'SIGINT' ? 'interrupted' : 'told to end'}`);
    addon.exitNow(SIGNAL_EXIT[signal]); // process.exit would wait for the writer
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  await addon.synth(out, options, vocabulary, progress.update).finally(() => {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    progress.end();
  });
  console.log(`${out}: ${bytes((await stat(out)).size)} in ${figure((performance.now() - begin) / 1000)} s`);
}

/**
 * Removes what native has begun to write for `out`. Its name is known to native alone, and a file of such a name may be another
 * process's: it is the one that this process has open. Where there is no /proc, it stays.
 */
function removeTemporary(out: string): void {
  for (const fd of namesIn('/proc/self/fd')) {
    try {
      const begun = `${realPathOf(out)}.`;
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      if (path.startsWith(begun) && /^\w{6}\.tmp$/.test(path.slice(begun.length))) unlinkSync(path);
    } catch {
      // no name, or none any more: closed, or complete and renamed, meanwhile
    }
  }
}

/** Of a file that need not be there. */
function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return join(realpathSync(dirname(path)), basename(path));
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function vocabularyOf(size: number): object {
  try {
    return nativeVocabulary(size);
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(`--vocab: ${error.message}`);
    throw error;
  }
}

/** `experts=MXFP4` for each role that it means. */
function typesOf(given: readonly string[]): Record<string, string> {
  const types: Record<string, string> = {};
  for (const text of given) {
    const [role = '', type = ''] = text.split('=');
    const group = Object.hasOwn(ROLE_GROUPS, role) ? ROLE_GROUPS[role] : undefined;
    const roles = group ?? TYPE_ROLES.filter((name) => name === role);
    if (roles.length === 0 || type === '') throw new UsageError(`--type ${text}: write role=TYPE; see --help for both`);
    for (const name of roles) types[name] = type;
  }
  return types;
}

function ratios(text: string): number[] {
  const list = text.split(',').map((ratio) => (/^\d+$/.test(ratio) ? Number(ratio) : Number.NaN));
  if (!list.every((ratio) => [0, 4, 128].includes(ratio))) {
    throw new InvalidArgumentError('It must be a list of 0, 4 and 128 separated by commas.');
  }
  return list;
}

/** A flag whose name begins with "no-" and that negates nothing. */
function plainFlag(flags: string, description: string): Option {
  const option = new Option(flags, description);
  option.negate = false;
  return option;
}
