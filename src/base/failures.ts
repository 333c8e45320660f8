// Every way a request can be refused or fail, in one table: reason -> gRPC status, retryable or not.
// Reasons are API (proto/nandu/v1/common.proto); docs/failures.md is generated from this table.

/** Numeric gRPC status codes (google.rpc.Code); kept here so that nothing but api/ imports grpc-js. */
export const StatusCode = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

interface Rule {
  readonly code: number;
  /** Retryable failures carry RetryInfo. */
  readonly retry: boolean;
  readonly meaning: string;
}

export const FAILURES = {
  INVALID_FIELD: {
    code: StatusCode.INVALID_ARGUMENT,
    retry: false,
    meaning: 'a field has a value that is not allowed',
  },
  UNSUPPORTED_FIELD: {
    code: StatusCode.INVALID_ARGUMENT,
    retry: false,
    meaning: 'a field is set that this server cannot honour',
  },
  CONTEXT_LENGTH_EXCEEDED: {
    code: StatusCode.INVALID_ARGUMENT,
    retry: false,
    meaning: 'the prompt does not fit the context',
  },
  MODEL_NOT_FOUND: { code: StatusCode.NOT_FOUND, retry: false, meaning: 'no model of that name is served' },
  PREFIX_NOT_FOUND: { code: StatusCode.NOT_FOUND, retry: false, meaning: 'nothing is stored under this prefix_id' },
  NO_TOKENIZER: {
    code: StatusCode.FAILED_PRECONDITION,
    retry: false,
    meaning: 'the model file holds no vocabulary: token ids only',
  },
  REQUEST_ID_IN_USE: {
    code: StatusCode.ALREADY_EXISTS,
    retry: false,
    meaning: 'a running request has this request_id',
  },
  QUEUE_FULL: { code: StatusCode.RESOURCE_EXHAUSTED, retry: true, meaning: 'the waiting queue is full' },
  MEMORY_EXHAUSTED: {
    code: StatusCode.RESOURCE_EXHAUSTED,
    retry: true,
    meaning: 'there was no memory for the rows of this request',
  },
  DEADLINE_UNREACHABLE: {
    code: StatusCode.DEADLINE_EXCEEDED,
    retry: false,
    meaning: 'the deadline has passed before any work',
  },
  MODEL_LOADING: { code: StatusCode.UNAVAILABLE, retry: true, meaning: 'the model is still loading' },
  DRAINING: { code: StatusCode.UNAVAILABLE, retry: true, meaning: 'the server is shutting down' },
  CACHE_UNAVAILABLE: {
    code: StatusCode.UNAVAILABLE,
    retry: true,
    meaning: 'the disk of the cache cannot be written now; a purge is in force, and durable once it can',
  },
  CANCELLED_BY_CALLER: { code: StatusCode.CANCELLED, retry: false, meaning: 'CancelGeneration named this request' },
  CANCELLED_BY_OPERATOR: { code: StatusCode.ABORTED, retry: false, meaning: 'an operator cancelled this request' },
  FEATURE_DISABLED: { code: StatusCode.UNIMPLEMENTED, retry: false, meaning: 'this server does not have the RPC yet' },
  ENGINE_FAILURE: {
    code: StatusCode.INTERNAL,
    retry: false,
    meaning: 'the engine failed while it computed this request',
  },
} as const satisfies Record<string, Rule>;

export type FailureReason = keyof typeof FAILURES;

export interface FieldViolation {
  /** Proto path: snake_case, dotted, [i] from 0, map keys in brackets. */
  readonly field: string;
  readonly description: string;
}

export interface FailureFacts {
  /** ErrorInfo.metadata. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  /** RetryInfo; default 1 s where the reason is retryable. */
  readonly retryAfterMs?: number;
  /** ResourceInfo. */
  readonly resource?: { readonly type: string; readonly name: string };
}

/** An expected failure of a request: reason for programs, message for people. Never holds prompt text. */
export class Failure extends Error {
  constructor(
    readonly reason: FailureReason,
    message: string,
    readonly facts: FailureFacts = {},
  ) {
    super(message);
    this.name = 'Failure';
  }
}
