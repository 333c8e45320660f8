// What crosses between TypeScript and the KV store: little-endian, no padding that is not named, sizes asserted.
// src/addon/layout.ts is generated from this file and engine.h by tools/gen-layout.mjs.
#pragma once

#include <stdint.h>

namespace nandu::abi {

// A record, as native/store/store.h describes it; num_blocks hashes of 32 bytes follow.
struct StoredRecord {
  uint64_t id;
  uint64_t created_ms;
  uint64_t payload_bytes;
  uint64_t stored_bytes;
  uint32_t kind;  // nandu::RecordKind
  uint32_t from_token;
  uint32_t to_token;
  uint32_t region;
  uint32_t num_blocks;
  uint32_t reserved;
  uint8_t key[32];
  uint8_t parent[32];
  uint8_t plain[32];
  uint8_t identity[16];
  uint8_t scope[16];
};
static_assert(sizeof(StoredRecord) == 184);

// An event: nandu::StoreEvent in bytes. A StoredRecord with its hashes follows where has_record is 1, then text_bytes
// of UTF-8, padded to 8.
struct StoreEventHeader {
  uint32_t kind;   // nandu::StoreEvent::Kind
  uint32_t bytes;  // of header and all that follows, a multiple of 8
  uint64_t ticket;
  uint64_t number;
  uint64_t point;  // handle of a point that was read; 0: none
  uint32_t status;
  uint32_t has_record;
  uint32_t text_bytes;
  uint32_t reserved;
};
static_assert(sizeof(StoreEventHeader) == 48);

}  // namespace nandu::abi
