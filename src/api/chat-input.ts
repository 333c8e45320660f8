// ChatInput as the conversation that src/text encodes. Field by field; whether the conversation makes sense is checked by
// src/text/chat-check.ts, under the same paths.

import type { ChatMessage, ChatRole, Conversation } from '../text/chat.js';
import { checkConversation } from '../text/chat-check.js';
import type { ChatInput__Output } from './gen/nandu/v1/ChatInput.js';
import type { ChatMessage__Output } from './gen/nandu/v1/ChatMessage.js';
import type { FieldErrors } from './validate.js';

const ROLES: Readonly<Record<string, ChatRole | null>> = {
  ROLE_UNSPECIFIED: null,
  ROLE_SYSTEM: 'system',
  ROLE_DEVELOPER: 'developer',
  ROLE_USER: 'user',
  ROLE_ASSISTANT: 'assistant',
  ROLE_TOOL: 'tool',
};

const EFFORTS: Readonly<Record<string, Conversation['reasoningEffort']>> = {
  REASONING_EFFORT_UNSPECIFIED: 'none',
  REASONING_EFFORT_NONE: 'none',
  REASONING_EFFORT_LOW: 'low',
  REASONING_EFFORT_MEDIUM: 'medium',
  REASONING_EFFORT_HIGH: 'high',
  REASONING_EFFORT_MAX: 'max',
};

type ToolUse = 'none' | 'auto' | 'required';
const TOOL_USES: Readonly<Record<string, ToolUse>> = {
  TOOL_MODE_UNSPECIFIED: 'auto',
  TOOL_MODE_NONE: 'none',
  TOOL_MODE_AUTO: 'auto',
  TOOL_MODE_REQUIRED: 'required',
};

export function parseChat(chat: ChatInput__Output, errors: FieldErrors): Conversation {
  const { messages = [], tools = [], toolChoice = {}, templateVariablesJson = {} } = chat;
  if (messages.length === 0) errors.invalid('chat', 'must hold at least one message');
  const toolUse = errors.oneOf('chat.tool_choice.mode', toolChoice.mode, 'auto', TOOL_USES);
  if (toolUse === 'required') errors.unsupported('chat.tool_choice.mode', 'a call cannot be required yet');
  if (toolChoice.functionName)
    errors.unsupported('chat.tool_choice.function_name', 'a function cannot be required yet');
  for (const [index, tool] of tools.entries()) {
    if (tool.strict) errors.unsupported(`chat.tools[${index}].strict`, 'arguments cannot be constrained yet');
  }
  if (Object.keys(templateVariablesJson).length > 0) {
    errors.unsupported('chat.template_variables_json', 'template variables are not supported yet');
  }
  const conversation: Conversation = {
    messages: messages.map((message, index) => parseMessage(message, `chat.messages[${index}]`, errors)),
    tools: tools.map(({ name = '', description = '', parametersJson = '' }) => ({ name, description, parametersJson })),
    reasoningEffort: errors.oneOf('chat.reasoning_effort', chat.reasoningEffort, 'none', EFFORTS),
    continueFinalMessage: chat.continueFinalMessage ?? false,
  };
  if (messages.length > 0) {
    checkConversation(conversation, (field, description) => errors.invalid(field, description));
  }
  // The model is shown none, but knows what the turns before did with them.
  return toolUse === 'none' ? { ...conversation, tools: [], definesTools: tools.length > 0 } : conversation;
}

function parseMessage(message: ChatMessage__Output, path: string, errors: FieldErrors): ChatMessage {
  if (message.name) errors.unsupported(`${path}.name`, 'the chat encoding of this model has no author names');
  return {
    // The check behind names roles that are null.
    role: typeof message.role === 'string' ? (ROLES[message.role] ?? null) : null,
    content: message.content ?? '',
    reasoning: message.reasoning ?? '',
    toolCalls: (message.toolCalls ?? []).map(({ id = '', name = '', argumentsJson = '' }) => ({
      id,
      name,
      argumentsJson,
    })),
    toolCallId: message.toolCallId ?? '',
  };
}
