// Text and conversations to tokens without holding up the event loop: short ones at once, long ones in the tokenizer
// thread (worker.ts), which starts with the first of them. Owns that thread. Expected failures are Failure.

import { Worker } from 'node:worker_threads';
import { Failure } from '../base/failures.js';
import { ChatEncoder, type Conversation, type EncodedChat } from './chat.js';
import { Tokenizer } from './tokenizer.js';
import { type Vocabulary, VocabularyError } from './vocabulary.js';
import { doJob, type Job, type JobMessage, type JobResult, type ResultMessage, type WorkerSetup } from './worker.js';

/** About what a core tokenises in a millisecond: an estimate, to say how long the thread will be busy. */
const CHARS_PER_MS = 16 * 1024;
/** Text of up to this many characters is tokenised in less time (about 0.5 ms) than the way to the thread is worth. */
const INLINE_CHARS_MAX = 8 * 1024;
/** What may wait for the thread: texts are in memory long before the engine's queue bounds them. Four of the longest. */
const WAITING_CHARS_MAX = 256 * 2 ** 20;
/** Jobs that can be under way at once; only then could a cancelled one share its cell with another. */
const CANCEL_CELLS = 4096;
/** One restart. */
const STARTS_WITHOUT_WORK_MAX = 2;

export interface EncodeLimits {
  /** Stop soon after this many tokens: the result is then longer, and incomplete. */
  readonly maxTokens?: number;
  /** Aborted: the call fails with the signal's reason at once, and the thread drops the work. */
  readonly signal?: AbortSignal;
}

export interface EncodeTextOptions extends EncodeLimits {
  readonly parseSpecial: boolean;
  readonly addBos: boolean;
}

interface Pending {
  readonly resolve: (result: JobResult) => void;
  readonly reject: (reason: unknown) => void;
}

export class TextService {
  readonly tokenizer: Tokenizer;
  /** Why conversations cannot be encoded; null: they can. */
  readonly chatProblem: string | null;
  readonly #chat: ChatEncoder | null;
  readonly #pending = new Map<number, Pending>();
  /** Characters by job, until the thread has answered: what was cancelled lies in its queue all the same. */
  readonly #sent = new Map<number, number>();
  #sentChars = 0;
  readonly #cancelled = new Int32Array(new SharedArrayBuffer(CANCEL_CELLS * 4));
  #worker: Worker | null = null;
  #lastJobId = 0;
  /** Threads started since one has last done a job: after two that ended so, no more are started. */
  #startsWithoutWork = 0;
  #isClosed = false;

  /** Throws VocabularyError when the vocabulary cannot be used. */
  constructor(
    vocabulary: Vocabulary,
    private readonly workerUrl = new URL('./worker.js', import.meta.url),
    private readonly waitingCharsMax = WAITING_CHARS_MAX,
  ) {
    this.tokenizer = new Tokenizer(vocabulary);
    const chat = chatEncoderOf(this.tokenizer);
    this.#chat = chat instanceof ChatEncoder ? chat : null;
    this.chatProblem = chat instanceof ChatEncoder ? null : chat;
  }

  /** Whether raw text gets a BOS when the caller does not say. */
  get addsBos(): boolean {
    return this.tokenizer.vocabulary.addBos;
  }

  async encodeText(text: string, options: EncodeTextOptions): Promise<Uint32Array> {
    const { parseSpecial, addBos, maxTokens = Number.POSITIVE_INFINITY } = options;
    const result = await this.#do({ t: 'text', text, parseSpecial, addBos, maxTokens }, text.length, options.signal);
    if (result.t !== 'text') throw failureOf(result);
    return result.tokens;
  }

  /** The conversation has passed checkConversation. Fails with NO_TOKENIZER when `chatProblem` is set. */
  async encodeChat(conversation: Conversation, options: EncodeLimits = {}): Promise<EncodedChat> {
    if (this.chatProblem !== null) throw new Failure('NO_TOKENIZER', this.chatProblem);
    const { maxTokens = Number.POSITIVE_INFINITY } = options;
    const result = await this.#do({ t: 'chat', conversation, maxTokens }, numChars(conversation), options.signal);
    if (result.t !== 'chat') throw failureOf(result);
    return result.chat;
  }

  /** Ends the thread; calls under way fail. Safe twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const worker = this.#worker;
    this.#worker = null;
    this.#failAll(new Failure('DRAINING', 'the tokenizer is closed'));
    await worker?.terminate();
  }

  #do(job: Job, numChars: number, signal: AbortSignal | undefined): JobResult | Promise<JobResult> {
    signal?.throwIfAborted();
    if (this.#isClosed) throw new Failure('DRAINING', 'the tokenizer is closed');
    if (numChars <= INLINE_CHARS_MAX) return doJob(job, this.tokenizer, this.#chat);
    this.#refuseBeyondBound(numChars);
    const worker = this.#runningWorker();
    this.#lastJobId = (this.#lastJobId % 0x7fffffff) + 1;
    const id = this.#lastJobId;
    return new Promise<JobResult>((resolve, reject) => {
      const onAbort = (): void => {
        Atomics.store(this.#cancelled, id % CANCEL_CELLS, id);
        this.#take(id)?.reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      const stopListening = (): void => signal?.removeEventListener('abort', onAbort);
      this.#pending.set(id, {
        resolve(result) {
          stopListening();
          resolve(result);
        },
        reject(reason) {
          stopListening();
          reject(reason);
        },
      });
      if (this.#pending.size === 1) worker.ref();
      this.#sent.set(id, numChars);
      this.#sentChars += numChars;
      const message: JobMessage = { id, job };
      worker.postMessage(message);
    });
  }

  /** One text is always taken, however long. */
  #refuseBeyondBound(numChars: number): void {
    if (this.#sent.size === 0 || this.#sentChars + numChars <= this.waitingCharsMax) return;
    const waitMs = Math.ceil(this.#sentChars / CHARS_PER_MS);
    throw new Failure('QUEUE_FULL', `${this.#sent.size} long texts wait for the tokenizer already`, {
      metadata: { queue_depth: String(this.#sent.size), expected_wait_ms: String(waitMs) },
      retryAfterMs: Math.max(waitMs, 1000),
    });
  }

  #runningWorker(): Worker {
    if (this.#worker !== null) return this.#worker;
    if (this.#startsWithoutWork === STARTS_WITHOUT_WORK_MAX) {
      throw new Failure('ENGINE_FAILURE', 'the tokenizer thread ended twice without doing any work');
    }
    this.#startsWithoutWork++;
    const setup: WorkerSetup = { vocabulary: this.tokenizer.vocabulary, cancelled: this.#cancelled };
    const worker = new Worker(this.workerUrl, { workerData: setup, name: 'nandu-text' });
    // Idle, it keeps no process alive.
    worker.unref();
    worker.on('message', ({ id, result }: ResultMessage) => {
      this.#startsWithoutWork = 0;
      this.#sentChars -= this.#sent.get(id) ?? 0;
      this.#sent.delete(id);
      this.#take(id)?.resolve(result);
    });
    worker.on('error', (error) => this.#lost(worker, error instanceof Error ? error.message : String(error)));
    worker.on('exit', (code) => this.#lost(worker, `exit code ${code}`));
    this.#worker = worker;
    return worker;
  }

  /** The next long text starts a new thread. */
  #lost(worker: Worker, why: string): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    this.#sent.clear();
    this.#sentChars = 0;
    this.#failAll(new Failure('ENGINE_FAILURE', `the tokenizer thread ended: ${why}`));
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#worker?.unref();
    return pending;
  }

  #failAll(failure: Failure): void {
    for (const id of [...this.#pending.keys()]) this.#take(id)?.reject(failure);
  }
}

/** The encoder, or why there is none. */
function chatEncoderOf(tokenizer: Tokenizer): ChatEncoder | string {
  try {
    return new ChatEncoder(tokenizer);
  } catch (error) {
    if (error instanceof VocabularyError) return error.message;
    throw error;
  }
}

function failureOf(result: JobResult): Failure {
  const why = result.t === 'failed' ? result.message : `a result of kind ${result.t}`;
  return new Failure('ENGINE_FAILURE', `the tokenizer failed: ${why}`);
}

/** Characters that callers wrote: what the work grows with. */
function numChars({ messages, tools }: Conversation): number {
  let count = 0;
  for (const { content, reasoning, toolCalls } of messages) {
    count += content.length + reasoning.length + 16;
    for (const { name, argumentsJson } of toolCalls) count += name.length + argumentsJson.length;
  }
  for (const { name, description, parametersJson } of tools)
    count += name.length + description.length + parametersJson.length;
  return count;
}
