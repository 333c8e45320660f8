// The habits a formatter cannot check. Exits 1 with one line a finding.
//   node tools/tidy.mjs [--format]     --format rewrites C++ by clang-format instead of complaining
//
// 1. A folder imports only what its layer may (docs/architecture.md).
// 2. A kernel target's object exports its table and nothing else: a weak symbol compiled for AVX-512 could become
//    everybody's copy and crash older machines.
// 3. Files stay readable: no comment over 130 columns, no file over 700 lines without its reason below.
// 4. Nothing that .gitignore names is tracked: a build would take yesterday's objects for today's.
// 5. C++ is formatted (skipped with a note where clang-format is missing).
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const findings = [];

function files(folder, pattern) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => join(relative(root, entry.parentPath ?? entry.path), entry.name));
}

// What each folder of src/ may import besides itself and packages. cli/ wires everything together.
const MAY_IMPORT = {
  base: [],
  text: ['base'],
  kv: ['base'],
  engine: ['base', 'kv'],
  addon: ['base', 'engine', 'kv'],
  api: ['base', 'engine', 'kv', 'text'],
  cli: ['base', 'engine', 'kv', 'text', 'addon', 'api', ''],
  '': ['base'],
};

const folderOf = (path) => {
  const parts = path.split(sep);
  return parts.length > 2 ? parts[1] : '';
};
for (const file of files('src', /\.ts$/)) {
  for (const [, target] of readFileSync(join(root, file), 'utf8').matchAll(/(?:from|import)\s+'(\.[^']+)'/g)) {
    const folder = folderOf(relative(root, join(root, dirname(file), target)));
    const own = folderOf(file);
    if (folder !== own && !MAY_IMPORT[own]?.includes(folder)) findings.push(`${file}: may not import ${target}`);
  }
}

// Which folders of native/ a folder may include besides itself.
const MAY_INCLUDE = {
  base: [],
  abi: [],
  quant: ['base'],
  kernels: ['base', 'quant'],
  parallel: ['base', 'kernels'],
  load: ['base', 'quant'],
  synth: ['base', 'quant', 'load'],
  model: ['base', 'quant', 'kernels', 'parallel', 'load'],
  io: ['base'],
  store: ['base', 'io'],
  engine: ['base', 'abi', 'kernels', 'model', 'load', 'parallel', 'store', 'io'],
  binding: ['base', 'engine', 'model', 'synth', 'abi', 'load', 'store', 'io'],
};
for (const file of files('native', /\.(cc|h)$/)) {
  const own = folderOf(file);
  for (const [, target] of readFileSync(join(root, file), 'utf8').matchAll(/#include "(\.\.?\/[^"]+)"/g)) {
    const folder = folderOf(relative(root, join(root, dirname(file), target)));
    if (folder !== own && !MAY_INCLUDE[own]?.includes(folder)) findings.push(`${file}: may not include ${target}`);
  }
}

const objects = 'build/Release/obj.target';
if (existsSync(join(root, objects))) {
  for (const target of readdirSync(join(root, objects)).filter((name) => /^kernels_[a-z0-9]+$/.test(name))) {
    for (const object of files(join(objects, target), /\.o$/)) {
      const symbols = spawnSync('nm', ['--defined-only', '--extern-only', '-C', join(root, object)], {
        encoding: 'utf8',
      })
        .stdout.split('\n')
        .filter((line) => line.trim() !== '');
      const extra = symbols.filter((line) => !line.endsWith(` nandu::${target}`));
      for (const line of extra) findings.push(`${object}: exports ${line.trim()}; only nandu::${target} may be`);
      if (symbols.length === 0) findings.push(`${object}: does not export nandu::${target}`);
    }
  }
}

// Longer than 700 lines, and why one file is still right.
const LONG = new Map([]);
const sources = [
  ...files('native', /\.(cc|h)$/),
  ...files('test', /\.(cc|h|ts)$/),
  ...files('src', /\.ts$/).filter((file) => !file.startsWith('src/api/gen')),
  ...files('tools', /\.(mjs|ts)$/),
  ...files('bench', /\.(cc|ts|mjs)$/),
];
const kData = /iq_grids\.h$|unicode-tables\.ts$/;
for (const file of sources) {
  const lines = readFileSync(join(root, file), 'utf8').split('\n');
  if (lines.length > 700 && !LONG.has(file) && !kData.test(file))
    findings.push(`${file}: ${lines.length} lines; split it`);
  lines.forEach((line, i) => {
    // Code is the formatters' business; they leave comments alone.
    if (line.length > 130 && /^\s*(\/\/|\*)/.test(line)) findings.push(`${file}:${i + 1}: ${line.length} columns`);
  });
}

const tracked = spawnSync('git', ['ls-files', '--cached', '--ignored', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
});
for (const file of (tracked.stdout ?? '').split('\n').filter(Boolean)) findings.push(`${file}: ignored, and tracked`);

const cpp = sources.filter((file) => /\.(cc|h)$/.test(file) && statSync(join(root, file)).size > 0);
if (spawnSync('clang-format', ['--version']).status === 0) {
  const args = process.argv.includes('--format') ? ['-i'] : ['--dry-run', '-Werror'];
  const run = spawnSync('clang-format', [...args, ...cpp], { cwd: root, encoding: 'utf8' });
  const unformatted = new Set(
    run.stderr.split('\n').flatMap((line) => /^([^:]+):\d+:\d+: error/.exec(line)?.[1] ?? []),
  );
  for (const file of unformatted) findings.push(`${file}: not formatted; run npm run format`);
} else {
  console.error('tidy: clang-format is not installed; the formatting of C++ was not checked');
}

for (const line of findings) console.error(line);
if (findings.length > 0) console.error(`tidy: ${findings.length} findings`);
process.exit(findings.length > 0 ? 1 : 0);
