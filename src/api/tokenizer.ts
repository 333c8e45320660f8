// TokenizerService: the tokenizer and the chat encoding of the model by themselves.

import { parseChat } from './chat-input.js';
import type { DetokenizeRequest__Output } from './gen/nandu/v1/DetokenizeRequest.js';
import type { DetokenizeResponse } from './gen/nandu/v1/DetokenizeResponse.js';
import type { TokenizeRequest__Output } from './gen/nandu/v1/TokenizeRequest.js';
import type { TokenizeResponse } from './gen/nandu/v1/TokenizeResponse.js';
import { checkTextOptions, checkTokenIds, parseText } from './generate-request.js';
import type { ModelSlot } from './model.js';
import { encodeInput, requireText, type TextInput } from './prompt.js';
import type { Call } from './rpc.js';
import { FieldErrors } from './validate.js';

/** An answer's ids and pieces become objects before they become bytes: some hundred bytes each. */
const ANSWER_TOKENS_MAX = 2 ** 20;

export class TokenizerHandlers {
  constructor(private readonly slot: ModelSlot) {}

  async tokenize(request: TokenizeRequest__Output, { signal }: Call): Promise<TokenizeResponse> {
    const model = this.slot.require(request.model ?? '');
    const input = parseTokenizeInput(request);
    const text = requireText(model);
    const maxTokens = request.countOnly ? Number.POSITIVE_INFINITY : ANSWER_TOKENS_MAX;
    const { tokens, renderedText } = await encodeInput(input, text, { signal, maxTokens });
    signal.throwIfAborted();
    const response: TokenizeResponse = { tokenCount: tokens.length, contextLength: model.contextLength };
    if (request.countOnly) return response;
    if (tokens.length > ANSWER_TOKENS_MAX) {
      const errors = new FieldErrors();
      errors.invalid(input.t, `has more than ${ANSWER_TOKENS_MAX} tokens: ask for it in parts, or set count_only`);
      errors.throwIfAny();
    }
    response.tokenIds = [...tokens];
    if (request.pieces) response.pieces = response.tokenIds.map((id) => Buffer.from(text.tokenizer.tokenBytes(id)));
    if (request.rendered) response.renderedText = renderedText;
    return response;
  }

  detokenize(request: DetokenizeRequest__Output): DetokenizeResponse {
    const model = this.slot.require(request.model ?? '');
    const { tokenIds = [], showSpecial = false } = request;
    const errors = new FieldErrors();
    if (tokenIds.length > ANSWER_TOKENS_MAX) {
      errors.invalid('token_ids', `has ${tokenIds.length} ids, at most ${ANSWER_TOKENS_MAX} are taken`);
      errors.throwIfAny();
    }
    checkTokenIds('token_ids', tokenIds, model.vocabSize, errors);
    errors.throwIfAny();
    const { text, bytes } = requireText(model).tokenizer.decode(tokenIds, { showSpecial });
    return { text, raw: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  }
}

function parseTokenizeInput(request: TokenizeRequest__Output): TextInput {
  const errors = new FieldErrors();
  checkTextOptions(request.textOptions, request.input, errors);
  let input: TextInput | null = null;
  if (request.input === 'text') input = parseText(request.text ?? '', request.textOptions, errors);
  else if (request.input === 'chat') input = { t: 'chat', conversation: parseChat(request.chat ?? {}, errors) };
  else errors.invalid('input', 'one of text and chat must be set');
  errors.throwIfAny();
  return input as TextInput;
}
