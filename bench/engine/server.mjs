// `nandu serve` as a child, for the benches: started on a free port, asked over gRPC, its CPU by thread.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { cpuOf, nandu, root } from './lib.mjs';

const require = createRequire(join(root, 'package.json'));
export const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

/** One unary call. */
export function call(client, method, request) {
  return new Promise((resolve, reject) =>
    client[method](request, (error, response) => (error ? reject(error) : resolve(response))),
  );
}

/** A greedy answer of exactly `maxTokens`, with its timings. */
export function generate(client, ids, maxTokens, mode) {
  return call(client, 'Generate', {
    token_ids: { ids: [...ids] },
    sampling: { temperature: 0 },
    stop: { max_tokens: maxTokens, ignore_eos: true },
    cache: { mode },
    output: { timings: true },
  });
}

export class Server {
  /** `listening` resolves to the port, `serving` when the model answers. `more`: further flags; by themselves nothing is kept, and the user's own cache is left alone. */
  constructor(model, threads, more = ['--kv-dir', 'none', '--kv-memory', '0']) {
    this.beginMs = performance.now();
    const flags = [
      'serve',
      '--model',
      model,
      '--listen',
      '127.0.0.1:0',
      '--threads',
      String(threads),
      '--log-format',
      'json',
      ...more,
    ];
    this.process = spawn(process.execPath, [nandu, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    const kill = () => this.process.kill();
    process.once('exit', kill); // a bench that fails leaves no server behind
    this.process.once('exit', () => process.off('exit', kill));
    const lines = [this.process.stdout, this.process.stderr].map((input) => createInterface({ input }));
    const logged = (message) =>
      new Promise((resolve, reject) => {
        this.process.once('exit', (code) => reject(new Error(`nandu serve: exit ${code} before '${message}'`)));
        for (const stream of lines)
          stream.on('line', (line) => {
            if (line.includes(`"msg":"${message}"`)) resolve(JSON.parse(line));
          });
      });
    this.logged = logged;
    this.listening = logged('listening').then(({ port }) => port);
    this.serving = logged('serving');
    for (const promise of [this.listening, this.serving]) promise.catch(() => {});
  }

  /** Serving, with the cache's disk in use. */
  static async withDisk(model, threads, dir, more = []) {
    const server = new Server(model, threads, ['--kv-dir', dir, ...more]);
    const attached = server.logged('the prompt cache uses its disk');
    await server.serving;
    await attached;
    return server;
  }

  /** A client of GenerationService, or of another service of the package. */
  async client(service = 'GenerationService') {
    const files = ['generation', 'cache', 'admin'].map((name) => `nandu/v1/${name}.proto`);
    const definition = loader.loadSync(files, {
      includeDirs: [join(root, 'proto')],
      ...{ keepCase: true, longs: Number, oneofs: true },
    });
    const Client = grpc.loadPackageDefinition(definition).nandu.v1[service];
    return new Client(`127.0.0.1:${await this.listening}`, grpc.credentials.createInsecure());
  }

  /** CPU seconds so far: of the JavaScript thread, and of all. */
  cpu() {
    const { pid } = this.process;
    return { javascript: cpuOf(`/proc/${pid}/task/${pid}/stat`), all: cpuOf(`/proc/${pid}/stat`) };
  }

  async stop() {
    const gone = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGTERM');
    await gone;
  }
}
