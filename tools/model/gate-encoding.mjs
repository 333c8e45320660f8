// Are the model's training texts what the server makes of the same conversations? gate_encoding.py writes them to stdin,
// one JSON object a line ({messages, tools, thinks, text, ids}), and starts this. Exit status 1 when one differs.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { ChatEncoder } from '../../dist/text/chat.js';
import { checkConversation } from '../../dist/text/chat-check.js';
import { Tokenizer } from '../../dist/text/tokenizer.js';

const SHOWN = 5;

const { tokens, merges, types } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const tokenizer = new Tokenizer({
  tokens,
  merges,
  tokenTypes: types,
  bosId: 0,
  eosId: 1,
  padId: 2,
  addBos: false,
  pre: 'joyai-llm',
  chatTemplate: readFileSync(new URL('chat-template.jinja', import.meta.url), 'utf8'),
});
const encoder = new ChatEncoder(tokenizer);

/** The messages as the server's API holds them. */
function conversationOf({ messages, tools, thinks }) {
  let calls = 0;
  let lastId = '';
  return {
    messages: messages.map(({ role, content, reasoning = '', tool_calls = [] }) => ({
      role,
      content,
      reasoning,
      toolCalls: tool_calls.map(({ name, arguments: values }) => {
        lastId = `call-${calls++}`;
        return { id: lastId, name, argumentsJson: JSON.stringify(values) };
      }),
      toolCallId: role === 'tool' ? lastId : '',
    })),
    tools: tools.map(({ name, description = '', parameters }) => ({
      name,
      description,
      parametersJson: JSON.stringify(parameters),
    })),
    reasoningEffort: thinks ? 'high' : 'none',
    continueFinalMessage: false,
  };
}

let numSame = 0;
let numOther = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const given = JSON.parse(line);
  const chat = conversationOf(given);
  const problems = [];
  checkConversation(chat, (...problem) => problems.push(problem.join(' ')));
  const encoded = encoder.encode(chat);
  const isSame = encoded.renderedText === given.text && encoded.tokens.join() === given.ids.join();
  if (isSame && problems.length === 0) {
    numSame++;
  } else if (numOther++ < SHOWN) {
    console.error('training:', given.text, given.ids.join(' '));
    console.error('server:  ', encoded.renderedText, encoded.tokens.join(' '), problems);
  }
}
console.log(`${numSame} conversations the same, ${numOther} not`);
process.exitCode = numOther > 0 || numSame === 0 ? 1 : 0;
