// What a client sees of one choice: generated token ids in, answer text, reasoning and tool calls out. Puts the parts
// in their only right order: detokenise, hold back stop texts (in the answer only), then look for tool calls.

import { Detokenizer } from './detokenizer.js';
import { StopFilter } from './stop.js';
import type { Tokenizer } from './tokenizer.js';
import { DSML_MARK, type ToolCallDelta, ToolCallParser } from './tool-calls.js';
import { SpecialToken } from './vocabulary.js';

export interface OutputOptions {
  /** Chat output is parsed for reasoning and tool calls; null: raw text. */
  readonly chat: { readonly startsInReasoning: boolean; readonly newCallId: (index: number) => string } | null;
  readonly stopSequences: readonly string[];
  /** Tokens that end the choice: their text is left out unless includeStop. */
  readonly stopTokenIds: ReadonlySet<number>;
  readonly includeStop: boolean;
}

export interface OutputText {
  readonly text: string;
  readonly reasoning: string;
  readonly toolCalls: readonly ToolCallDelta[];
}

export class ChoiceOutput {
  readonly #detokenizer: Detokenizer;
  readonly #stop: StopFilter;
  readonly #calls: ToolCallParser | null;
  readonly #endThinkId: number | undefined;
  readonly #dsmlId: number | undefined;
  #isReasoning: boolean;

  constructor(
    tokenizer: Tokenizer,
    private readonly options: OutputOptions,
  ) {
    this.#detokenizer = new Detokenizer(tokenizer);
    this.#stop = new StopFilter(options.stopSequences, options.includeStop, options.chat ? spellMark : undefined);
    this.#calls = options.chat === null ? null : new ToolCallParser(options.chat.newCallId);
    this.#isReasoning = options.chat?.startsInReasoning ?? false;
    this.#endThinkId = tokenizer.specialId(SpecialToken.END_THINK);
    this.#dsmlId = tokenizer.specialId(SpecialToken.DSML);
  }

  /** The answer asks for tools: it has calls, none of them left half-way. Final after finish(). */
  get hasWholeCalls(): boolean {
    return this.#calls?.hasWholeCalls ?? false;
  }

  /** Feeds one generated token, in order; returns what can leave now. */
  push(id: number): OutputText {
    if (this.options.stopTokenIds.has(id) && !this.options.includeStop)
      return { text: '', reasoning: '', toolCalls: [] };
    if (this.#isReasoning) {
      if (id !== this.#endThinkId) return { text: '', reasoning: this.#detokenizer.push(id), toolCalls: [] };
      this.#isReasoning = false;
      return { text: '', reasoning: this.#detokenizer.finish(), toolCalls: [] };
    }
    const isMark = this.#calls !== null && id === this.#dsmlId;
    return this.#answer(isMark ? this.#detokenizer.finish() + DSML_MARK : this.#detokenizer.push(id));
  }

  /** The rest. `matchedSequence`: index of the stop sequence that ended the choice, null if none did. */
  finish(matchedSequence: number | null): OutputText {
    if (this.#isReasoning) return { text: '', reasoning: this.#detokenizer.finish(), toolCalls: [] };
    // Bytes of an unfinished character behind a stop text belong to what is cut off.
    const unfinished = this.#detokenizer.finish();
    const before = this.#answer(matchedSequence === null ? unfinished : '');
    const last = this.#answer('', this.#stop.finish(matchedSequence));
    const end = this.#calls?.finish() ?? { text: '', toolCalls: [] };
    return {
      text: before.text + last.text + end.text,
      reasoning: '',
      toolCalls: [...before.toolCalls, ...last.toolCalls, ...end.toolCalls],
    };
  }

  #answer(text: string, released = this.#stop.push(text)): OutputText {
    if (this.#calls === null) return { text: released, reasoning: '', toolCalls: [] };
    return { ...this.#calls.push(released), reasoning: '' };
  }
}

/** As a unit of its own: it is the first half of some characters, too. */
function spellMark(text: string, at: number): string {
  return text.codePointAt(at) === DSML_MARK.charCodeAt(0) ? SpecialToken.DSML : text.charAt(at);
}
