// Server reflection, v1 and v1alpha, over the descriptors that buf made. What proto-loader could offer instead lacks
// dependencies, field names and presence, and ghz and grpcurl refuse it (grpc-node issues 2958, 3018).

import { createRequire } from 'node:module';
import type { handleBidiStreamingCall, MethodDefinition, Server, UntypedServiceImplementation } from '@grpc/grpc-js';
import type { ReflectionService } from '@grpc/reflection';
import { readDescriptors } from './proto.js';

type Method = MethodDefinition<object, object>;

interface Reflection {
  readonly method: Method;
  readonly handle: handleBidiStreamingCall<object, object>;
}

const VERSIONS = ['v1', 'v1alpha'] as const;
const METHOD = 'ServerReflectionInfo';

/** The package, and the index that it makes of the descriptors, cost a tenth of a start: the first call pays for them. */
export function addReflection(server: Server): void {
  let made: Map<string, Reflection> | null = null;
  for (const version of VERSIONS) {
    const path = `/grpc.reflection.${version}.ServerReflection/${METHOD}`;
    const reflection = (): Reflection => {
      made ??= makeReflections();
      const found = made.get(path);
      if (!found) throw new Error(`@grpc/reflection does not serve ${path}`);
      return found;
    };
    const method: Method = {
      ...{ path, requestStream: true, responseStream: true },
      requestSerialize: (message) => reflection().method.requestSerialize(message),
      requestDeserialize: (bytes) => reflection().method.requestDeserialize(bytes),
      responseSerialize: (message) => reflection().method.responseSerialize(message),
      responseDeserialize: (bytes) => reflection().method.responseDeserialize(bytes),
    };
    server.addService(
      { [METHOD]: method },
      {
        [METHOD]: (stream: Parameters<Reflection['handle']>[0]) => reflection().handle(stream),
      },
    );
  }
}

/** What the package would add to a server, by path. */
function makeReflections(): Map<string, Reflection> {
  const require = createRequire(import.meta.url);
  const { ReflectionService: Service } = require('@grpc/reflection') as { ReflectionService: typeof ReflectionService };
  const fileDescriptorProtos = filesOf(readDescriptors());
  // The shape of a package definition, of which the service reads this field only.
  const definition = { descriptors: { fileDescriptorProtos } } as unknown as ConstructorParameters<typeof Service>[0];
  const made = new Map<string, Reflection>();
  const addService = (methods: Record<string, Method>, { [METHOD]: handle }: UntypedServiceImplementation): void => {
    const method = methods[METHOD];
    if (method) made.set(method.path, { method, handle: handle as Reflection['handle'] });
  };
  new Service(definition).addToServer({ addService } as unknown as Server);
  return made;
}

/** A FileDescriptorSet has one repeated field, number 1: its files, which are cut out as they are. */
function filesOf(set: Buffer): Buffer[] {
  const files: Buffer[] = [];
  let at = 0;
  while (at < set.length) {
    if (set[at++] !== 0x0a) throw new Error('proto/descriptors.binpb is not a FileDescriptorSet');
    let length = 0;
    for (let shift = 0, more = true; more; shift += 7) {
      const byte = set.readUInt8(at++);
      length += (byte & 0x7f) * 2 ** shift;
      more = byte >= 0x80;
    }
    files.push(set.subarray(at, at + length));
    at += length;
  }
  return files;
}
