// The fitted trace of 12,031 requests through the real index and policy and through an independent reference, at four
// capacities. Prints one JSON line for the trace and one a comparison; exits 1 where hit rates differ by more than 0.01.
//   node bench/kv/trace.mjs [seed]
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runnerImport } from 'vite';

// Generator, reference and driver are the tests': TypeScript, translated on the fly.
const folder = join(dirname(fileURLToPath(import.meta.url)), '../../test/unit/kv');
const load = async (name) => (await runnerImport(join(folder, name), { logLevel: 'error' })).module;
const { traceOf, factsOf } = await load('trace.ts');
const { compare, CAPACITIES, KINDS } = await load('trace-runs.ts');

const seed = Number(process.argv[2] ?? 1);
const trace = traceOf(seed);
console.log(JSON.stringify({ bench: 'kv/trace', seed, ...factsOf(trace) }));
for (const kind of KINDS)
  for (const capacity of CAPACITIES) {
    const { regions, production, reference, difference } = compare(trace, kind, capacity);
    const rounded = (value) => +value.toFixed(4);
    const written = (run) => rounded((run.writtenBytes + run.rewrittenBytes) / run.writtenBytes);
    console.log(
      JSON.stringify({
        kind,
        capacity,
        regions,
        hitRate: rounded(production.hitRate),
        referenceHitRate: rounded(reference.hitRate),
        difference: rounded(difference),
        writtenGB: rounded(production.writtenBytes / 1e9),
        writeAmplification: written(production),
        referenceWriteAmplification: written(reference),
      }),
    );
    if (Math.abs(difference) > 0.01) process.exitCode = 1;
  }
