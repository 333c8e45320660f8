// Finds everything in a conversation that cannot be encoded, all at once and by field path, before any of it is.

import type { ChatMessage, ChatToolCall, Conversation } from './chat.js';
import { jsonMembers, jsonObjectProblem } from './json-text.js';

/** Names stand inside a quoted attribute of the call markup. The beginning of a name is a name too. */
export const FUNCTION_NAME = /^[^\s"<>\p{Cc}]{1,128}$/u;
export const PARAMETER_NAME = /^[^"<>\p{Cc}]+$/u;

export type Refuse = (field: string, description: string) => void;

/** Calls `report` for everything, by its path from `chat.` on; never: the conversation can be encoded. */
export function checkConversation(chat: Conversation, report: Refuse): void {
  const refuse: Refuse = (field, description) => report(`chat.${field}`, description);
  if (chat.messages.length === 0) refuse('messages', 'must not be empty');
  checkMessages(chat.messages, refuse);
  checkTools(chat, refuse);
  const last = chat.messages.at(-1);
  if (chat.continueFinalMessage && last !== undefined) {
    if (last.role !== 'assistant') refuse('continue_final_message', "the last message is not the assistant's");
    else if (last.toolCalls.length > 0) {
      refuse(`messages[${chat.messages.length - 1}].tool_calls`, 'a message that ends in calls cannot be continued');
    }
  }
}

function checkMessages(messages: readonly ChatMessage[], refuse: Refuse): void {
  const knownIds = new Set<string>();
  /** Calls of the latest assistant message that no result has answered yet. */
  let openIds = new Set<string>();
  for (const [index, message] of messages.entries()) {
    const at = `messages[${index}]`;
    const { role } = message;
    if (role === null) refuse(`${at}.role`, 'is not set, or not a role that this server knows');
    if (role === 'developer' && message.content === '') refuse(`${at}.content`, 'must not be empty in this role');
    if (role !== 'assistant') {
      if (message.reasoning !== '') refuse(`${at}.reasoning`, 'belongs to assistant messages only');
      if (message.toolCalls.length > 0) refuse(`${at}.tool_calls`, 'belong to assistant messages only');
    } else {
      openIds = new Set(message.toolCalls.map((call) => call.id));
      for (const [position, call] of message.toolCalls.entries()) {
        checkCall(call, `${at}.tool_calls[${position}]`, knownIds, refuse);
      }
    }
    if (role !== 'tool') {
      if (message.toolCallId !== '') refuse(`${at}.tool_call_id`, 'belongs to tool messages only');
    } else if (message.toolCallId === '') {
      refuse(`${at}.tool_call_id`, 'must name the call that this message answers');
    } else if (!openIds.delete(message.toolCallId)) {
      refuse(`${at}.tool_call_id`, 'names no unanswered call of the assistant message before it');
    }
  }
}

function checkCall(call: ChatToolCall, at: string, knownIds: Set<string>, refuse: Refuse): void {
  if (call.id === '') refuse(`${at}.id`, 'must not be empty');
  else if (knownIds.has(call.id)) refuse(`${at}.id`, 'is used twice in this conversation');
  knownIds.add(call.id);
  if (!FUNCTION_NAME.test(call.name)) refuse(`${at}.name`, 'is empty, too long, or holds space, quotes or brackets');
  if (call.argumentsJson === '') return;
  const problem = jsonObjectProblem(call.argumentsJson);
  if (problem !== null) refuse(`${at}.arguments_json`, problem);
  else if (jsonMembers(call.argumentsJson).some(({ key }) => !PARAMETER_NAME.test(key))) {
    refuse(
      `${at}.arguments_json`,
      'has a parameter name that is empty or holds quotes, brackets or control characters',
    );
  }
}

function checkTools(chat: Conversation, refuse: Refuse): void {
  const names = new Set<string>();
  for (const [index, tool] of chat.tools.entries()) {
    const at = `tools[${index}]`;
    if (!FUNCTION_NAME.test(tool.name)) refuse(`${at}.name`, 'is empty, too long, or holds space, quotes or brackets');
    else if (names.has(tool.name)) refuse(`${at}.name`, 'is used by two tools');
    names.add(tool.name);
    const problem = tool.parametersJson === '' ? null : jsonObjectProblem(tool.parametersJson);
    if (problem !== null) refuse(`${at}.parameters_json`, problem);
  }
}
