// nandu tokenize: text to token ids and back, by a model's own vocabulary.

import type { Command } from 'commander';
import { loadAddon } from '../addon/load.js';
import { Tokenizer } from '../text/tokenizer.js';
import { InputError, table, toJson, UsageError } from './format.js';
import { modelPath } from './model.js';
import { checkLength, modelOption, parseIds, readText, textOf } from './options.js';
import { readVocabulary } from './vocabulary.js';

interface TokenizeFlags {
  readonly model?: string;
  readonly text?: string;
  readonly file?: string;
  readonly decode?: true;
  readonly ids?: true;
  readonly json?: true;
  readonly parseSpecial?: true;
  readonly addBos?: true;
}

export function registerTokenize(program: Command): void {
  program
    .command('tokenize')
    .summary('text to token ids and back')
    .description('Turns text into tokens by the vocabulary of a model file, or with --decode token ids into text.')
    .addOption(modelOption())
    .option('--text <text>', 'the text itself (with --decode: the ids)')
    .option('--file <file>', 'read it from a file (default: from standard input)')
    .option('--decode', 'the other way: ids in, text out')
    .option('--ids', 'print ids only, on one line: what score and run read by --tokens')
    .option('--json', 'print JSON; with --ids the list of them')
    .option('--parse-special', 'read the texts of special tokens as those tokens; with --decode, show them')
    .option('--add-bos', 'put the token for the beginning in front')
    .addHelpText(
      'after',
      `
Examples:
  nandu tokenize --model v4.gguf --text 'How many tokens is this?'
  nandu tokenize --model v4.gguf --file book.txt --ids > ids.txt
  nandu tokenize --model v4.gguf --file ids.txt --decode`,
    )
    .action(tokenize);
}

async function tokenize(flags: TokenizeFlags): Promise<void> {
  if (flags.text !== undefined && flags.file !== undefined) throw new UsageError('give either --text or --file');
  const addon = loadAddon();
  const input = flags.text ?? (flags.file === undefined ? await readStandardInput() : await readText(flags.file));
  const model = modelPath(flags.model);
  const vocabulary = readVocabulary(addon, model);
  if (!vocabulary) throw new InputError(`${model} holds no vocabulary: it works on token ids only`);
  const tokenizer = new Tokenizer(vocabulary);
  if (flags.decode) decode(tokenizer, parseIds(input, flags.file ?? 'the input'), flags);
  else encode(tokenizer, input, flags);
}

function encode(tokenizer: Tokenizer, text: string, flags: TokenizeFlags): void {
  const parseSpecial = flags.parseSpecial === true;
  const ids = [...tokenizer.encode(text, { parseSpecial, addBos: flags.addBos === true })];
  if (flags.ids) {
    console.log(flags.json ? JSON.stringify(ids) : ids.join(' '));
    return;
  }
  const pieces = ids.map((id) => tokenizer.decode([id], { showSpecial: true }).text);
  if (flags.json) console.log(toJson({ num_tokens: ids.length, ids, pieces }));
  else console.log(table(ids.map((id, index) => [String(id).padStart(7), JSON.stringify(pieces[index])])));
}

function decode(tokenizer: Tokenizer, ids: Uint32Array, flags: TokenizeFlags): void {
  const unknown = ids.find((id) => id >= tokenizer.numTokens);
  if (unknown !== undefined) {
    throw new InputError(`token id ${unknown} is outside the vocabulary of ${tokenizer.numTokens} tokens`);
  }
  const { text, bytes } = tokenizer.decode(ids, { showSpecial: flags.parseSpecial === true });
  if (flags.json) console.log(toJson({ num_tokens: ids.length, text }));
  else process.stdout.write(bytes); // as they are: half a character stays half a character
}

async function readStandardInput(): Promise<string> {
  const name = 'standard input';
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    checkLength(length, name); // now: it may have no end
  }
  return textOf(Buffer.concat(chunks), name);
}
