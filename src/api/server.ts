// The gRPC server: every service of the contract on one listener that is open from the first moment, whatever the model is
// doing. Built by the serve command and by tests.
//
//   listen ──▶ (loading: MODEL_LOADING) ──setModel──▶ serving ──drain──▶ draining ──▶ closed

import { Server, ServerCredentials, type ServiceDefinition, type UntypedHandleCall } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { Failure } from '../base/failures.js';
import type { Log } from '../base/log.js';
import type { PriceList } from '../base/prices.js';
import { within } from '../base/within.js';
import { AdminHandlers, type ServerFacts } from './admin.js';
import { CacheHandlers } from './cache.js';
import { GenerationHandlers } from './generation.js';
import { ModelHandlers, ModelSlot, type ServedModel } from './model.js';
import { SERVICES, type ServiceName, serviceDefinition } from './proto.js';
import { addReflection } from './reflection.js';
import { featureDisabled, serverStream, unary } from './rpc.js';
import { startTimer } from './time.js';
import { TokenizerHandlers } from './tokenizer.js';
import { guardTransport, type Outflow, serverOptions } from './transport.js';

export interface ApiSettings {
  readonly maxRunning: number;
  readonly maxWaiting: number;
  /** For requests that leave stop.max_tokens unset. */
  readonly defaultMaxTokens: number;
  readonly reflection: boolean;
}

export interface ApiServerOptions {
  /** What requests call the model before it is loaded. */
  readonly modelName: string;
  readonly settings: ApiSettings;
  /** null: responses carry no cost. */
  readonly prices: PriceList | null;
  readonly facts: () => ServerFacts;
  readonly log: Log;
}

/** Liveness only: the process answers. Never changes. */
const LIVE = 'live';
/** Whether the cache's disk works. Without it requests are still answered, so no other service follows it. */
const DISK = 'disk';
/** After the last answer, for the frames to leave and for watchers of health to hear of it. */
const LINGER_MS = 250;
/** How long a reader may stand still who has not got all of an answer. */
const STALL_MS = 3000;

/** Method name to what makes its handler, by service; a method that is missing answers FEATURE_DISABLED. */
type Handlers = Partial<Record<ServiceName, Readonly<Record<string, (rpc: string) => UntypedHandleCall>>>>;

export class ApiServer {
  readonly slot: ModelSlot;
  readonly #server = new Server(serverOptions);
  readonly #health = new HealthImplementation();
  readonly #generation: GenerationHandlers;
  readonly #cache: CacheHandlers;
  readonly #admin: AdminHandlers;
  readonly #prices: PriceList | null;
  readonly #outflow: Outflow;
  readonly #log: Log;
  #drained: Promise<void> | null = null;

  constructor({ modelName, settings, prices, facts, log }: ApiServerOptions) {
    this.#log = log;
    this.slot = new ModelSlot(modelName);
    this.#prices = prices;
    this.#generation = new GenerationHandlers(this.slot, { defaultMaxTokens: settings.defaultMaxTokens, prices });
    this.#cache = new CacheHandlers(this.slot, this.#generation);
    this.#admin = new AdminHandlers(this.slot, facts, settings);
    this.#outflow = guardTransport(this.#server, log);
    this.#addServices();
    this.#health.addToServer(this.#server);
    this.#health.setStatus(LIVE, 'SERVING');
    this.#showHealth(false);
    this.slot.onChange((state) => this.#showHealth(state.t === 'ready'));
    if (settings.reflection) addReflection(this.#server);
  }

  /** Opens the listener; the port that was chosen, for port 0. Rejects when the address cannot be had. */
  listen(address: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
        if (error) reject(error);
        else resolve(port);
      });
    });
  }

  setLoading(progress: number): void {
    this.slot.set({ t: 'loading', progress });
  }

  setModel(model: ServedModel): void {
    this.slot.set({ t: 'ready', model });
  }

  setFailed(message: string): void {
    this.slot.set({ t: 'failed', message });
  }

  /** What the health service says under the name "disk": the cache's disk works. Unknown until it is told. */
  setDiskHealth(isWell: boolean): void {
    this.#health.setStatus(DISK, isWell ? 'SERVING' : 'NOT_SERVING');
  }

  /** Takes nothing new, waits for what runs, at most `timeoutMs`, ends the rest and closes. Resolves when all is over. */
  drain(timeoutMs: number): Promise<void> {
    this.#drained ??= this.#drain(timeoutMs);
    return this.#drained;
  }

  /** At once: what runs ends with UNAVAILABLE. */
  close(): Promise<void> {
    this.#endRunning();
    return this.drain(0);
  }

  async #drain(timeoutMs: number): Promise<void> {
    const { state } = this.slot;
    this.slot.set({ t: 'draining', model: 'model' in state ? state.model : null });
    this.#cache.endWatches();
    const untilMs = performance.now() + timeoutMs;
    const idle = this.#generation.whenIdle();
    const timer = startTimer(timeoutMs, () => this.#endRunning());
    await idle;
    clearTimeout(timer);
    await this.#closeListener(untilMs);
    this.#admin.close();
  }

  #endRunning(): void {
    this.#generation.abortAll(new Failure('DRAINING', 'the server shut down before the request was done'));
  }

  /**
   * What is still open now are answers on their way, streams without an end, such as Watch of health, and readers that do
   * not read: once nothing goes out any more, or at `untilMs`, they are cut off.
   */
  async #closeListener(untilMs: number): Promise<void> {
    const closed = new Promise<true>((resolve) => this.#server.tryShutdown(() => resolve(true)));
    let sent: number;
    do {
      sent = this.#outflow.bytesSent();
      const leftMs = untilMs - performance.now();
      const patienceMs = this.#outflow.isWaiting() ? Math.min(STALL_MS, leftMs) : 0;
      if (await within(Math.max(LINGER_MS, patienceMs), closed, false)) return;
    } while (this.#outflow.bytesSent() !== sent && performance.now() < untilMs);
    this.#server.forceShutdown();
    await closed;
  }

  #showHealth(isServing: boolean): void {
    for (const service of ['', ...SERVICES]) this.#health.setStatus(service, isServing ? 'SERVING' : 'NOT_SERVING');
  }

  #addServices(): void {
    const handlers = this.#handlers();
    for (const service of SERVICES) {
      const definition = serviceDefinition(service);
      const own = handlers[service] ?? {};
      const methods = Object.entries(definition).map(([method, { responseStream }]) => {
        const rpc = `${service}/${method}`;
        return [method, own[method]?.(rpc) ?? this.#refusal(rpc, responseStream)];
      });
      this.#server.addService(definition as ServiceDefinition, Object.fromEntries(methods));
    }
  }

  #refusal(rpc: string, isStream: boolean): UntypedHandleCall {
    const sink = { log: this.#log, level: 'debug' } as const;
    const refuse = () => Promise.reject(featureDisabled(rpc));
    return isStream ? serverStream(rpc, sink, refuse) : unary(rpc, sink, refuse);
  }

  #handlers(): Handlers {
    const generation = this.#generation;
    const cache = this.#cache;
    const models = new ModelHandlers(this.slot, this.#prices);
    const tokenizer = new TokenizerHandlers(this.slot);
    const admin = this.#admin;
    // A line for each request; look-ups only when somebody looks closely.
    const requests = { log: this.#log, level: 'info' } as const;
    const lookUps = { log: this.#log, level: 'debug' } as const;
    return {
      'nandu.v1.GenerationService': {
        Generate: (rpc) => unary(rpc, requests, generation.generate.bind(generation)),
        GenerateStream: (rpc) => serverStream(rpc, requests, generation.generateStream.bind(generation)),
        CancelGeneration: (rpc) => unary(rpc, lookUps, generation.cancelGeneration.bind(generation)),
      },
      'nandu.v1.ModelService': {
        ListModels: (rpc) => unary(rpc, lookUps, models.listModels.bind(models)),
        GetModel: (rpc) => unary(rpc, lookUps, models.getModel.bind(models)),
      },
      'nandu.v1.TokenizerService': {
        Tokenize: (rpc) => unary(rpc, lookUps, tokenizer.tokenize.bind(tokenizer)),
        Detokenize: (rpc) => unary(rpc, lookUps, tokenizer.detokenize.bind(tokenizer)),
      },
      'nandu.v1.CacheService': {
        ProbePrefix: (rpc) => unary(rpc, lookUps, cache.probePrefix.bind(cache)),
        WarmPrefix: (rpc) => serverStream(rpc, requests, cache.warmPrefix.bind(cache)),
        PinPrefix: (rpc) => unary(rpc, requests, cache.pinPrefix.bind(cache)),
        PurgeCache: (rpc) => unary(rpc, requests, cache.purgeCache.bind(cache)),
        WatchCacheEvents: (rpc) => serverStream(rpc, lookUps, cache.watchCacheEvents.bind(cache)),
      },
      'nandu.v1.AdminService': {
        GetServerInfo: (rpc) => unary(rpc, lookUps, admin.getServerInfo.bind(admin)),
        GetLoad: (rpc) => unary(rpc, lookUps, admin.getLoad.bind(admin)),
        GetCacheStats: (rpc) => unary(rpc, lookUps, admin.getCacheStats.bind(admin)),
      },
    };
  }
}
