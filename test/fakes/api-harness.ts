// A server on a fake engine and a real grpc-js client for it, with the few helpers that tests of the API share.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type CallOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  loadPackageDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader';
import type { DestinationStream } from 'pino';
import type { ServerFacts } from '../../src/api/admin.js';
import { DEFAULT_SAMPLING, type ServedModel } from '../../src/api/model.js';
import { ApiServer, type ApiSettings } from '../../src/api/server.js';
import { createLog } from '../../src/base/log.js';
import { DEFAULT_PRICES, type PriceList } from '../../src/base/prices.js';
import { buildVocabulary } from '../../src/text/bpe-trainer.js';
import { TextService } from '../../src/text/text-service.js';
import { FakeEngine, type FakeEngineOptions } from './fake-engine.js';

const protoFolder = fileURLToPath(new URL('../../proto', import.meta.url));
const workerFile = new URL('../../dist/text/worker.js', import.meta.url);

/** As any client would load it; not the options that the server uses. */
export const clientDefinition: PackageDefinition = loadSync(
  [
    ...['admin', 'cache', 'generation', 'model', 'tokenizer', 'usage'].map((name) => `nandu/v1/${name}.proto`),
    'google/rpc/error_details.proto',
    'google/rpc/status.proto',
    'grpc/health/v1/health.proto',
  ],
  { includeDirs: [protoFolder], longs: Number, enums: String, oneofs: true, defaults: true },
);

// biome-ignore lint/suspicious/noExplicitAny: what a dynamic client returns has no static type
export type Message = any;
type UnaryMethod = (
  request: object,
  options: object,
  callback: (error: ServiceError | null, response: Message) => void,
) => ClientUnaryCall;
type StreamMethod = (request: object, options?: object) => ClientReadableStream<Message>;

const SERVICE_KEYS = {
  generation: 'GenerationService',
  model: 'ModelService',
  tokenizer: 'TokenizerService',
  cache: 'CacheService',
  usage: 'UsageService',
  admin: 'AdminService',
} as const;

type Client = Record<string, UnaryMethod & StreamMethod> & { close(): void };
type ClientClass = new (address: string, credentials: unknown, options?: object) => Client;

/** One client a service; with `channelOptions` they share one connection unless told otherwise. */
export class Peer {
  readonly #clients = new Map<string, Client>();

  constructor(
    readonly address: string,
    private readonly channelOptions: object = {},
  ) {}

  client(service: keyof typeof SERVICE_KEYS | 'health'): Client {
    let client = this.#clients.get(service);
    if (!client) {
      const root = loadPackageDefinition(clientDefinition) as Message;
      const Service: ClientClass =
        service === 'health' ? root.grpc.health.v1.Health : root.nandu.v1[SERVICE_KEYS[service]];
      client = new Service(this.address, credentials.createInsecure(), this.channelOptions);
      this.#clients.set(service, client);
    }
    return client;
  }

  unary(
    service: keyof typeof SERVICE_KEYS | 'health',
    method: string,
    request: object = {},
    options: CallOptions = {},
  ): Promise<Message> {
    const client = this.client(service);
    return new Promise((resolve, reject) => {
      client[method]?.(request, options, (error: ServiceError | null, response: Message) =>
        error ? reject(error) : resolve(response),
      );
    });
  }

  stream(request: object, options: CallOptions = {}): ClientReadableStream<Message> {
    return this.client('generation').generateStream?.(request, options) as ClientReadableStream<Message>;
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }
}

/** All messages of a stream, or what it failed with. */
export function collect(
  call: ClientReadableStream<Message>,
): Promise<{ messages: Message[]; error: ServiceError | null }> {
  const messages: Message[] = [];
  return new Promise((resolve) => {
    call.on('data', (message: Message) => messages.push(message));
    call.on('error', (error: ServiceError) => resolve({ messages, error }));
    call.on('end', () => resolve({ messages, error: null }));
  });
}

/** Code and decoded google.rpc details of an error. */
export interface Refusal {
  readonly code: number;
  readonly message: string;
  readonly reason: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  /** Paths, in order. */
  readonly fields: readonly string[];
  readonly details: Readonly<Record<string, Message>>;
}

export function refusalOf(error: ServiceError): Refusal {
  const packed = error.metadata?.get('grpc-status-details-bin')[0] as Buffer | undefined;
  const details: Record<string, Message> = {};
  if (packed) {
    for (const { type_url, value } of decode('google.rpc.Status', packed).details) {
      const type = String(type_url).replace('type.googleapis.com/', '');
      details[type] = decode(type, value);
    }
  }
  const info = details['google.rpc.ErrorInfo'];
  const violations: { field: string }[] = details['google.rpc.BadRequest']?.fieldViolations ?? [];
  return {
    code: error.code,
    message: error.details,
    reason: info?.reason ?? null,
    metadata: info?.metadata ?? {},
    fields: violations.map(({ field }) => field),
    details,
  };
}

export function decode(type: string, bytes: Buffer): Message {
  return (clientDefinition[type] as MessageTypeDefinition<object, object>).deserialize(bytes);
}

/** A message as it travels in a gRPC call: a byte for compression, four for the length, the message. */
export function frame(type: string, message: object): Buffer {
  const bytes = (clientDefinition[type] as MessageTypeDefinition<object, object>).serialize(message);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

export function unframe(type: string, stream: Buffer): Message[] {
  const messages: Message[] = [];
  for (let at = 0; at < stream.length; ) {
    const end = at + 5 + stream.readUInt32BE(at + 1);
    messages.push(decode(type, stream.subarray(at + 5, end)));
    at = end;
  }
  return messages;
}

export async function refusal(call: Promise<unknown>): Promise<Refusal> {
  try {
    await call;
  } catch (error) {
    return refusalOf(error as ServiceError);
  }
  throw new Error('the call did not fail');
}

export interface HarnessOptions extends Partial<FakeEngineOptions> {
  /** false: a model without a vocabulary. */
  readonly withText?: boolean;
  readonly settings?: Partial<ApiSettings>;
  /** false: the model stays loading until the test says otherwise. */
  readonly isReady?: boolean;
  /** null: none. */
  readonly prices?: PriceList | null;
}

export interface Harness {
  readonly server: ApiServer;
  readonly engine: FakeEngine;
  readonly model: ServedModel;
  readonly peer: Peer;
  readonly address: string;
  readonly text: TextService;
  /** Parsed lines. */
  readonly log: Message[];
  close(): Promise<void>;
}

const vocabulary = buildVocabulary(4096);
export const CONTEXT = 4096;

export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const { withText = true, settings = {}, isReady = true, prices = DEFAULT_PRICES, ...engineOptions } = options;
  const text = existsSync(workerFile) ? new TextService(vocabulary, workerFile) : new TextService(vocabulary);
  const vocabSize = vocabulary.tokens.length;
  const eosId = vocabulary.eosId;
  const engine = new FakeEngine({
    vocabSize,
    contextTokens: CONTEXT,
    eosId,
    tokenBytes: (id) => text.tokenizer.tokenBytes(id),
    ...engineOptions,
  });
  const model: ServedModel = {
    name: 'fake',
    aliases: ['default', 'other-name'],
    version: '7',
    architecture: 'deepseek4',
    contextLength: CONTEXT,
    vocabSize,
    eosId,
    weightBytes: 123_456_789_012,
    quantization: new Map([
      ['mxfp4', 0.75],
      ['f16', 0.25],
    ]),
    fingerprint: 'f00d',
    kvBlockTokens: 128,
    kvBytesPerToken: 1234.5,
    defaultSampling: DEFAULT_SAMPLING,
    text: withText ? text : null,
    engine,
  };
  const log: Message[] = [];
  const lines: DestinationStream = { write: (line) => void log.push(JSON.parse(line)) };
  const server = new ApiServer({
    modelName: 'fake',
    settings: { maxRunning: 16, maxWaiting: 256, defaultMaxTokens: 32, reflection: true, ...settings },
    prices,
    facts: () => FACTS,
    log: createLog({ level: 'debug', format: 'json', fields: { service: 'nandu' } }, lines),
  });
  if (isReady) server.setModel(model);
  const port = await server.listen('127.0.0.1:0');
  const address = `127.0.0.1:${port}`;
  const peer = new Peer(address);
  return {
    ...{ server, engine, model, peer, address, text, log },
    async close() {
      peer.close();
      await server.close();
      await engine.close();
      await text.close();
    },
  };
}

const FACTS: ServerFacts = {
  version: '0.1.0',
  revision: 'abc',
  instanceId: '1234',
  cpuModel: 'Test CPU',
  computeThreads: 2,
  cpuFeatures: ['avx2'],
  ioBackend: 'mmap',
  memoryLimitBytes: 0,
  settings: { listen: '127.0.0.1:0' },
};
