// Finds the tool calls in a model's answer while it is being written (DSML markup, deepseek-v4.md §5.5) and turns them
// into deltas whose arguments join to one JSON object. The ｜DSML｜ token is one special token; it arrives here as
// DSML_MARK, a character that decoded text never holds, so the same words spelled in ordinary tokens stay text.
// Markup that does not fit stays visible as text. A client must not mistake half a call for a whole one: arguments begin
// with the call and are JSON only once it is closed. What begins a call here, checkConversation takes back.

import { FUNCTION_NAME, PARAMETER_NAME } from './chat-check.js';
import { SpecialToken } from './vocabulary.js';

/** Stands for the ｜DSML｜ token: a lone surrogate, which no UTF-8 decoder puts out. */
export const DSML_MARK = '\ud800';

export interface ToolCallDelta {
  readonly index: number;
  /** id and name: in the first piece, else ''. */
  readonly id: string;
  readonly name: string;
  readonly argumentsJson: string;
}

export interface ParsedText {
  readonly text: string;
  readonly toolCalls: readonly ToolCallDelta[];
}

const BLOCK_OPEN = `<${DSML_MARK}tool_calls>`;
const BLOCK_CLOSE = `</${DSML_MARK}tool_calls>`;
const INVOKE_CLOSE = `</${DSML_MARK}invoke>`;
const PARAMETER_CLOSE = `</${DSML_MARK}parameter>`;
interface OpeningTag {
  readonly start: string;
  readonly name: RegExp;
  readonly ends: readonly string[];
}
const INVOKE: OpeningTag = { start: `<${DSML_MARK}invoke name="`, name: FUNCTION_NAME, ends: ['">'] };
const PARAMETER: OpeningTag = {
  start: `<${DSML_MARK}parameter name="`,
  name: PARAMETER_NAME,
  ends: ['" string="true">', '" string="false">'],
};
/** With u, as MARKS: the mark's unit is also half of some characters. */
const NAME_END = /["<>\ud800]/u;
const MARKS = /\ud800/gu;
/** Units; bounds what is held back. */
const NAME_CHARS_MAX = 1024;

type State = 'text' | 'block' | 'invoke' | 'string' | 'json';

export class ToolCallParser {
  #state: State = 'text';
  #buffer = '';
  /** Markup of an opened block without a call so far: text after all if it goes wrong. */
  #opening = '';
  #numCalls = 0;
  #numClosed = 0;
  #hasArguments = false;
  /** No closing tag begins in #buffer before here. */
  #scannedTo = 0;
  #text = '';
  #deltas: { index: number; id: string; name: string; argumentsJson: string }[] = [];

  /** `newCallId` names call number `index` of this answer. */
  constructor(private readonly newCallId: (index: number) => string) {}

  /** There are calls, and the model has closed every one. */
  get hasWholeCalls(): boolean {
    return this.#numCalls > 0 && this.#numClosed === this.#numCalls;
  }

  push(text: string): ParsedText {
    this.#buffer += text;
    while (this.#step()) {}
    return this.#take();
  }

  /** The rest, when no more text comes. */
  finish(): ParsedText {
    // In a call, and behind one, what is left is the beginning of a tag that fits there: neither text nor arguments.
    if (this.#state === 'text' || this.#opening !== '') this.#addText(this.#opening + this.#buffer);
    else if (this.#state === 'json') this.#addArguments(unclosedJson(this.#buffer.slice(0, this.#scannedTo)));
    this.#buffer = '';
    this.#opening = '';
    this.#state = 'text';
    return this.#take();
  }

  /** Takes one thing off the buffer; false when it needs more text. */
  #step(): boolean {
    switch (this.#state) {
      case 'text':
        return this.#stepText();
      case 'block':
        return this.#stepBlock();
      case 'invoke':
        return this.#stepInvoke();
      default:
        return this.#stepValue();
    }
  }

  #stepText(): boolean {
    const buffer = this.#buffer;
    const open = buffer.indexOf(BLOCK_OPEN);
    if (open < 0) {
      const keepFrom = buffer.length - blockBeginningAtEnd(buffer);
      this.#addText(buffer.slice(0, keepFrom));
      this.#buffer = buffer.slice(keepFrom);
      return false;
    }
    let start = open;
    while (start > 0 && start > open - 2 && buffer[start - 1] === '\n') start--;
    this.#addText(buffer.slice(0, start));
    this.#opening = buffer.slice(start, open + BLOCK_OPEN.length);
    this.#buffer = buffer.slice(open + BLOCK_OPEN.length);
    this.#state = 'block';
    return true;
  }

  #stepBlock(): boolean {
    const rest = this.#buffer.trimStart();
    const tag = readTag(rest, INVOKE);
    if (typeof tag === 'object') {
      const index = this.#numCalls++;
      this.#deltas.push({ index, id: this.newCallId(index), name: tag.name, argumentsJson: '{' });
      this.#opening = '';
      this.#hasArguments = false;
      return this.#advance('invoke', rest, tag.length);
    }
    // A block without any call is not one.
    if (rest.startsWith(BLOCK_CLOSE) && this.#opening === '') return this.#advance('text', rest, BLOCK_CLOSE.length);
    if (tag === 'unfinished' || (this.#opening === '' && BLOCK_CLOSE.startsWith(rest))) return false;
    return this.#giveUp();
  }

  #stepInvoke(): boolean {
    const rest = this.#buffer.trimStart();
    const tag = readTag(rest, PARAMETER);
    if (typeof tag === 'object') {
      const isString = tag.end === PARAMETER.ends[0];
      this.#addArguments(`${this.#hasArguments ? ', ' : ''}${JSON.stringify(tag.name)}: ${isString ? '"' : ''}`);
      this.#hasArguments = true;
      return this.#advance(isString ? 'string' : 'json', rest, tag.length);
    }
    if (rest.startsWith(INVOKE_CLOSE)) {
      this.#addArguments('}');
      this.#numClosed++;
      return this.#advance('block', rest, INVOKE_CLOSE.length);
    }
    if (tag === 'unfinished' || INVOKE_CLOSE.startsWith(rest)) return false;
    return this.#giveUp();
  }

  #stepValue(): boolean {
    const buffer = this.#buffer;
    const close = buffer.indexOf(PARAMETER_CLOSE, this.#scannedTo);
    const isString = this.#state === 'string';
    if (close >= 0) {
      const value = buffer.slice(0, close);
      this.#addArguments(isString ? `${escaped(value)}"` : jsonOrString(value));
      return this.#advance('invoke', buffer, close + PARAMETER_CLOSE.length);
    }
    const keepFrom = buffer.length - beginningAtEnd(buffer, PARAMETER_CLOSE);
    if (isString) {
      this.#addArguments(escaped(buffer.slice(0, keepFrom)));
      this.#buffer = buffer.slice(keepFrom);
    } else {
      this.#scannedTo = keepFrom;
    }
    return false;
  }

  #advance(state: State, rest: string, length: number): true {
    this.#state = state;
    this.#buffer = rest.slice(length);
    this.#scannedTo = 0;
    return true;
  }

  /** What has not been understood of this block was text. */
  #giveUp(): true {
    this.#addText(this.#opening);
    this.#opening = '';
    this.#state = 'text';
    return true;
  }

  #addText(text: string): void {
    this.#text += visible(text);
  }

  #addArguments(json: string): void {
    if (json === '') return;
    const index = this.#numCalls - 1;
    const last = this.#deltas.at(-1);
    if (last?.index === index) last.argumentsJson += json;
    else this.#deltas.push({ index, id: '', name: '', argumentsJson: json });
  }

  #take(): ParsedText {
    const taken = { text: this.#text, toolCalls: this.#deltas };
    this.#text = '';
    this.#deltas = [];
    return taken;
  }
}

/** The opening tag at the front of `text`; 'unfinished' when more text may make it one. */
function readTag(text: string, tag: OpeningTag): { name: string; end: string; length: number } | 'unfinished' | 'none' {
  if (tag.start.startsWith(text)) return 'unfinished';
  if (!text.startsWith(tag.start)) return 'none';
  const behind = text.slice(tag.start.length, tag.start.length + NAME_CHARS_MAX + 1);
  const nameLength = behind.search(NAME_END);
  const name = nameLength < 0 ? behind : behind.slice(0, nameLength);
  if (name.length > NAME_CHARS_MAX || !tag.name.test(name)) return 'none';
  if (nameLength < 0) return 'unfinished';
  const afterName = tag.start.length + nameLength;
  const end = tag.ends.find((candidate) => text.startsWith(candidate, afterName));
  if (end !== undefined) return { name, end, length: afterName + end.length };
  return tag.ends.some((candidate) => candidate.startsWith(text.slice(afterName))) ? 'unfinished' : 'none';
}

/** Characters at the end that may begin a block: the marker, with up to two line breaks before it. */
function blockBeginningAtEnd(text: string): number {
  const marker = beginningAtEnd(text, BLOCK_OPEN);
  let length = marker;
  while (length < marker + 2 && text[text.length - length - 1] === '\n') length++;
  return length;
}

function beginningAtEnd(text: string, marker: string): number {
  for (let length = Math.min(marker.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(marker.slice(0, length))) return length;
  }
  return 0;
}

function visible(text: string): string {
  return text.replace(MARKS, SpecialToken.DSML);
}

function escaped(text: string): string {
  return JSON.stringify(visible(text)).slice(1, -1);
}

/** The value as the model wrote it; as a string when it is not the JSON that it claims to be. */
function jsonOrString(value: string): string {
  return isJson(value) ? visible(value) : JSON.stringify(visible(value));
}

/** The beginning of a value; nothing when a brace too many in it would close the arguments. */
function unclosedJson(value: string): string {
  return isJson(`{"": ${value}`) ? '' : visible(value);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
