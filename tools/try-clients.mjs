// Proves that grpcurl and ghz, as people install them, work against this server by reflection alone: starts `nandu serve`,
// lists, describes, streams and loads it, and fails if anything they print is not as it should be.
//   go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
//   go install github.com/bojand/ghz/cmd/ghz@v0.121.0
//   node tools/try-clients.mjs [--model FILE]

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const stream = 'nandu.v1.GenerationService/GenerateStream';

function check(holds, what) {
  if (!holds) throw new Error(`not so: ${what}`);
  console.log(`ok  ${what}`);
}

function client(name, args) {
  try {
    return execFileSync(name, args, {
      encoding: 'utf8',
      env: { ...process.env, PATH: `${process.env.PATH}:${goBin()}` },
    });
  } catch (error) {
    if (error.code === 'ENOENT') throw new Error(`${name} is not installed: see the first lines of this file`);
    throw error;
  }
}

function goBin() {
  try {
    return `${execFileSync('go', ['env', 'GOPATH'], { encoding: 'utf8' }).trim()}/bin`;
  } catch {
    return '';
  }
}

async function startServer(flags) {
  const server = spawn(
    process.execPath,
    ['bin/nandu.js', 'serve', '--listen', '127.0.0.1:0', '--kv-dir', 'none', ...flags],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let port = 0;
  for await (const line of createInterface({ input: server.stdout })) {
    const { msg, port: bound } = JSON.parse(line);
    if (msg === 'listening') port = bound;
    if (msg === 'serving') break;
  }
  server.stdout.resume();
  return { server, address: `127.0.0.1:${port}` };
}

function tryGrpcurl(address) {
  const grpcurl = (...args) => client('grpcurl', ['-plaintext', ...args]);
  const services = grpcurl(address, 'list').trim().split('\n');
  check(
    services.includes('nandu.v1.GenerationService') && services.includes('grpc.health.v1.Health'),
    'grpcurl lists the services',
  );
  const described = grpcurl(address, 'describe', 'nandu.v1.SamplingOptions');
  check(
    /optional float temperature = 1;/.test(described) && /map<uint32, float> logit_bias = 9;/.test(described),
    'grpcurl describes messages',
  );
  const request = {
    token_ids: { ids: [1, 2, 3] },
    stop: { max_tokens: 8, ignore_eos: true },
    stream: { progress_interval: '0.05s' },
  };
  const events = grpcurl('-d', JSON.stringify(request), address, stream);
  check(/"started"/.test(events) && tokensIn(events) === 8 && /"finished"/.test(events), 'grpcurl streams');
  check(
    /SERVING/.test(grpcurl('-d', '{"service":"live"}', address, 'grpc.health.v1.Health/Check')),
    'grpcurl asks for health',
  );
}

/** Sum of all token_count. */
function tokensIn(events) {
  return [...events.matchAll(/"tokenCount": (\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
}

function tryGhz(address) {
  const request = {
    token_ids: { ids: [1, 2, 3] },
    sampling: { temperature: 0 },
    stop: { max_tokens: 32, ignore_eos: true },
  };
  for (const call of [stream, 'nandu.v1.GenerationService/Generate']) {
    const load = ['-n', '200', '-c', '16', '-t', '60s', '--skipFirst', '16', '-O', 'json', '--duration-stop', 'wait'];
    const report = JSON.parse(
      client('ghz', ['--insecure', '--call', call, '-d', JSON.stringify(request), ...load, address]),
    );
    check(report.statusCodeDistribution.OK === 184, `ghz: 184 of 184 calls of ${call.split('/')[1]} are OK`);
    console.log(
      `    ${report.rps.toFixed(1)} calls/s, ${(report.rps * 32).toFixed(0)} tokens/s, average ${(report.average / 1e6).toFixed(0)} ms`,
    );
  }
}

const { server, address } = await startServer(process.argv.slice(2));
try {
  tryGrpcurl(address);
  tryGhz(address);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  server.kill('SIGTERM');
  const [code] = await once(server, 'exit');
  if (code !== 0) {
    console.error(`the server ended with ${code}`);
    process.exitCode = 1;
  }
}
