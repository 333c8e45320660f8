// nandu score: a teacher-forced pass over given tokens; how well the model predicts each from those before it.

import type { Command } from 'commander';
import { loadAddon, type NativeAddon, nativeErrorCode } from '../addon/load.js';
import { Tokenizer } from '../text/tokenizer.js';
import { figure, InputError, Progress, table, toJson, UsageError } from './format.js';
import { modelPath } from './model.js';
import { addComputeOptions, integer, readIds, readText, type SharedOptions } from './options.js';
import { readVocabulary } from './vocabulary.js';

interface ScoreFlags extends SharedOptions {
  readonly tokens?: string;
  readonly text?: string;
  readonly chunk: number;
  readonly logits?: string;
  readonly json?: true;
}

export function registerScore(program: Command): void {
  addComputeOptions(program.command('score'))
    .summary('mean log-loss and perplexity of given tokens, and their logits')
    .description('Runs the model over given tokens and tells how well it predicted each from those before it.')
    .option('--tokens <file>', 'token ids in decimal, separated by white space')
    .option('--text <file>', "text, turned into tokens by the model's own vocabulary")
    .option('--chunk <n>', 'tokens of one step; 1 goes token by token, as decoding does', integer(1, 1 << 20), 512)
    .option('--logits <file>', 'write float32 [tokens, vocabulary] as .npy')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Results do not depend on --chunk and --threads: not in one bit.

Examples:
  nandu score --model v4.gguf --text README.md
  nandu score --model v4.gguf --tokens ids.txt --numerics f32 --logits logits.npy --json`,
    )
    .action(score);
}

async function score(flags: ScoreFlags): Promise<void> {
  if ((flags.tokens === undefined) === (flags.text === undefined)) {
    throw new UsageError('give either --tokens or --text');
  }
  const addon = loadAddon();
  const given = flags.tokens === undefined ? await readText(flags.text as string) : await readIds(flags.tokens);
  const model = modelPath(flags.model);
  const tokens = typeof given === 'string' ? encode(addon, model, given) : given;
  if (tokens.length === 0) throw new InputError(`${flags.tokens ?? flags.text}: holds no tokens`);
  const progress = new Progress('scoring', 'tokens');
  const { numerics, chunk, threads, logits } = flags;
  const options = { model, tokens, numerics, chunk, threads, ...(logits === undefined ? {} : { logits }) };
  const result = await addon
    .score(options, progress.update)
    .catch((error: Error) => {
      // What native calls tokens came from the file.
      const isInFile = nativeErrorCode(error) === 'INVALID_ARGUMENT' && error.message.startsWith('tokens: number');
      throw isInFile ? new InputError(`${flags.tokens ?? flags.text}${error.message.slice('tokens'.length)}`) : error;
    })
    .finally(() => progress.end());
  const record = {
    model,
    tokens: result.tokens,
    mean_log_loss: result.meanLogLoss,
    perplexity: result.perplexity,
    tokens_per_second: result.tokensPerSecond,
    seconds: result.seconds,
    load_seconds: result.loadSeconds,
    numerics,
    chunk,
    threads: result.threads,
    target: result.target,
    cpu: result.cpu,
    selections: result.selections,
    paths: result.paths,
  };
  if (flags.json) {
    console.log(toJson(record));
    return;
  }
  const { paths, ...plain } = record;
  const rows = Object.entries(plain).map(([key, value]) => [key, typeof value === 'number' ? figure(value) : value]);
  const used = Object.entries(paths).filter(([, calls]) => calls > 0);
  console.log(table([...rows, ['paths', used.map(([name, calls]) => `${name} ${calls}`).join(', ')]]));
}

function encode(addon: NativeAddon, model: string, text: string): Uint32Array {
  const vocabulary = readVocabulary(addon, model);
  if (!vocabulary) throw new UsageError(`${model} holds no vocabulary: give --tokens instead of --text`);
  return new Tokenizer(vocabulary).encode(text, { addBos: vocabulary.addBos });
}
