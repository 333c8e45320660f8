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
  readonly reasoningEffort: 'none' | 'low' | 'medium' | 'high' | 'max';
  /** Leave the last (assistant) message open instead of opening a new one. */
  readonly continueFinalMessage: boolean;
}

export interface EncodedChat {
  readonly tokens: Uint32Array;
  /** For each message, how many tokens lie wholly before its end. */
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
      effortMax: tokenizer.splitSpecial(texts.effortMax),
    };
  }

  /** The conversation must have passed checkConversation. */
  encode(chat: Conversation, options: EncodeOptions = {}): EncodedChat {
    const prompt = new PromptBuilder(this.tokenizer, chat.messages.length);
    const startsInReasoning = this.#render(chat, prompt);
    return { ...prompt.encode(options), startsInReasoning };
  }

  #render(chat: Conversation, prompt: PromptBuilder): boolean {
    const isThinking = chat.reasoningEffort !== 'none';
    const turns = turnsOf(chat.messages);
    const lastUserTurn = turns.findLastIndex((turn) => turn.kind === 'user' || turn.kind === 'developer');
    // Reasoning before the last question is forgotten, unless the model works with tools.
    const forgets = isThinking && chat.tools.length === 0;

    prompt.special(this.#ids.BOS);
    if (chat.reasoningEffort === 'max') prompt.parts(this.#texts.effortMax);
    if (turns[0]?.kind !== 'system') this.#tools(chat.tools, prompt);
    const setupTurns = turns.findIndex(({ kind }) => kind !== 'system');
    for (const [position, turn] of turns.entries()) {
      if (position === setupTurns) prompt.endSetup();
      const isForgotten = forgets && position < lastUserTurn;
      if (turn.kind === 'user') {
        this.#userTurn(chat.messages, turn.indices, prompt);
        continue;
      }
      const message = chat.messages[turn.index] as ChatMessage;
      const isOpen = chat.continueFinalMessage && turn.index === chat.messages.length - 1;
      if (turn.kind === 'system') {
        prompt.text(message.content);
        if (position === 0) this.#tools(chat.tools, prompt);
      } else if (turn.kind === 'developer') {
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
    for (const tool of tools) prompt.text(`${toolJson(tool)}\n`);
    prompt.parts(this.#texts.toolsFooter);
  }

  #userTurn(messages: readonly ChatMessage[], indices: readonly number[], prompt: PromptBuilder): void {
    const inCallOrder = resultsInCallOrder(messages, indices);
    prompt.special(this.#ids.USER);
    for (const [position, index] of indices.entries()) {
      if (position > 0) prompt.text('\n\n');
      const message = messages[inCallOrder[position] as number] as ChatMessage;
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
      tag('<', `invoke name="${call.name}">\n`);
      const members = jsonMembers(call.argumentsJson);
      for (const [position, { key, value }] of members.entries()) {
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
function resultsInCallOrder(messages: readonly ChatMessage[], indices: readonly number[]): readonly number[] {
  const results = indices.filter((index) => messages[index]?.role === 'tool');
  if (results.length < 2) return indices;
  const callMessage = messages.slice(0, indices[0]).findLast((message) => message.toolCalls.length > 0);
  const order = new Map(callMessage?.toolCalls.map((call, position) => [call.id, position]));
  const positionOf = (index: number): number => order.get((messages[index] as ChatMessage).toolCallId) ?? 0;
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

/** Collects the prompt as runs of ordinary text between special tokens: each run is tokenised as one text. */
class PromptBuilder {
  readonly #runs: { text: string; specialId: number | null }[] = [];
  /** Run and UTF-16 offset behind each message; a message that is left out ends where the one before it does. */
  readonly #ends: { run: number; offset: number }[];
  /** A special token follows there, so it lies between two runs. */
  #setupRuns = 0;
  /** How far #tokensBefore has come in a run. */
  #walk = { run: -1, offset: 0, bytesLeft: 0, count: 0 };

  constructor(
    private readonly tokenizer: Tokenizer,
    numMessages: number,
  ) {
    this.#ends = Array.from({ length: numMessages }, () => ({ run: -1, offset: 0 }));
  }

  special(id: number): void {
    this.#runs.push({ text: this.tokenizer.vocabulary.tokens[id] as string, specialId: id });
  }

  text(text: string): void {
    if (text === '') return;
    const last = this.#runs.at(-1);
    if (last?.specialId === null) last.text += text;
    else this.#runs.push({ text, specialId: null });
  }

  parts(parts: readonly TextPart[]): void {
    for (const part of parts) {
      if (part.specialId === null) this.text(part.text);
      else this.special(part.specialId);
    }
  }

  endMessage(index: number): void {
    const run = this.#runs.length - 1;
    this.#ends[index] = { run, offset: this.#runs[run]?.text.length ?? 0 };
  }

  endSetup(): void {
    this.#setupRuns = this.#runs.length;
  }

  encode(options: EncodeOptions): Omit<EncodedChat, 'startsInReasoning'> {
    const maxTokens = options.maxTokens ?? Number.POSITIVE_INFINITY;
    const encoded: Uint32Array[] = [];
    const starts: number[] = [];
    let total = 0;
    for (const run of this.#runs) {
      if (total > maxTokens || options.isCancelled?.()) break;
      const ids =
        run.specialId === null
          ? this.tokenizer.encode(run.text, { ...options, addBos: false, maxTokens: maxTokens - total })
          : Uint32Array.of(run.specialId);
      starts.push(total);
      encoded.push(ids);
      total += ids.length;
    }
    const tokens = new Uint32Array(total);
    for (const [run, ids] of encoded.entries()) tokens.set(ids, starts[run]);
    const messageEnds = Uint32Array.from(this.#ends, ({ run, offset }) => {
      const start = starts[run];
      return start === undefined ? (run < 0 ? 0 : total) : start + this.#tokensBefore(run, offset, encoded);
    });
    const setupEnd = starts[this.#setupRuns] ?? total;
    return { tokens, messageEnds, setupEnd, renderedText: this.#runs.map((run) => run.text).join('') };
  }

  /** Tokens of a run before a character offset. Offsets nearly always ascend from call to call, so a run is walked once. */
  #tokensBefore(run: number, offset: number, encoded: readonly Uint32Array[]): number {
    const ids = encoded[run] as Uint32Array;
    const { text, specialId } = this.#runs[run] as { text: string; specialId: number | null };
    if (specialId !== null || offset === text.length) return ids.length;
    // Tool results may be rendered in another order than they came in.
    if (this.#walk.run !== run || this.#walk.offset > offset) this.#walk = { run, offset: 0, bytesLeft: 0, count: 0 };
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
