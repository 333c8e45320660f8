// GenerateRequest, checked field by field and turned into what the server works with. Every rule of the contract about a
// single request stands here; what needs the prompt's tokens is checked behind, in prompt.ts.

import type { Priority, Sampling, StopConditions } from '../engine/types.js';
import type { CacheWishes } from '../kv/types.js';
import { parseChat } from './chat-input.js';
import type { GenerateRequest__Output } from './gen/nandu/v1/GenerateRequest.js';
import type { OutputOptions__Output } from './gen/nandu/v1/OutputOptions.js';
import type { SamplingOptions__Output } from './gen/nandu/v1/SamplingOptions.js';
import type { StopOptions__Output } from './gen/nandu/v1/StopOptions.js';
import type { StreamOptions__Output } from './gen/nandu/v1/StreamOptions.js';
import type { TextOptions__Output } from './gen/nandu/v1/TextOptions.js';
import type { PromptInput, TextInput } from './prompt.js';
import { FieldErrors, mapPath, snakeCase } from './validate.js';

/** What the checks need to know of the model and the server. */
export interface RequestLimits {
  readonly vocabSize: number;
  readonly defaultMaxTokens: number;
  readonly defaultSampling: DefaultSampling;
}

/** Values of sampling fields that a request leaves unset. */
export type DefaultSampling = Omit<Sampling, 'seed' | 'logitBias'>;

export interface GenerateOptions {
  readonly input: PromptInput;
  /** Its path in the request. */
  readonly inputField: string;
  /** null: the server chooses. */
  readonly seed: number | null;
  readonly sampling: Omit<Sampling, 'seed'>;
  readonly numChoices: number;
  readonly stop: Omit<StopConditions, 'sequences'>;
  readonly stopSequences: readonly string[];
  readonly includeStop: boolean;
  /** null: no limit. */
  readonly maxReasoningTokens: number | null;
  readonly output: OutputWishes;
  readonly pacing: Pacing;
  readonly cache: CacheOptions;
  /** null: the server makes one. */
  readonly requestId: string | null;
  readonly priority: Priority;
  readonly sessionId: string | null;
  readonly labels: Readonly<Record<string, string>>;
}

export interface CacheOptions extends Omit<CacheWishes, 'boundaries'> {
  /** Messages behind which the client wants a point, beyond the automatic ones. */
  readonly boundaryAfterMessage: readonly number[];
}

export interface OutputWishes {
  readonly text: boolean;
  readonly tokenIds: boolean;
  readonly logprobs: boolean;
  readonly topLogprobs: number;
  readonly promptTokenIds: boolean;
  readonly timings: boolean;
}

export interface Pacing {
  /** 0: no heartbeat. */
  readonly progressIntervalMs: number;
  /** At least 1. */
  readonly messageTokensMax: number;
  readonly delayMsMax: number;
}

const CHOICES_MAX = 8;
const TOP_LOGPROBS_MAX = 20;
const LOGIT_BIAS_MAX = 1024;
const STOP_SEQUENCES_MAX = 16;
const STOP_SEQUENCE_BYTES_MAX = 1024;
const STOP_TOKENS_MAX = 256;
const SESSION_ID_CHARS_MAX = 256;
const LABELS_MAX = 16;
const LABEL_KEY_CHARS_MAX = 63;
const LABEL_VALUE_CHARS_MAX = 256;
/** A scope is a name, not a document; it is hashed for every request. */
const SCOPE_CHARS_MAX = 256;
/** Each one is a point of some megabytes (V4: 3 to 8). */
const BOUNDARIES_MAX = 64;
export const PROGRESS_INTERVAL_MS = 1000;
const PROGRESS_INTERVAL_MS_MIN = 20;
const DELAY_MS = 50;
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/;

export const PRIORITIES: Readonly<Record<string, Priority>> = {
  PRIORITY_UNSPECIFIED: 'normal',
  PRIORITY_BACKGROUND: 'background',
  PRIORITY_NORMAL: 'normal',
  PRIORITY_INTERACTIVE: 'interactive',
};

type CacheMode = Pick<CacheWishes, 'read' | 'write'>;
const READ_WRITE: CacheMode = { read: true, write: true };
const CACHE_MODES: Readonly<Record<string, CacheMode>> = {
  CACHE_MODE_UNSPECIFIED: READ_WRITE,
  CACHE_MODE_READ_WRITE: READ_WRITE,
  CACHE_MODE_READ_ONLY: { read: true, write: false },
  CACHE_MODE_BYPASS: { read: false, write: false },
};

/** Throws a Failure that names every bad field. */
export function parseGenerateRequest(request: GenerateRequest__Output, limits: RequestLimits): GenerateOptions {
  const errors = new FieldErrors();
  const input = parseInput(request, limits.vocabSize, errors);
  const { seed, numChoices, sampling } = parseSampling(request.sampling ?? {}, limits, errors);
  const stop = parseStop(request.stop ?? {}, limits, errors);
  const { requestId = '', sessionId = '' } = request;
  if (requestId !== '' && !REQUEST_ID.test(requestId)) {
    errors.invalid('request_id', 'must be 1 to 128 characters of A-Z a-z 0-9 . _ : -');
  }
  if (isLonger(sessionId, SESSION_ID_CHARS_MAX)) {
    errors.invalid('session_id', `must be at most ${SESSION_ID_CHARS_MAX} characters`);
  }
  const options: GenerateOptions = {
    input,
    inputField: input.t,
    seed,
    sampling,
    numChoices,
    ...stop,
    maxReasoningTokens: request.input === 'chat' ? (request.chat?.maxReasoningTokens ?? null) : null,
    output: parseOutput(request.output ?? {}, errors),
    pacing: parsePacing(request.stream ?? {}, errors),
    cache: parseCache(request, errors),
    requestId: requestId === '' ? null : requestId,
    priority: errors.oneOf<Priority>('priority', request.priority, 'normal', PRIORITIES),
    sessionId: sessionId === '' ? null : sessionId,
    labels: parseLabels(request.labels ?? {}, errors),
  };
  const format = request.responseFormat?.format;
  if (format !== undefined) {
    errors.unsupported(`response_format.${snakeCase(format)}`, 'constrained output is not supported yet');
  }
  errors.throwIfAny();
  return options;
}

/** The arms that GenerateRequest and PromptSpec have in common. */
export function parseInput(
  request: Pick<GenerateRequest__Output, 'input' | 'textOptions' | 'text' | 'chat' | 'tokenIds'>,
  vocabSize: number,
  errors: FieldErrors,
): PromptInput {
  checkTextOptions(request.textOptions, request.input, errors);
  switch (request.input) {
    case 'text':
      return parseText(request.text ?? '', request.textOptions, errors);
    case 'chat':
      return { t: 'chat', conversation: parseChat(request.chat ?? {}, errors) };
    case 'tokenIds': {
      const ids = request.tokenIds?.ids ?? [];
      if (ids.length === 0) errors.invalid('token_ids', 'must hold at least one id');
      checkTokenIds('token_ids.ids', ids, vocabSize, errors);
      return { t: 'token_ids', ids: Uint32Array.from(ids) };
    }
    default:
      errors.invalid('input', 'one of chat, text and token_ids must be set');
      return { t: 'token_ids', ids: new Uint32Array(0) };
  }
}

export function parseText(text: string, options: TextOptions__Output | undefined, errors: FieldErrors): TextInput {
  if (text === '') errors.invalid('text', 'must not be empty');
  return { t: 'text', text, addBos: options?.addBos ?? null, parseSpecial: options?.parseSpecial ?? false };
}

/** Options of `text` beside another input would be without effect. */
export function checkTextOptions(
  options: TextOptions__Output | undefined,
  input: string | undefined,
  errors: FieldErrors,
): void {
  if (input === 'text' || options === undefined) return;
  if (options.addBos !== undefined) errors.invalid('text_options.add_bos', 'goes with text input only');
  if (options.parseSpecial !== undefined) errors.invalid('text_options.parse_special', 'goes with text input only');
}

/** A path is made for a wrong id only: of a million they take time. */
export function checkTokenIds(field: string, ids: readonly number[], vocabSize: number, errors: FieldErrors): void {
  for (const [index, id] of ids.entries()) {
    if (id >= vocabSize) errors.invalid(`${field}[${index}]`, outside(id, vocabSize));
  }
}

function outside(id: number, vocabSize: number): string {
  return `${id} is outside the vocabulary of ${vocabSize} tokens`;
}

function parseSampling(
  given: SamplingOptions__Output,
  { vocabSize, defaultSampling: unset }: RequestLimits,
  errors: FieldErrors,
): Pick<GenerateOptions, 'seed' | 'numChoices' | 'sampling'> {
  const logitBias = new Map<number, number>();
  const biases = Object.entries(given.logitBias ?? {});
  if (biases.length > LOGIT_BIAS_MAX) errors.invalid('sampling.logit_bias', `holds more than ${LOGIT_BIAS_MAX} tokens`);
  for (const [key, bias] of biases) {
    const field = mapPath('sampling.logit_bias', key);
    if (Number(key) >= vocabSize) errors.invalid(field, outside(Number(key), vocabSize));
    logitBias.set(Number(key), errors.number(field, bias, 0, {}));
  }
  const seed = given.seed;
  errors.number('sampling.seed', seed, 0, { low: 0, high: Number.MAX_SAFE_INTEGER });
  const number = errors.number.bind(errors);
  return {
    seed: seed ?? null,
    numChoices: number('sampling.n', given.n, 1, { low: 1, high: CHOICES_MAX }),
    sampling: {
      temperature: number('sampling.temperature', given.temperature, unset.temperature, { low: 0 }),
      topK: given.topK ?? unset.topK,
      topP: number('sampling.top_p', given.topP, unset.topP, { low: 0, isLowOpen: true, high: 1 }),
      minP: number('sampling.min_p', given.minP, unset.minP, { low: 0, high: 1 }),
      presencePenalty: number('sampling.presence_penalty', given.presencePenalty, unset.presencePenalty, {}),
      frequencyPenalty: number('sampling.frequency_penalty', given.frequencyPenalty, unset.frequencyPenalty, {}),
      repetitionPenalty: number('sampling.repetition_penalty', given.repetitionPenalty, unset.repetitionPenalty, {
        low: 0,
        isLowOpen: true,
      }),
      logitBias,
    },
  };
}

function parseStop(
  given: StopOptions__Output,
  { vocabSize, defaultMaxTokens }: RequestLimits,
  errors: FieldErrors,
): Pick<GenerateOptions, 'stop' | 'stopSequences' | 'includeStop'> {
  const { minTokens = 0, sequences = [], tokenIds = [] } = given;
  const { maxTokens = Math.max(defaultMaxTokens, minTokens) } = given;
  if (minTokens > maxTokens) {
    errors.invalid('stop.min_tokens', `${minTokens} is more than max_tokens, ${maxTokens}`);
  }
  if (sequences.length > STOP_SEQUENCES_MAX) {
    errors.invalid('stop.sequences', `holds more than ${STOP_SEQUENCES_MAX} texts`);
  }
  for (const [index, sequence] of sequences.entries()) {
    if (sequence === '') errors.invalid(`stop.sequences[${index}]`, 'must not be empty');
    else if (Buffer.byteLength(sequence) > STOP_SEQUENCE_BYTES_MAX) {
      errors.invalid(`stop.sequences[${index}]`, `is longer than ${STOP_SEQUENCE_BYTES_MAX} bytes`);
    }
  }
  if (tokenIds.length > STOP_TOKENS_MAX) errors.invalid('stop.token_ids', `holds more than ${STOP_TOKENS_MAX} ids`);
  checkTokenIds('stop.token_ids', tokenIds, vocabSize, errors);
  return {
    stop: { maxTokens, minTokens, tokenIds: [...new Set(tokenIds)], ignoreEos: given.ignoreEos ?? false },
    stopSequences: sequences,
    includeStop: given.includeStop ?? false,
  };
}

function parseOutput(given: OutputOptions__Output, errors: FieldErrors): OutputWishes {
  const { topLogprobs = 0, logprobs = false } = given;
  if (topLogprobs > TOP_LOGPROBS_MAX) errors.invalid('output.top_logprobs', `must be at most ${TOP_LOGPROBS_MAX}`);
  else if (topLogprobs > 0 && !logprobs) errors.invalid('output.top_logprobs', 'is set without logprobs');
  return {
    text: given.text ?? true,
    tokenIds: given.tokenIds ?? false,
    logprobs,
    topLogprobs,
    promptTokenIds: given.promptTokenIds ?? false,
    timings: given.timings ?? false,
  };
}

function parsePacing(given: StreamOptions__Output, errors: FieldErrors): Pacing {
  const field = 'stream.progress_interval';
  const progressIntervalMs = errors.durationMs(field, given.progressInterval, PROGRESS_INTERVAL_MS);
  if (progressIntervalMs > 0 && progressIntervalMs < PROGRESS_INTERVAL_MS_MIN) {
    errors.invalid(field, `must be 0 or at least ${PROGRESS_INTERVAL_MS_MIN} ms`);
  }
  return {
    progressIntervalMs,
    messageTokensMax: Math.max(1, given.maxTokensPerMessage ?? 1),
    delayMsMax: errors.durationMs('stream.max_delay', given.maxDelay, DELAY_MS),
  };
}

function parseCache({ cache = {}, input, chat }: GenerateRequest__Output, errors: FieldErrors): CacheOptions {
  const mode = errors.oneOf('cache.mode', cache.mode, READ_WRITE, CACHE_MODES);
  const scope = checkScope('cache.scope', cache.scope ?? '', errors);
  if (cache.ttl) errors.unsupported('cache.ttl', 'prefixes cannot be kept for a time yet; PinPrefix can');
  const field = 'cache.boundary_after_message';
  const indexes = cache.boundaryAfterMessage ?? [];
  if (indexes.length > 0 && input !== 'chat') errors.invalid(field, 'goes with chat input only');
  else if (indexes.length > BOUNDARIES_MAX) errors.invalid(field, `holds more than ${BOUNDARIES_MAX} indexes`);
  else {
    const numMessages = chat?.messages?.length ?? 0;
    for (const [position, index] of indexes.entries()) {
      if (index < numMessages) continue;
      errors.invalid(`${field}[${position}]`, `${index} is not the index of one of the ${numMessages} messages`);
    }
  }
  return { ...mode, scope, boundaryAfterMessage: indexes };
}

export function checkScope(field: string, scope: string, errors: FieldErrors): string {
  if (isLonger(scope, SCOPE_CHARS_MAX)) errors.invalid(field, `must be at most ${SCOPE_CHARS_MAX} characters`);
  else if (/\p{Cc}/u.test(scope)) errors.invalid(field, 'must not hold control characters');
  return scope;
}

function parseLabels(labels: Readonly<Record<string, string>>, errors: FieldErrors): Readonly<Record<string, string>> {
  const entries = Object.entries(labels);
  if (entries.length > LABELS_MAX) errors.invalid('labels', `holds more than ${LABELS_MAX} labels`);
  for (const [key, value] of entries) {
    const field = mapPath('labels', key);
    if (key === '') errors.invalid(field, 'has an empty key');
    if (isLonger(key, LABEL_KEY_CHARS_MAX))
      errors.invalid(field, `has a key of more than ${LABEL_KEY_CHARS_MAX} characters`);
    if (isLonger(value, LABEL_VALUE_CHARS_MAX)) {
      errors.invalid(field, `has a value of more than ${LABEL_VALUE_CHARS_MAX} characters`);
    }
  }
  return labels;
}

/** Whether it has more characters, not UTF-16 units, of which one takes two at most; long ones are not taken apart. */
function isLonger(text: string, charsMax: number): boolean {
  return text.length > 2 * charsMax || [...text].length > charsMax;
}
