// A real `nandu serve` as a child process, for tests that must see it from outside: signals, memory, descriptors.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Message, Peer } from './api-harness.js';

const bin = fileURLToPath(new URL('../../bin/nandu.js', import.meta.url));

export interface RealServer {
  readonly process: ChildProcess;
  readonly address: string;
  readonly peer: Peer;
  /** Parsed log lines so far. */
  readonly log: readonly Message[];
  /** Exit code, or the signal's name. */
  readonly exit: Promise<number | string>;
  residentBytes(): number;
  openDescriptors(): number;
  /** Waits until GetLoad shows nothing running and nothing waiting. */
  idle(): Promise<void>;
  stop(): Promise<void>;
}

/** Writes a small model that knows a vocabulary and nothing else: behaviour is tested on it, and sense is not. */
export function writeRandomModel(path: string): void {
  const { status, stderr } = spawnSync(process.execPath, [bin, 'synth', path, '--vocab', '4096'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`nandu synth ended with ${status}: ${stderr}`);
}

/** Started and SERVING; the embedded model, unless the flags name one. */
export async function startServer(flags: readonly string[] = []): Promise<RealServer> {
  const child = spawn(process.execPath, [bin, 'serve', '--listen', '127.0.0.1:0', ...flags], {
    // The user's own cache is not for tests, and two at once would be refused there; --kv-dir among the flags goes before it.
    env: { ...process.env, NANDU_KV_DIR: 'none' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const log: Message[] = [];
  let tail = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (tail + text).split('\n');
    tail = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('{')) log.push(JSON.parse(line));
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const exit = new Promise<number | string>((resolve) => {
    child.on('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  const line = async (msg: string): Promise<Message> => {
    for (let waited = 0; waited < 60_000; waited += 20) {
      const found = log.find((entry) => entry.msg === msg);
      if (found) return found;
      if (child.exitCode !== null) throw new Error(`nandu serve ended with ${child.exitCode}: ${errors}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`nandu serve never said '${msg}': ${errors}`);
  };
  const { port } = await line('listening');
  await line('serving');
  const address = `127.0.0.1:${port}`;
  const peer = new Peer(address);
  return {
    process: child,
    address,
    peer,
    log,
    exit,
    residentBytes: () =>
      Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0) * 1024,
    openDescriptors: () => readdirSync(`/proc/${child.pid}/fd`).length,
    async idle() {
      for (let waited = 0; waited < 30_000; waited += 20) {
        const { load } = await peer.unary('admin', 'getLoad');
        if (load.runningRequests === 0 && load.waitingRequests === 0) return;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      throw new Error('requests are left behind');
    },
    async stop() {
      peer.close();
      child.kill('SIGKILL');
      await exit;
    },
  };
}
