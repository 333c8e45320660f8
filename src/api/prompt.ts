// From what a request says to the tokens that the engine computes, and the checks that need those tokens.

import { Failure } from '../base/failures.js';
import type { Conversation } from '../text/chat.js';
import type { EncodeLimits, TextService } from '../text/text-service.js';
import type { ServedModel } from './model.js';

/** One arm of `input`, by its name in the proto. */
export type PromptInput = { readonly t: 'token_ids'; readonly ids: Uint32Array } | TextInput;

export type TextInput =
  | {
      readonly t: 'text';
      readonly text: string;
      /** null: as the model file says. */
      readonly addBos: boolean | null;
      readonly parseSpecial: boolean;
    }
  | { readonly t: 'chat'; readonly conversation: Conversation };

export interface Prompt {
  readonly tokens: Uint32Array;
  readonly startsInReasoning: boolean;
  /** null: no conversation. */
  readonly chat: ChatPositions | null;
}

/** Where the parts of a conversation end in its prompt, in tokens. */
export interface ChatPositions {
  /** Not ascending where tool results stand in the order of their calls. */
  readonly messageEnds: Uint32Array;
  /** Of the system's messages and the tools. */
  readonly setupEnd: number;
}

/**
 * The prompt of a generation: shorter than the context, and tokenised no further than it takes to know that. `field`: the
 * path of the input, for the refusal.
 */
export async function encodePrompt(
  input: PromptInput,
  field: string,
  model: ServedModel,
  signal: AbortSignal,
): Promise<Prompt> {
  const { contextLength } = model;
  const prompt =
    input.t === 'token_ids'
      ? { tokens: input.ids, startsInReasoning: false, chat: null }
      : await encodeInput(input, requireText(model), { maxTokens: contextLength, signal });
  signal.throwIfAborted();
  const promptTokens = prompt.tokens.length;
  if (promptTokens < contextLength) return prompt;
  const description = `has ${promptTokens} tokens or more, the model takes fewer than ${contextLength}`;
  throw new Failure('CONTEXT_LENGTH_EXCEEDED', `${field} ${description}`, {
    violations: [{ field, description }],
    metadata: { prompt_tokens: String(promptTokens), context_length: String(contextLength) },
  });
}

export async function encodeInput(
  input: TextInput,
  text: TextService,
  limits: EncodeLimits,
): Promise<Prompt & { renderedText: string }> {
  if (input.t === 'chat') {
    const { tokens, startsInReasoning, renderedText, ...chat } = await text.encodeChat(input.conversation, limits);
    return { tokens, startsInReasoning, renderedText, chat };
  }
  const { parseSpecial, addBos } = input;
  const tokens = await text.encodeText(input.text, { ...limits, parseSpecial, addBos: addBos ?? text.addsBos });
  return { tokens, startsInReasoning: false, renderedText: input.text, chat: null };
}

export function requireText({ text, name }: ServedModel): TextService {
  if (text) return text;
  throw new Failure(
    'NO_TOKENIZER',
    `the file of model "${name}" holds no vocabulary: it takes and gives token ids only`,
  );
}

/** The message that a prompt position is in; null: before the first one, behind the last one, or no conversation. */
export function messageAt(position: number, { chat }: Prompt): number | null {
  if (chat === null) return null;
  const { messageEnds, setupEnd } = chat;
  // Without a system message the tools stand before the first one.
  if (position < setupEnd && (messageEnds[0] ?? 0) > setupEnd) return null;
  // The nearest end behind the position: tool results stand in another order than they came in.
  let found: number | null = null;
  for (const [index, end] of messageEnds.entries()) {
    if (position < end && (found === null || end < (messageEnds[found] as number))) found = index;
  }
  return found;
}
