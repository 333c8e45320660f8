// What context costs: nandu's prefill and decode speed at 16k tokens of context against 1k, in reference numerics.
//
// Two children hold one engine each, and only one of them runs at a time (SIGSTOP, SIGCONT): they take turns chunk by
// chunk of 512 prompt tokens, then 12 tokens at a time, so a neighbour's noise hits both alike. A child's clock runs only
// while it does. The far one computes prompt chunks that begin at 15,360 to 16,896 and decodes behind token 17,408 (a little
// beyond what the gate asks); the near one computes chunks that begin at 512 and 1,024 and decodes behind token 1,024.
//
//   node bench/engine/context.mjs [--model /tmp/m/medium.gguf] [--threads 2] [--turns 12]
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { cpuOf, gate, generate, machine, median, openEngine, options, prompt, rounded, warm } from './lib.mjs';

const args = options(import.meta.url, { turns: 12, child: '' });
const turns = Number(args.turns);
const CHUNK = 512;
const FAR_FROM = 30 * CHUNK; // first chunk that counts
const FAR_PROMPT = 34 * CHUNK;
const TOKENS_A_TURN = 12;

const write = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

async function child(isFar) {
  const { engine } = await openEngine(args.model, { threads: Number(args.threads), maxRunning: 1 });
  write({ t: 'ready' });
  const show = (event) => {
    if (event.t === 'prefill') write({ t: 'prefill', done: event.done });
    if (event.t === 'tokens') write({ t: 'token' });
  };
  const decoded = TOKENS_A_TURN * (turns + 2);
  if (isFar) await generate(engine, prompt(FAR_PROMPT, 7), decoded, show);
  else {
    for (let chunks = 0; chunks < FAR_PROMPT / CHUNK - FAR_FROM / CHUNK; chunks += 2)
      await generate(engine, prompt(3 * CHUNK, 7 + chunks), 0, show);
    await generate(engine, prompt(1024, 7), decoded, show);
  }
  await engine.close();
}

/** A child and its clock, which stands while the child does. */
class Side {
  #ranMs = 0;
  #sinceMs = null;
  constructor(name) {
    const self = fileURLToPath(import.meta.url);
    const given = ['--model', args.model, '--threads', args.threads, '--turns', args.turns];
    this.process = spawn(process.execPath, [self, '--child', name, ...given], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
    this.go();
  }

  go() {
    this.#sinceMs = performance.now();
    this.process.kill('SIGCONT');
  }

  stop() {
    this.process.kill('SIGSTOP');
    this.#ranMs += performance.now() - this.#sinceMs;
    this.#sinceMs = null;
  }

  /** The next event, with the child's own time. */
  async next() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error('a child ended early');
    const at = this.#ranMs + (this.#sinceMs === null ? 0 : performance.now() - this.#sinceMs);
    return { ...JSON.parse(value), at, cpu: cpuOf(`/proc/${this.process.pid}/stat`) };
  }

  /** Runs until an event for which `wanted` holds, and gives it. */
  async until(wanted) {
    for (;;) {
      const event = await this.next();
      if (wanted(event)) return event;
    }
  }
}

/** What one of `count` steps between two events took: time on the child's clock, and CPU time. */
const between = (from, to, count) => ({ ms: (to.at - from.at) / count, cpu: (to.cpu - from.cpu) / count });

/** Near over far, pair by pair; CPU time is what remains of a ratio on a busy machine. */
function figure(steps, tokens, atLeast) {
  const ratio = (what) => median(steps.near.map((near, index) => near[what] / steps.far[index][what]));
  const speed = (side) => rounded((tokens * 1000) / median(steps[side].map(({ ms }) => ms)));
  return {
    ratio: gate(ratio('ms'), { atLeast }),
    ratio_of_cpu_time: rounded(ratio('cpu')),
    near_tokens_per_second: speed('near'),
    far_tokens_per_second: speed('far'),
  };
}

async function parent() {
  warm(args.model);
  const near = new Side('near');
  await near.until(({ t }) => t === 'ready');
  near.stop();
  const far = new Side('far');
  await far.until(({ t }) => t === 'ready');
  const chunks = { near: [], far: [] };
  // The far one alone up to where it counts; then a chunk each.
  let farFrom = await far.until(({ t, done }) => t === 'prefill' && done === FAR_FROM);
  far.stop();
  const nearChunk = async () => {
    near.go();
    let from = null;
    for (;;) {
      const event = await near.until(({ t }) => t === 'prefill');
      if (from !== null && event.done > CHUNK && event.done > from.done) {
        chunks.near.push(between(from, event, 1));
        if (event.done === 3 * CHUNK) break;
      }
      from = event;
    }
    near.stop();
  };
  for (let done = FAR_FROM + CHUNK; done <= FAR_PROMPT; done += CHUNK) {
    if ((done / CHUNK) % 2 === 1) await nearChunk(); // two chunks of the near one for two of the far one
    far.go();
    const event = await far.until((e) => e.t === 'prefill' && e.done === done);
    chunks.far.push(between(farFrom, event, 1));
    farFrom = event;
    if (done === FAR_PROMPT) await far.until(({ t }) => t === 'token');
    far.stop();
  }
  near.go();
  await near.until(({ t }) => t === 'token');
  near.stop();
  const decode = { near: [], far: [] };
  const sides = { near, far };
  for (let turn = 0; turn < turns; turn++)
    for (const name of turn % 2 ? ['near', 'far'] : ['far', 'near']) {
      const side = sides[name];
      side.go();
      const first = await side.next(); // the turn's first token may have begun in the last turn
      let last = first;
      for (let token = 1; token < TOKENS_A_TURN; token++) last = await side.until(({ t }) => t === 'token');
      side.stop();
      decode[name].push(between(first, last, TOKENS_A_TURN - 1));
    }
  for (const side of [near, far]) side.process.kill('SIGKILL');
  const figures = { decode: figure(decode, 1, 0.6), prefill: figure(chunks, CHUNK, 0.5) };
  const about = { bench: 'context', ...machine(), threads: Number(args.threads), model: args.model };
  console.log(JSON.stringify({ ...about, ...figures }, null, 2));
  process.exit(figures.decode.ratio.met && figures.prefill.ratio.met ? 0 : 1);
}

await (args.child ? child(args.child === 'far') : parent());
