// The bytes that cross between TypeScript and native: little-endian, no padding that is not named, sizes asserted.
// src/addon/layout.ts is generated from this file by tools/gen-layout.mjs; a test compares both sides.
//
// submit(plan)  TypeScript -> native   PlanHeader, PlanEntry[num_entries], SequenceDefinition[num_definitions] (with
// tails) drain(into)   native -> TypeScript   ReportHeader + payload, repeated
//
// A plan says the whole: it replaces the standing one. Native repeats it step after step until the next plan: each step
// runs one row for every sequence that decodes and fills the rest of `step_tokens` with prefill chunks, in entry order.
// A sequence that is in native and not in the plan is released (kReleased reports it; also one whose plan was
// superseded before it came into force). Slots are the plan maker's to hand out: a slot that two sequences name holds a
// complete block that neither writes. A definition is sent once, in the first plan that names its sequence; a
// repeated one is ignored.
#pragma once

#include <stdint.h>

namespace nandu::abi {

inline constexpr uint32_t kPlanMagic = 0x4e4c504e;  // "NPLN"
inline constexpr uint32_t kNone = 0xffffffff;       // "no limit", "no token"

struct PlanHeader {
  uint32_t magic;
  uint32_t step_tokens;  // most rows of one step; at least 1
  uint64_t plan;         // the caller's number, repeated in Stats
  uint32_t num_entries;
  uint32_t num_definitions;
};
static_assert(sizeof(PlanHeader) == 24);

struct PlanEntry {
  uint64_t sequence;   // stands for the sequence and all its choices
  uint32_t flags;      // kEntryPaused
  uint32_t max_chunk;  // most prompt rows of it in one step; 0: no limit
  uint32_t point;  // one more position (multiple of 128) whose point is to be taken, if it still lies ahead; 0: none
  uint32_t reserved;
};
static_assert(sizeof(PlanEntry) == 24);
inline constexpr uint32_t kEntryPaused = 1;

// Tails, in this order, each padded to 8 bytes:
//   uint32 prompt[num_prompt_tokens]   with the answer so far at its end, when the sequence ran before
//   {uint32 token, float bias}[num_logit_bias]
//   uint32 stop_tokens[num_stop_tokens]
//   uint32 stop_lengths[num_stop_strings]
//   the stop strings' bytes back to back (stop_bytes)
//   uint32 points[num_points]     positions (ascending multiples of 128) whose points are to be taken when they are
//   passed uint32 slots[num_slots]       where its blocks lie, first block first: those of choice 0 up to its possible
//   end, then for
//                                 each further choice those behind the whole blocks of the prompt
//
// A sequence starts at `start_tokens`: with start_point, the rows before it are in their slots; without one it is 0, or
// a multiple of 128 from which windows are made again up to frozen_tokens, the end of the rows that are in place.
struct SequenceDefinition {
  uint64_t sequence;
  uint64_t seed;
  uint32_t total_bytes;  // of this struct and its tails
  uint32_t num_choices;  // 1..8: they share the prompt
  uint32_t num_prompt_tokens;
  uint32_t max_tokens;  // 0: the prompt only
  uint32_t min_tokens;
  uint32_t context_tokens;  // prompt and output together end here
  uint32_t flags;           // SequenceFlags
  uint32_t top_logprobs;
  uint32_t top_k;     // 0: off
  float temperature;  // 0: greedy
  float top_p;        // 1: off
  float min_p;        // 0: off
  float presence_penalty;
  float frequency_penalty;
  float repetition_penalty;       // 1: off
  uint32_t max_reasoning_tokens;  // kNone: no limit
  uint32_t reasoning_end_token;   // token that closes reasoning; kNone: the model does not reason
  uint32_t eos_token;             // kNone: the model has none
  uint32_t num_logit_bias;
  uint32_t num_stop_tokens;
  uint32_t num_stop_strings;
  uint32_t stop_bytes;
  uint32_t num_points;
  uint32_t num_slots;
  uint64_t start_point;  // handle of a point in RAM; 0: none
  uint32_t start_tokens;
  uint32_t frozen_tokens;
  uint32_t num_generated;  // the last tokens of the prompt, which this sequence generated before it left an earlier
                           // plan: limits, penalties, draws and stop strings go on as if it had stayed. One choice only
  uint32_t reserved;
};
static_assert(sizeof(SequenceDefinition) == 136);

inline constexpr uint32_t kFlagLogprobs = 1;
inline constexpr uint32_t kFlagIgnoreEos = 2;
inline constexpr uint32_t kFlagStartsInReasoning = 4;
// Points are also taken where a choice ends (at the last multiple of 128 that it passed, and at its exact end), and at
// the former when the sequence leaves the plan before its end.
inline constexpr uint32_t kFlagKeepEnds = 8;

struct ReportHeader {
  uint16_t kind;    // ReportKind
  uint16_t choice;  // of the sequence
  uint32_t bytes;   // of header and payload, a multiple of 8
  uint64_t sequence;
};
static_assert(sizeof(ReportHeader) == 16);

enum ReportKind : uint16_t {
  kReportTokens = 1,    // TokensPayload
  kReportProgress = 2,  // ProgressPayload; only the newest of a sequence is kept
  kReportEnded = 3,     // EndedPayload: this choice is over
  kReportFailed = 4,    // FailedPayload: the whole sequence is over
  kReportReleased = 5,  // no payload: the sequence's memory is free; nothing more comes of it
  kReportPoint = 6,     // PointPayload: comes before the end of its choice, and before the release
};

// Followed by num_tokens times: TokenRecord, then TopRecord[num_top].
struct TokensPayload {
  uint32_t num_tokens;
  uint32_t reserved;
};
struct TokenRecord {
  uint32_t token;
  float logprob;  // 0 when log-probabilities were not asked for
  uint32_t num_top;
  uint32_t in_reasoning;  // 1: the token belongs to the reasoning (its closing token included)
};
struct TopRecord {
  uint32_t token;
  float logprob;
};
static_assert(sizeof(TokensPayload) == 8 && sizeof(TokenRecord) == 16 && sizeof(TopRecord) == 8);

struct ProgressPayload {
  uint32_t prompt_done;
  uint32_t prompt_total;
};

struct PointPayload {
  uint64_t point;     // handle, the receiver's to release
  uint32_t position;  // tokens before it
  uint32_t bytes;
};
static_assert(sizeof(PointPayload) == 16);

enum EndReason : uint32_t {
  kEndEos = 1,         // value: the token
  kEndStopToken = 2,   // value: the token
  kEndStopString = 3,  // value: index of the stop string
  kEndLength = 4,      // max_tokens
  kEndContext = 5,     // context_tokens
};
struct EndedPayload {
  uint32_t reason;  // EndReason
  uint32_t value;
  uint32_t completion_tokens;
  uint32_t reasoning_tokens;
};

// Followed by message_bytes of UTF-8, padded to 8.
struct FailedPayload {
  int32_t code;  // nandu::Code
  uint32_t message_bytes;
};
static_assert(sizeof(ProgressPayload) == 8 && sizeof(EndedPayload) == 16 && sizeof(FailedPayload) == 8);

// Counters since open; read at any time.
struct Stats {
  uint64_t plan;  // newest plan in force
  uint64_t steps;
  uint64_t prefill_tokens;
  uint64_t decode_tokens;
  uint64_t prefill_ns;      // inside steps, the share of prompt rows among all rows of each
  uint64_t sequences;       // alive in native, choices not counted
  uint64_t kv_blocks_used;  // slots of 128 tokens that have memory
  uint64_t kv_blocks_limit;
  uint64_t kv_block_bytes;
  uint64_t private_bytes;  // rings and carries of living sequences
  uint64_t point_bytes;    // points in RAM
  uint64_t paths[8];       // KernelPath counts
};
static_assert(sizeof(Stats) == 152);

}  // namespace nandu::abi
