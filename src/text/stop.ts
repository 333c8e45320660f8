// Holds back answer text that may be the beginning of a stop sequence. Native decides that a sequence has ended (it
// matches bytes, engine.md "Boundary"); this class only makes sure that nothing of the stop text has left before, and
// trims it. Used once per choice, in answer text only. Costs one step per character and sequence.

export type Spell = (text: string, at: number) => string;

export class StopFilter {
  readonly #matchers: readonly Matcher[];
  #held = '';

  /** `spell`: what the unit of the text at a place stands for, as native's bytes have it. */
  constructor(
    sequences: readonly string[],
    private readonly includeStop: boolean,
    spell: Spell = (text, at) => text.charAt(at),
  ) {
    this.#matchers = sequences.map((sequence) => new Matcher(sequence, spell));
  }

  /** Adds the text of one token; returns what can leave now. */
  push(text: string): string {
    if (this.#matchers.length === 0 || text === '') return text;
    // What was complete before this push did not end the choice (min_tokens), so it is ordinary text now.
    const all = this.#held + text;
    let keepFrom = all.length;
    for (const matcher of this.#matchers) keepFrom = Math.min(keepFrom, matcher.advance(all, this.#held.length));
    for (const matcher of this.#matchers) {
      matcher.completeAt -= keepFrom;
      matcher.completeEnd -= keepFrom;
    }
    this.#held = all.slice(keepFrom);
    return all.slice(0, keepFrom);
  }

  /** The rest, when no more text comes. `matched`: index of the sequence that ended the choice, null if none did. */
  finish(matched: number | null): string {
    const held = this.#held;
    this.#held = '';
    const matcher = matched === null ? undefined : this.#matchers[matched];
    if (matcher === undefined || matcher.completeAt < 0) return held;
    return held.slice(0, this.includeStop ? matcher.completeEnd : matcher.completeAt);
  }
}

/** Knuth-Morris-Pratt over the text as it comes. */
class Matcher {
  /** Where the first occurrence that the last text completed begins; negative: there is none. */
  completeAt = -1;
  /** Behind its last character. */
  completeEnd = -1;
  /** Length of the longest beginning of the sequence with which the text ends. */
  #matched = 0;
  /** For each length of a beginning: the longest shorter beginning with which it ends. */
  readonly #shorter: Int32Array;

  constructor(
    private readonly sequence: string,
    private readonly spell: Spell,
  ) {
    this.#shorter = new Int32Array(sequence.length + 1);
    for (let length = 2; length <= sequence.length; length++) {
      this.#shorter[length] = this.#extend(this.#shorter[length - 1] as number, sequence[length - 1] as string);
    }
  }

  /** Reads text[from, end); returns from where on the text must be held. */
  advance(text: string, from: number): number {
    const { length } = this.sequence;
    this.completeAt = -1;
    for (let i = from; i < text.length; i++) {
      const spelled = this.spell(text, i);
      for (let j = 0; j < spelled.length; j++) {
        this.#matched = this.#extend(this.#matched, spelled[j] as string);
        if (this.#matched < length) continue;
        if (this.completeAt < 0) {
          this.completeAt = this.#back(text, i, length - j - 1);
          this.completeEnd = i + 1;
        }
        this.#matched = this.#shorter[length] as number;
      }
    }
    const beginning = this.#back(text, text.length, this.#matched);
    return this.completeAt < 0 ? beginning : Math.min(beginning, this.completeAt);
  }

  /** The place from which text[place, end) spells `count` characters or, within one of them, more. */
  #back(text: string, end: number, count: number): number {
    let place = end;
    for (let left = count; left > 0; ) left -= this.spell(text, --place).length;
    return place;
  }

  #extend(matched: number, char: string): number {
    let length = matched;
    while (length > 0 && this.sequence[length] !== char) length = this.#shorter[length] as number;
    return this.sequence[length] === char ? length + 1 : 0;
  }
}
