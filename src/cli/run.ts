// nandu run: a prompt in, tokens out, without a server.

import { randomInt } from 'node:crypto';
import { createInterface } from 'node:readline';
import { type Command, Option } from 'commander';
import { loadAddon, type ModelDescription } from '../addon/load.js';
import { NativeRunner } from '../addon/runner.js';
import { NanduEngine } from '../engine/engine.js';
import type { Sampling, StopConditions } from '../engine/types.js';
import { BLOCK_TOKENS } from '../kv/block.js';
import { ChatEncoder, type ChatMessage, type Conversation } from '../text/chat.js';
import { Tokenizer } from '../text/tokenizer.js';
import { SpecialToken } from '../text/vocabulary.js';
import { count, figure, InputError, Interrupted, Progress, toJson, UsageError } from './format.js';
import { type Answer, generate } from './generation.js';
import { cacheConfig } from './kv.js';
import { modelPath } from './model.js';
import { addComputeOptions, collect, integer, readIds, real, type SharedOptions } from './options.js';
import { readVocabulary } from './vocabulary.js';

type Effort = Conversation['reasoningEffort'];
const EFFORTS: readonly Effort[] = ['none', 'low', 'medium', 'high', 'max'];

interface RunFlags extends SharedOptions {
  readonly prompt?: string;
  readonly tokens?: string;
  readonly chat?: true;
  readonly system?: string;
  readonly reasoning: Effort;
  readonly context: number;
  readonly maxTokens: number;
  readonly minTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly repetitionPenalty: number;
  readonly seed?: number;
  readonly stop: readonly string[];
  readonly ignoreEos?: true;
  readonly json?: true;
}

const WHOLE_MAX = 0xfffffffe;

export function registerRun(program: Command): void {
  addComputeOptions(program.command('run'))
    .summary('answer a prompt here, without a server')
    .description('Continues a prompt and prints the text as it comes. What it took stands on standard error.')
    .option('-p, --prompt <text>', 'text to continue')
    .option('--tokens <file>', 'prompt as token ids in decimal, separated by white space')
    .option('--chat', 'a conversation: each line of standard input is a message')
    .option('--system <text>', 'with --chat: what the conversation begins with')
    .addOption(
      new Option('--reasoning <effort>', 'with --chat: how much to think first').choices(EFFORTS).default('none'),
    )
    .option('-n, --max-tokens <n>', 'most tokens to generate; 0 computes the prompt only', integer(0, WHOLE_MAX), 256)
    .option('--min-tokens <n>', 'no end before so many', integer(0, WHOLE_MAX), 0)
    .option('-t, --temperature <x>', '0 takes the most likely token', real(0, 100), 0)
    .option('--top-k <n>', 'only the n most likely; 0: all', integer(0, WHOLE_MAX), 0)
    .option('--top-p <x>', 'only the most likely that make up this probability', real(1e-6, 1), 1)
    .option('--min-p <x>', 'only those at least so likely, relative to the most likely', real(0, 1), 0)
    .option('--repetition-penalty <x>', 'above 1 makes tokens of prompt and output less likely', real(0.01, 100), 1)
    .option('--presence-penalty <x>', 'subtracted for tokens of the output', real(-100, 100), 0)
    .option('--frequency-penalty <x>', 'subtracted as often as they stand there', real(-100, 100), 0)
    .option('--seed <n>', 'same seed, same text (default: a random one)', integer(0, Number.MAX_SAFE_INTEGER))
    .addOption(
      new Option('--stop <text>', 'end before this text; may be given more than once')
        .argParser(collect)
        .default([], 'none'),
    )
    .option('--ignore-eos', 'the end-of-sequence token does not end')
    .option('--context <n>', "prompt and output together (default: the model's)", integer(1, WHOLE_MAX))
    .option(
      '--json',
      'print JSON: prompt_tokens, output_tokens, text, speeds; with --chat an object a line, one an answer',
    )
    .addHelpText(
      'after',
      `
Without --model the embedded model answers: a pocket dictionary that finds facts in a text and calls tools.

Examples:
  nandu run --model v4.gguf --prompt 'Once upon a time' --max-tokens 64
  nandu run --model v4.gguf --tokens ids.txt --max-tokens 128 --ignore-eos --json
  echo 'Why is the sky blue?' | nandu run --model v4.gguf --chat --reasoning low`,
    )
    .action(run);
}

async function run(flags: RunFlags): Promise<void> {
  const inputs = [flags.prompt, flags.tokens, flags.chat].filter((input) => input !== undefined);
  if (inputs.length !== 1) throw new UsageError('give one of --prompt, --tokens and --chat');
  if (flags.prompt === '') throw new UsageError('--prompt is empty');
  if (flags.minTokens > flags.maxTokens) throw new UsageError('--min-tokens is more than --max-tokens');
  const addon = loadAddon();
  const given = flags.tokens === undefined ? null : await readIds(flags.tokens);
  const model = modelPath(flags.model);
  const loading = new Progress('loading');
  const beginMs = performance.now();
  const opened = await NativeRunner.open(
    addon,
    {
      model,
      numerics: flags.numerics,
      threads: flags.threads,
      context: flags.context ?? 0,
      kvBytes: 0,
      maxSequences: 1,
      isChecked: false,
    },
    (fraction) => loading.update(fraction, 1),
  ).finally(() => loading.end());
  const session = new Session(flags, model, opened.runner, opened.description, (performance.now() - beginMs) / 1000);
  try {
    const vocabulary = readVocabulary(addon, model);
    const tokenizer = vocabulary ? new Tokenizer(vocabulary) : null;
    if (!tokenizer && flags.stop.length > 0) throw new UsageError(`--stop: ${model} holds no vocabulary`);
    if (given) await session.answer(checkIds(given, flags.tokens as string, opened.description), tokenizer);
    else if (!tokenizer || !vocabulary) throw new UsageError(`${model} holds no vocabulary: give --tokens`);
    else if (flags.chat) await session.chat(tokenizer);
    else await session.answer(tokenizer.encode(flags.prompt as string, { addBos: vocabulary.addBos }), tokenizer);
  } finally {
    await session.close();
  }
}

/** A model in memory, and what the flags ask of it. */
class Session {
  readonly #engine: NanduEngine;
  readonly #interrupt = new AbortController();
  readonly #onSignal = (): void => this.#interrupt.abort(new Interrupted());
  readonly #seed: number;

  constructor(
    private readonly flags: RunFlags,
    private readonly model: string,
    runner: NativeRunner,
    private readonly description: ModelDescription,
    private readonly loadSeconds: number,
  ) {
    // A conversation goes on where it ended.
    const cache = cacheConfig(description, flags.chat === true ? null : 0, 'ends');
    this.#engine = new NanduEngine(runner, {
      // A model may take more than this machine has memory for.
      contextTokens: Math.min(description.geometry.context, cache.numSlots * BLOCK_TOKENS),
      eosToken: description.tokenizer.eos_token_id ?? null,
      maxRunning: 1,
      maxWaiting: 0,
      cache,
    });
    this.#seed = flags.seed ?? randomInt(2 ** 48 - 1);
    process.once('SIGINT', this.#onSignal);
  }

  async close(): Promise<void> {
    process.removeListener('SIGINT', this.#onSignal);
    await this.#engine.close();
  }

  /** Answers line after line; the conversation grows. */
  async chat(tokenizer: Tokenizer): Promise<void> {
    const encoder = new ChatEncoder(tokenizer);
    const messages: ChatMessage[] = [];
    if (this.flags.system !== undefined) messages.push(message('system', this.flags.system));
    const isPerson = process.stdin.isTTY === true;
    const { signal } = this.#interrupt;
    const lines = createInterface({
      input: process.stdin,
      ...(isPerson ? { output: process.stderr, prompt: '> ' } : {}),
    });
    let isOpen = true;
    lines.once('close', () => {
      isOpen = false;
    });
    // On a terminal Ctrl-C is a key, which without a listener closes the input and interrupts nothing.
    lines.on('SIGINT', () => {
      process.stderr.write('\n');
      process.kill(process.pid, 'SIGINT');
    });
    signal.addEventListener('abort', () => lines.close(), { once: true });
    if (isPerson) lines.prompt();
    for await (const line of lines) {
      signal.throwIfAborted(); // lines that came before are still given
      if (line.trim() !== '') {
        messages.push(message('user', line));
        const reasoningEffort = this.flags.reasoning;
        const chat = encoder.encode({ messages, tools: [], reasoningEffort, continueFinalMessage: false });
        const answer = await this.answer(chat.tokens, tokenizer, chat.startsInReasoning);
        messages.push({ ...message('assistant', answer.text), reasoning: answer.reasoning });
      }
      if (isPerson && isOpen) lines.prompt();
    }
    signal.throwIfAborted();
  }

  async answer(promptTokens: Uint32Array, tokenizer: Tokenizer | null, startsInReasoning = false): Promise<Answer> {
    const { flags } = this;
    const isPlain = flags.json !== true;
    const reading = new Progress('reading the prompt', 'tokens');
    const generating = new Progress('generating', 'tokens'); // seen only where the text is not
    let numTokens = 0;
    const write = (text: string): void => {
      reading.end();
      if (isPlain) process.stdout.write(text);
    };
    const answer = await generate(
      this.#engine,
      {
        promptTokens,
        sampling: this.#sampling(),
        stop: this.#stop(),
        reasoning: {
          startsInReasoning,
          endToken: tokenizer?.specialId(SpecialToken.END_THINK) ?? null,
          maxTokens: null,
        },
        signal: this.#interrupt.signal,
      },
      tokenizer,
      flags.stop,
      {
        onText: write,
        onToken: (id) => {
          if (!tokenizer) write(`${id} `);
          numTokens += 1;
          if (!isPlain) generating.update(numTokens, flags.maxTokens);
        },
        onPrefill: (done) => reading.update(done, promptTokens.length),
      },
    ).finally(() => {
      reading.end();
      generating.end();
    });
    if (isPlain) this.#printFigures(promptTokens.length, answer);
    else {
      const record = this.#record(promptTokens, answer);
      console.log(flags.chat === true ? JSON.stringify(record) : toJson(record));
    }
    return answer;
  }

  #sampling(): Sampling {
    const { temperature, topK, topP, minP, presencePenalty, frequencyPenalty, repetitionPenalty } = this.flags;
    const logitBias = new Map<number, number>();
    const penalties = { presencePenalty, frequencyPenalty, repetitionPenalty };
    return { temperature, topK, topP, minP, ...penalties, seed: this.#seed, logitBias };
  }

  #stop(): StopConditions {
    const { maxTokens, minTokens, stop } = this.flags;
    const sequences = stop.map((text) => new TextEncoder().encode(text));
    return { maxTokens, minTokens, sequences, tokenIds: [], ignoreEos: this.flags.ignoreEos === true };
  }

  #record(promptTokens: Uint32Array, answer: Answer): object {
    return {
      model: this.model,
      prompt_tokens: [...promptTokens],
      output_tokens: answer.tokens,
      text: answer.text,
      ...(answer.reasoning === '' ? {} : { reasoning: answer.reasoning }),
      finish_reason: answer.match ? `${answer.finishReason}_${answer.match.t}` : answer.finishReason,
      seed: this.#seed,
      load_seconds: this.loadSeconds,
      prefill_tokens_per_second: answer.prefillTokensPerSecond,
      decode_tokens_per_second: answer.decodeTokensPerSecond,
      numerics: this.flags.numerics,
      threads: this.description.threads,
      target: this.description.target,
      cpu: this.description.cpu,
    };
  }

  #printFigures(promptTokens: number, answer: Answer): void {
    process.stdout.write('\n');
    const { prefillTokensPerSecond: prefill, decodeTokensPerSecond: decode } = answer;
    console.error(
      `[${count(promptTokens)} prompt tokens, ${figure(prefill)} a second; ` +
        `${count(answer.tokens.length)} output tokens, ${figure(decode)} a second; ` +
        `ended by ${answer.finishReason}; loaded in ${figure(this.loadSeconds)} s]`,
    );
  }
}

function message(role: 'system' | 'user' | 'assistant', content: string): ChatMessage {
  return { role, content, reasoning: '', toolCalls: [], toolCallId: '' };
}

function checkIds(ids: Uint32Array, file: string, description: ModelDescription): Uint32Array {
  const { vocab } = description.geometry;
  const index = ids.findIndex((id) => id >= vocab);
  if (index >= 0) throw new InputError(`${file}: token id ${ids[index]} is outside the vocabulary of ${vocab} tokens`);
  if (ids.length === 0) throw new InputError(`${file}: holds no tokens`);
  return ids;
}
