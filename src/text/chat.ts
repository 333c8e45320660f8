// Conversations to prompt tokens in DeepSeek-V4's encoding (deepseek-v4.md §5.5, in the vendor's order, which only ever
// appends). Markers become special tokens; nothing that a caller wrote ever can. Called by text-service.ts, on either
// thread; chat-check.ts has refused bad conversations before.

import { jsonMembers, respaceJson } from './json-text.js';
import { type PromptTexts, readPromptTexts } from './prompt-texts.js';
import type { EncodeOptions, TextPart, Tokenizer } from './tokenizer.js';
import { SpecialToken, VocabularyError } from './vocabulary.js';

export type ChatRole = 'system' | 'developer' | 'user' | 'assistant' | 'tool';

export interface ChatToolCall {
  readonly id: string;
  readonly name: string;
  /** A JSON object; '' counts as {}. */
  readonly argumentsJson: string;
}

export interface ChatMessage {
  /** null: unspecified or unknown, which the check refuses. */
  readonly role: ChatRole | null;
  readonly content: string;
  /** Assistant only. */
  readonly reasoning: string;
  /** Assistant only. */
  readonly toolCalls: readonly ChatToolCall[];
  /** Tool only: which call this answers. */
  readonly toolCallId: string;
}

export interface ChatTool {
  readonly name: string;
  readonly description: string;
  /** A JSON Schema; '' leaves it out. */
  readonly parametersJson: string;
}

export interface Conversation {
  readonly messages: readonly ChatMessage[];
  /** Empty when the model may not call any. */
  readonly tools: readonly ChatTool[];
  /** Whether the caller defined tools, also those that may not be called and are left out. Unset: as `tools` says. */
  readonly definesTools?: boolean;
  readonly reasoningEffort: 'none' | 'low' | 'medium' | 'high' | 'max';
  /** Leave the last (assistant) message open instead of opening a new one. */
  readonly continueFinalMessage: boolean;
}

export interface EncodedChat {
  readonly tokens: Uint32Array;
  /** For each message, how many tokens lie wholly before its end. Not ascending where tool results are reordered. */
  readonly messageEnds: Uint32Array;
  /** Tokens before the first message that is not the system's: what conversations with one setup have in common. */
  readonly setupEnd: number;
  /** The model goes on inside <think>. */
  readonly startsInReasoning: boolean;
  /** The prompt as text, special tokens by their names. */
  readonly renderedText: string;
}

/** A turn of the prompt; one user turn may hold several messages. */
type Turn =
  | { readonly kind: 'system' | 'developer' | 'assistant'; readonly index: number }
  | { readonly kind: 'user'; readonly indices: number[] };

export class ChatEncoder {
  readonly #ids: Readonly<Record<'BOS' | 'EOS' | 'USER' | 'ASSISTANT' | 'THINK' | 'END_THINK' | 'DSML', number>>;
  readonly #texts: Readonly<Record<keyof PromptTexts, readonly TextPart[]>>;
  /** Of the longest token: n UTF-16 units of prompt have at least n / longestChars tokens (one byte, one character). */
  readonly #longestChars: number;

  /** Throws VocabularyError when the vocabulary lacks a marker. */
  constructor(
    private readonly tokenizer: Tokenizer,
    texts = readPromptTexts(tokenizer.vocabulary.chatTemplate),
  ) {
    const idOf = (text: string): number => {
      const id = tokenizer.specialId(text);
      if (id === undefined) {
        throw new VocabularyError('tokenizer.ggml.tokens', `has no special token "${text}", which chat input needs`);
      }
      return id;
    };
    this.#ids = {
      BOS: idOf(SpecialToken.BOS),
      EOS: idOf(SpecialToken.EOS),
      USER: idOf(SpecialToken.USER),
      ASSISTANT: idOf(SpecialToken.ASSISTANT),
      THINK: idOf(SpecialToken.THINK),
      END_THINK: idOf(SpecialToken.END_THINK),
      DSML: idOf(SpecialToken.DSML),
    };
    this.#texts = {
      toolsHeader: tokenizer.splitSpecial(texts.toolsHeader),
      toolsFooter: tokenizer.splitSpecial(texts.toolsFooter),
      effortHigh: tokenizer.splitSpecial(texts.effortHigh),
      effortMax: tokenizer.splitSpecial(texts.effortMax),
    };
    this.#longestChars = tokenizer.vocabulary.tokens.reduce((longest, { length }) => Math.max(longest, length), 1);
  }

  /** The conversation must have passed checkConversation. */
  encode(chat: Conversation, options: EncodeOptions = {}): EncodedChat {
    const prompt = new PromptBuilder(this.tokenizer, chat.messages.length, this.#longestChars, options);
    const startsInReasoning = this.#render(chat, prompt);
    return { ...prompt.encode(), startsInReasoning };
  }

  #render(chat: Conversation, prompt: PromptBuilder): boolean {
    const isThinking = chat.reasoningEffort !== 'none';
    const turns = turnsOf(chat.messages);
    const lastUserTurn = turns.findLastIndex((turn) => turn.kind === 'user' || turn.kind === 'developer');
    // Reasoning before the last question is forgotten, unless the model works with tools.
    const forgets = isThinking && !(chat.definesTools ?? chat.tools.length > 0);
    let callOrder: ReadonlyMap<string, number> = new Map();

    prompt.special(this.#ids.BOS);
    if (chat.reasoningEffort === 'high') prompt.parts(this.#texts.effortHigh);
    if (chat.reasoningEffort === 'max') prompt.parts(this.#texts.effortMax);
    if (turns[0]?.kind !== 'system') this.#tools(chat.tools, prompt);
    const setupTurns = turns.findIndex(({ kind }) => kind !== 'system');
    for (const [position, turn] of turns.entries()) {
      if (prompt.isStopped) break;
      if (position === setupTurns) prompt.endSetup();
      const isForgotten = forgets && position < lastUserTurn;
      if (turn.kind === 'user') {
        this.#userTurn(chat.messages, inCallOrder(chat.messages, turn.indices, callOrder), prompt);
        continue;
      }
      const message = chat.messages[turn.index] as ChatMessage;
      const isOpen = chat.continueFinalMessage && turn.index === chat.messages.length - 1;
      if (message.toolCalls.length > 0) callOrder = new Map(message.toolCalls.map(({ id }, order) => [id, order]));
      if (turn.kind === 'system') {
        prompt.text(message.content);
        if (position === 0) this.#tools(chat.tools, prompt);
      } else if (turn.kind === 'developer') {
        // The reference drops these with the reasoning; the contract says so at ROLE_DEVELOPER.
        if (!isForgotten) {
          prompt.special(this.#ids.USER);
          prompt.text(message.content);
        }
      } else if (isOpen) {
        const isReasoning = this.#openAssistantTurn(message, isThinking, prompt);
        prompt.endMessage(turn.index);
        return isReasoning;
      } else {
        this.#assistantTurn(message, isThinking && !isForgotten, prompt);
      }
      prompt.endMessage(turn.index);
    }
    if (setupTurns < 0) prompt.endSetup();
    prompt.special(this.#ids.ASSISTANT);
    prompt.special(isThinking ? this.#ids.THINK : this.#ids.END_THINK);
    return isThinking;
  }

  #tools(tools: readonly ChatTool[], prompt: PromptBuilder): void {
    if (tools.length === 0) return;
    prompt.text('\n\n');
    prompt.parts(this.#texts.toolsHeader);
    for (const tool of tools) {
      if (prompt.isStopped) return;
      prompt.text(`${toolJson(tool)}\n`);
    }
    prompt.parts(this.#texts.toolsFooter);
  }

  #userTurn(messages: readonly ChatMessage[], indices: readonly number[], prompt: PromptBuilder): void {
    prompt.special(this.#ids.USER);
    for (const [position, index] of indices.entries()) {
      if (prompt.isStopped) return;
      if (position > 0) prompt.text('\n\n');
      const message = messages[index] as ChatMessage;
      prompt.text(message.role === 'tool' ? `<tool_result>${message.content}</tool_result>` : message.content);
      prompt.endMessage(index);
    }
  }

  #assistantTurn(message: ChatMessage, keepsReasoning: boolean, prompt: PromptBuilder): void {
    prompt.special(this.#ids.ASSISTANT);
    if (keepsReasoning) {
      prompt.special(this.#ids.THINK);
      prompt.text(message.reasoning);
    }
    prompt.special(this.#ids.END_THINK);
    prompt.text(message.content);
    if (message.toolCalls.length > 0) this.#toolCalls(message.toolCalls, prompt);
    prompt.special(this.#ids.EOS);
  }

  /** Returns whether it ends inside the reasoning: that of a message whose answer has not begun. */
  #openAssistantTurn(message: ChatMessage, isThinking: boolean, prompt: PromptBuilder): boolean {
    prompt.special(this.#ids.ASSISTANT);
    if (isThinking) {
      prompt.special(this.#ids.THINK);
      prompt.text(message.reasoning);
      if (message.content === '') return true;
    }
    prompt.special(this.#ids.END_THINK);
    prompt.text(message.content);
    return false;
  }

  #toolCalls(calls: readonly ChatToolCall[], prompt: PromptBuilder): void {
    const tag = (opening: '<' | '</', rest: string): void => {
      prompt.text(opening);
      prompt.special(this.#ids.DSML);
      prompt.text(rest);
    };
    prompt.text('\n\n');
    tag('<', 'tool_calls>\n');
    for (const call of calls) {
      if (prompt.isStopped) return;
      tag('<', `invoke name="${call.name}">\n`);
      const members = jsonMembers(call.argumentsJson);
      for (const [position, { key, value }] of members.entries()) {
        if (prompt.isStopped) return;
        if (position > 0) prompt.text('\n');
        const isString = value.startsWith('"');
        tag('<', `parameter name="${key}" string="${isString}">`);
        prompt.text(isString ? (JSON.parse(value) as string) : respaceJson(value));
        tag('</', 'parameter>');
      }
      // With no arguments this leaves the empty line that the vendor's encoding has there.
      prompt.text('\n');
      tag('</', 'invoke>\n');
    }
    tag('</', 'tool_calls>');
  }
}

/** Consecutive user and tool messages share one turn. */
function turnsOf(messages: readonly ChatMessage[]): Turn[] {
  const turns: Turn[] = [];
  for (const [index, { role }] of messages.entries()) {
    const last = turns.at(-1);
    if (role !== 'user' && role !== 'tool') turns.push({ kind: role ?? 'system', index });
    else if (last?.kind === 'user') last.indices.push(index);
    else turns.push({ kind: 'user', indices: [index] });
  }
  return turns;
}

/** `indices` with the tool results among them in the order of the calls that they answer; the others stay. */
function inCallOrder(
  messages: readonly ChatMessage[],
  indices: readonly number[],
  callOrder: ReadonlyMap<string, number>,
): readonly number[] {
  const results = indices.filter((index) => messages[index]?.role === 'tool');
  if (results.length < 2) return indices;
  const positionOf = (index: number): number => callOrder.get((messages[index] as ChatMessage).toolCallId) ?? 0;
  results.sort((a, b) => positionOf(a) - positionOf(b));
  let next = 0;
  return indices.map((index) => (messages[index]?.role === 'tool' ? (results[next++] as number) : index));
}

function toolJson(tool: ChatTool): string {
  const members = [`"name": ${JSON.stringify(tool.name)}`];
  if (tool.description !== '') members.push(`"description": ${JSON.stringify(tool.description)}`);
  if (tool.parametersJson !== '') members.push(`"parameters": ${respaceJson(tool.parametersJson)}`);
  return `{${members.join(', ')}}`;
}

/** UTF-16 units added between two looks at `isCancelled`; a piece counts as some, however short. */
const CHARS_PER_CHECK = 64 * 1024;
const CHARS_PER_PIECE = 16;

/** Collects the prompt as runs of ordinary text between special tokens: each run is tokenised as one text. */
class PromptBuilder {
  readonly #runs: { text: string; specialId: number | null }[] = [];
  /**
   * Run and UTF-16 offset behind each message, in the order of the prompt; a message that is left out ends where the one
   * before it does.
   */
  readonly #ends: { index: number; run: number; offset: number }[] = [];
  /** A special token follows there, so it lies between two runs. */
  #setupRuns = Number.POSITIVE_INFINITY;
  #numChars = 0;
  #charsToCheck = CHARS_PER_CHECK;
  #isCancelled = false;
  readonly #maxTokens: number;
  readonly #maxChars: number;
  /** How far #tokensBefore has come in a run. */
  #walk = { run: -1, offset: 0, bytesLeft: 0, count: 0 };

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly numMessages: number,
    longestChars: number,
    private readonly options: EncodeOptions,
  ) {
    this.#maxTokens = options.maxTokens ?? Number.POSITIVE_INFINITY;
    this.#maxChars = this.#maxTokens * longestChars;
  }

  /** Nothing more needs adding: what is there has more than maxTokens tokens for certain, or nobody waits for it. */
  get isStopped(): boolean {
    // A run has at least one token.
    return this.#isCancelled || this.#numChars > this.#maxChars || this.#runs.length > this.#maxTokens;
  }

  special(id: number): void {
    const text = this.tokenizer.vocabulary.tokens[id] as string;
    this.#runs.push({ text, specialId: id });
    this.#count(text);
  }

  text(text: string): void {
    if (text === '') return;
    const last = this.#runs.at(-1);
    if (last?.specialId === null) last.text += text;
    else this.#runs.push({ text, specialId: null });
    this.#count(text);
  }

  parts(parts: readonly TextPart[]): void {
    for (const part of parts) {
      if (part.specialId === null) this.text(part.text);
      else this.special(part.specialId);
    }
  }

  endMessage(index: number): void {
    const run = this.#runs.length - 1;
    this.#ends.push({ index, run, offset: this.#runs[run]?.text.length ?? 0 });
  }

  endSetup(): void {
    this.#setupRuns = this.#runs.length;
  }

  encode(): Omit<EncodedChat, 'startsInReasoning'> {
    const encoded: Uint32Array[] = [];
    const starts: number[] = [];
    let total = 0;
    for (const run of this.#runs) {
      if (total > this.#maxTokens || this.options.isCancelled?.()) break;
      const ids =
        run.specialId === null
          ? this.tokenizer.encode(run.text, { ...this.options, addBos: false, maxTokens: this.#maxTokens - total })
          : Uint32Array.of(run.specialId);
      starts.push(total);
      encoded.push(ids);
      total += ids.length;
    }
    const tokens = new Uint32Array(total);
    for (const [run, ids] of encoded.entries()) tokens.set(ids, starts[run]);
    // What was not come to counts as behind the last token.
    const messageEnds = new Uint32Array(this.numMessages).fill(total);
    for (const { index, run, offset } of this.#ends) {
      const start = starts[run];
      if (start !== undefined) messageEnds[index] = start + this.#tokensBefore(run, offset, encoded);
    }
    const setupEnd = starts[this.#setupRuns] ?? total;
    return { tokens, messageEnds, setupEnd, renderedText: this.#runs.map((run) => run.text).join('') };
  }

  #count({ length }: string): void {
    this.#numChars += length;
    this.#charsToCheck -= length + CHARS_PER_PIECE;
    if (this.#charsToCheck > 0) return;
    this.#charsToCheck = CHARS_PER_CHECK;
    if (this.options.isCancelled?.()) this.#isCancelled = true;
  }

  /** Tokens of a run before a character offset. Offsets of a run ascend from call to call, so it is walked once. */
  #tokensBefore(run: number, offset: number, encoded: readonly Uint32Array[]): number {
    const ids = encoded[run] as Uint32Array;
    const { text, specialId } = this.#runs[run] as { text: string; specialId: number | null };
    if (specialId !== null || offset === text.length) return ids.length;
    if (this.#walk.run !== run) this.#walk = { run, offset: 0, bytesLeft: 0, count: 0 };
    const walk = this.#walk;
    walk.bytesLeft += Buffer.byteLength(text.slice(walk.offset, offset));
    walk.offset = offset;
    while (walk.count < ids.length) {
      const bytes = this.tokenizer.tokenBytes(ids[walk.count] as number).length;
      if (bytes > walk.bytesLeft) break;
      walk.bytesLeft -= bytes;
      walk.count++;
    }
    return walk.count;
  }
}
