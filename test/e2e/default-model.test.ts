// A fresh clone answers: the embedded model, asked as the README shows, over gRPC.

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealServer, startServer } from '../fakes/real-server.js';

let server: RealServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.stop());

const answer = async (content: string): Promise<string> => {
  const { choices } = await server.peer.unary('generation', 'generate', {
    chat: { messages: [{ role: 'ROLE_USER', content }] },
    sampling: { temperature: 0 },
  });
  expect(choices[0].finishReason).toBe('FINISH_REASON_STOP');
  return choices[0].text;
};

test('the embedded model defines a word', async () => {
  expect(await answer('What is a river?')).toMatch(/^A river is .*\bwater\b.*\.$/);
});

test('and finds a fact in a text', async () => {
  const text = 'Marta lives in Oslo. The code of the red door is 4711. Peter works as a baker.';
  expect(await answer(`${text}\n\nWhere does Marta live?`)).toContain('Oslo');
});

test('and one that stands far behind the window', async () => {
  const { chat } = JSON.parse(readFileSync(new URL('../../examples/long-prompt.json', import.meta.url), 'utf8'));
  expect(chat.messages[0].content).toMatch(/^Here are some facts\. Dora lives in Dublin\..*Where does Dora live\?$/s);
  expect(await answer(chat.messages[0].content)).toBe('The text says that Dora lives in Dublin.');
});
