// The contract as code sees it: proto/ loaded once, its services for the server and its codecs for error details.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type AnyDefinition,
  loadSync,
  type MessageTypeDefinition,
  type PackageDefinition,
  type ServiceDefinition,
} from '@grpc/proto-loader';
import { FieldErrors } from './validate.js';
import { checkWire, type MessageDescriptor, wireTypeOf } from './wire.js';

const protoFolder = fileURLToPath(new URL('../../proto', import.meta.url));

/**
 * How messages look in code; src/api/gen holds the matching types. Without `defaults` a field that did not travel is
 * undefined, so that "not set" and zero stay apart; an enum number that we do not know stays a number.
 */
const loaderOptions = { keepCase: false, longs: Number, enums: String, oneofs: true, defaults: false } as const;

const files = [
  ...['admin', 'cache', 'generation', 'model', 'tokenizer', 'usage'].map((name) => `nandu/v1/${name}.proto`),
  'google/rpc/error_details.proto',
  'google/rpc/status.proto',
];

const definitions: PackageDefinition = loadSync(files, { ...loaderOptions, includeDirs: [protoFolder] });

export const SERVICES = [
  'nandu.v1.GenerationService',
  'nandu.v1.ModelService',
  'nandu.v1.TokenizerService',
  'nandu.v1.CacheService',
  'nandu.v1.UsageService',
  'nandu.v1.AdminService',
] as const;
export type ServiceName = (typeof SERVICES)[number];

const badTexts = new WeakMap<object, FieldErrors>();

/** Refuses a request with texts that came as bytes which are no UTF-8: decoded, they have other characters in their place. */
export function refuseBadTexts(request: object): void {
  badTexts.get(request)?.throwIfAny();
}

/** Requests are checked before they are decoded: see wire.ts. */
export function serviceDefinition(name: ServiceName): ServiceDefinition {
  const methods = Object.entries(definitionOf(name) as ServiceDefinition);
  return Object.fromEntries(
    methods.map(([method, definition]) => {
      const wireType = wireTypeOf(definition.requestType.type as unknown as MessageDescriptor, descriptorOf);
      const requestDeserialize = (bytes: Buffer): object => {
        const errors = new FieldErrors();
        const canDecode = checkWire(wireType, bytes, errors);
        const request = canDecode ? (definition.requestDeserialize(bytes) as object) : {};
        badTexts.set(request, errors);
        return request;
      };
      return [method, { ...definition, requestDeserialize }];
    }),
  );
}

function descriptorOf(name: string): MessageDescriptor {
  const inPackage = definitions[`nandu.v1.${name}`] ?? definitionOf(name.replace(/^\./, ''));
  return (inPackage as MessageTypeDefinition<object, object>).type as unknown as MessageDescriptor;
}

/** Wire bytes of a message of `type`. */
export function encodeMessage(type: string, message: object): Buffer {
  return (definitionOf(type) as MessageTypeDefinition<object, object>).serialize(message);
}

/** The FileDescriptorSet that `buf build` made of proto/. */
export function readDescriptors(): Buffer {
  return readFileSync(`${protoFolder}/descriptors.binpb`);
}

function definitionOf(name: string): AnyDefinition {
  const definition = definitions[name];
  if (!definition) throw new Error(`proto/ does not define ${name}`);
  return definition;
}
