// Makes docs/failures.md from the table in src/base/failures.ts, which must be built.
//   node tools/gen-failures.mjs

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const DETAILS = {
  INVALID_FIELD: 'BadRequest',
  UNSUPPORTED_FIELD: 'BadRequest',
  CONTEXT_LENGTH_EXCEEDED: 'BadRequest; metadata `prompt_tokens`, `context_length`',
  MODEL_NOT_FOUND: 'ResourceInfo',
  PREFIX_NOT_FOUND: 'ResourceInfo',
  REQUEST_ID_IN_USE: 'ResourceInfo',
  QUEUE_FULL: 'metadata `queue_depth`, `expected_wait_ms`',
  DEADLINE_UNREACHABLE: 'metadata `estimated_ms`, `deadline_ms`',
  MODEL_LOADING: 'metadata `progress` (0 to 1)',
  CANCELLED_BY_CALLER: 'metadata `request_id`',
  CANCELLED_BY_OPERATOR: 'metadata `request_id`',
  FEATURE_DISABLED: 'metadata `feature`',
  ENGINE_FAILURE: 'RequestInfo',
};

/** The page, from the two tables of src/base/failures.ts. */
export function failuresPage(failures, statusCode) {
  const codeNames = Object.fromEntries(Object.entries(statusCode).map(([name, code]) => [code, name]));
  const rows = Object.entries(failures).map(([reason, { code, retry, meaning }]) => {
    const details = [retry ? 'RetryInfo' : '', DETAILS[reason] ?? ''].filter((part) => part !== '').join('; ');
    return `| \`${reason}\` | ${codeNames[code]} | ${retry ? 'yes' : 'no'} | ${meaning} | ${details} |`;
  });
  return `# Failures

<!-- Made by tools/gen-failures.mjs from src/base/failures.ts. Do not edit. -->

Every failure is a gRPC status whose \`grpc-status-details-bin\` trailer holds a google.rpc.Status: always an ErrorInfo with the domain
\`nandu\` and one of these reasons, and what the last column names. The reasons are API. A retryable failure says in RetryInfo when to come back.
A list of bad fields that would not fit into a trailer is cut, and ErrorInfo's metadata then holds \`violations_total\`.

| reason | status | retry | meaning | further details |
|---|---|---|---|---|
${rows.join('\n')}

Raised below nandu, and so without details: a message above 64 MiB (RESOURCE_EXHAUSTED), bytes that are no message of the method's type (INTERNAL),
a method that the contract does not have (UNIMPLEMENTED), a deadline that passes (DEADLINE_EXCEEDED), a call that its client drops (CANCELLED).
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { FAILURES, StatusCode } = await import('../dist/base/failures.js');
  writeFileSync(fileURLToPath(new URL('../docs/failures.md', import.meta.url)), failuresPage(FAILURES, StatusCode));
}
