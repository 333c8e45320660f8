// The model as the API sees it, the states that it passes, and ModelService, which shows them.
//
//   loading ──▶ ready ──▶ draining
//      └──▶ failed           ▲
//      └─────────────────────┘

import { Failure } from '../base/failures.js';
import type { PriceList } from '../base/prices.js';
import type { Engine } from '../engine/types.js';
import type { TextService } from '../text/text-service.js';
import type { GetModelRequest__Output } from './gen/nandu/v1/GetModelRequest.js';
import type { GetModelResponse } from './gen/nandu/v1/GetModelResponse.js';
import type { ListModelsRequest__Output } from './gen/nandu/v1/ListModelsRequest.js';
import type { ListModelsResponse } from './gen/nandu/v1/ListModelsResponse.js';
import type { Model } from './gen/nandu/v1/Model.js';
import type { DefaultSampling } from './generate-request.js';
import { pricesOf } from './usage.js';
import { FieldErrors } from './validate.js';

export interface ServedModel {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly version: string;
  /** As the file says, such as "deepseek4". */
  readonly architecture: string;
  /** Prompt and output together. */
  readonly contextLength: number;
  readonly vocabSize: number;
  /** null: the model has none. */
  readonly eosId: number | null;
  readonly weightBytes: number;
  /** Type name to its share of the weights' bytes. */
  readonly quantization: ReadonlyMap<string, number>;
  /** Weights, tokenizer, template, numerics and build: equal ones give equal greedy output. */
  readonly fingerprint: string;
  readonly kvBlockTokens: number;
  readonly kvBytesPerToken: number;
  readonly defaultSampling: DefaultSampling;
  /** null: the file holds no vocabulary; token ids only. */
  readonly text: TextService | null;
  readonly engine: Engine;
}

export type ModelState =
  | { readonly t: 'loading'; readonly progress: number }
  | { readonly t: 'ready'; readonly model: ServedModel }
  | { readonly t: 'draining'; readonly model: ServedModel | null }
  | { readonly t: 'failed'; readonly message: string };

/** What DeepSeek-V4 was trained to be sampled with. */
export const DEFAULT_SAMPLING: DefaultSampling = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
};

/** Rest of a load whose speed nobody knows. */
const LOADING_RETRY_MS = 1000;
/** A client may well find another server, or this one restarted, by then. */
const DRAINING_RETRY_MS = 5000;

/** The one model of this server, whatever its state. */
export class ModelSlot {
  #state: ModelState = { t: 'loading', progress: 0 };
  readonly #listeners: ((state: ModelState) => void)[] = [];

  /** `name`: what requests may call it before it is loaded. */
  constructor(readonly name: string) {}

  get state(): ModelState {
    return this.#state;
  }

  onChange(listener: (state: ModelState) => void): void {
    this.#listeners.push(listener);
  }

  /** Follows the arrows above and nothing else: progress may come late, a load may end when nobody waits for it any more. */
  set(state: ModelState): void {
    if (this.#state.t !== 'loading' && state.t !== 'draining') return;
    this.#state = state;
    for (const listener of this.#listeners) listener(state);
  }

  /** The model of this name, able to work, or the Failure that says why not. '' is the default model. */
  require(name: string): ServedModel {
    const state = this.#state;
    switch (state.t) {
      case 'ready':
        this.checkName(name);
        return state.model;
      case 'loading':
        throw new Failure('MODEL_LOADING', `the model is loading, ${Math.floor(state.progress * 100)} % done`, {
          metadata: { progress: state.progress.toFixed(2) },
          retryAfterMs: LOADING_RETRY_MS,
        });
      case 'draining':
        throw new Failure('DRAINING', 'the server is shutting down', { retryAfterMs: DRAINING_RETRY_MS });
      case 'failed':
        throw new Failure('MODEL_LOADING', `the model could not be loaded: ${state.message}`, {
          metadata: { progress: '0' },
        });
    }
  }

  /** Throws MODEL_NOT_FOUND unless requests may call the model so. */
  checkName(name: string): void {
    const aliases = 'model' in this.#state ? (this.#state.model?.aliases ?? []) : [];
    if (name === '' || name === this.name || aliases.includes(name)) return;
    const shown = name.length <= 128 ? name : `${name.slice(0, 128)}…`;
    throw new Failure('MODEL_NOT_FOUND', `no model "${shown}" here; there is "${this.name}"`, {
      resource: { type: 'model', name: shown },
    });
  }
}

/** Handlers of ModelService. */
export class ModelHandlers {
  constructor(
    private readonly slot: ModelSlot,
    private readonly prices: PriceList | null,
  ) {}

  listModels(request: ListModelsRequest__Output): ListModelsResponse {
    const errors = new FieldErrors();
    // One model is one page: nobody was given a token.
    if (request.pageToken) errors.invalid('page_token', 'is not a token that this server gave');
    errors.throwIfAny();
    return { models: [this.#describe()] };
  }

  getModel(request: GetModelRequest__Output): GetModelResponse {
    this.slot.checkName(request.name ?? '');
    return { model: this.#describe() };
  }

  #describe(): Model {
    const { state, name } = this.slot;
    switch (state.t) {
      case 'loading':
        return { name, state: 'MODEL_STATE_LOADING', loadProgress: state.progress };
      case 'failed':
        return { name, state: 'MODEL_STATE_FAILED', stateMessage: state.message };
      case 'ready':
        return { ...this.#describeLoaded(state.model), state: 'MODEL_STATE_READY', loadProgress: 1 };
      case 'draining':
        return { ...(state.model ? this.#describeLoaded(state.model) : { name }), state: 'MODEL_STATE_DRAINING' };
    }
  }

  #describeLoaded(model: ServedModel): Model {
    return { ...describeLoaded(model), ...(this.prices && { prices: pricesOf(this.prices) }) };
  }
}

function describeLoaded(model: ServedModel): Model {
  return {
    name: model.name,
    aliases: [...model.aliases],
    version: model.version,
    architecture: model.architecture,
    contextLength: model.contextLength,
    maxOutputTokens: model.contextLength - 1,
    vocabSize: model.vocabSize,
    defaultSampling: { ...model.defaultSampling, n: 1 },
    features: featuresOf(model),
    quantization: Object.fromEntries(model.quantization),
    weightBytes: model.weightBytes,
    fingerprint: model.fingerprint,
    kvBlockTokens: model.kvBlockTokens,
    kvBytesPerToken: model.kvBytesPerToken,
  };
}

function featuresOf({ text }: ServedModel): string[] {
  const chat = text?.chatProblem === null ? ['chat', 'tools', 'reasoning'] : [];
  return ['logprobs', ...(text ? ['text'] : []), ...chat];
}
