// Reading: pieces of a record in parallel, checked and handed on front first. Nothing reaches a sink before the header
// was compared with the reference and the chunk's checksum with the header.
#include <algorithm>
#include <cstring>

#include "checksum.h"
#include "store_impl.h"

namespace nandu {
namespace {

// Pieces of one read that are on the way or wait for an earlier one: the engine's window, so that one read alone keeps
// the device busy.
constexpr size_t kReadAhead = 8;

uint32_t piece_of(uint64_t chunk) {
  return chunk < kFirstPieceChunks ? 0 : static_cast<uint32_t>(1 + (chunk - kFirstPieceChunks) / kPieceChunks);
}

bool ascending(const std::vector<ByteRange>& ranges, uint64_t end) {
  uint64_t at = 0;
  for (const ByteRange& r : ranges) {
    if (r.bytes == 0 || r.offset < at || r.offset > end || r.bytes > end - r.offset) return false;
    at = r.offset + r.bytes;
  }
  return true;
}

}  // namespace

void StoreImpl::start_read(const std::shared_ptr<Read>& read) {
  read->group = next_group_++, read->order = next_order_++;
  const auto it = table_.find(read->id);
  const bool found = it != table_.end() && (read->then || !checked(kCheckKey) || it->second.key == read->reference.key);
  if (!found || !ascending(read->ranges, it->second.payload_bytes)) {
    read->ended = true;
    StoreEvent event{StoreEvent::kRead, read->ticket, StoreStatus::kNotFound};
    if (found) event.text = "ranges are not ascending inside the payload";
    emit(std::move(event));
    return;
  }
  read->reference = it->second;
  plan_pieces(*read);
  regions_[read->reference.place.region].pins++;
  const auto later = [](const std::shared_ptr<Read>& a, const std::shared_ptr<Read>& b) {
    return a->priority != b->priority ? a->priority < b->priority : a->order < b->order;
  };
  reads_.insert(std::upper_bound(reads_.begin(), reads_.end(), read, later), read);
}

// The header always, and in each piece the chunks from the first that is wanted to the last.
void StoreImpl::plan_pieces(Read& read) const {
  read.pieces.push_back({0, 0});
  uint32_t last_piece = 0;
  for (const ByteRange& r : read.ranges) {
    const uint64_t end = (r.offset + r.bytes - 1) / kChunkBytes + 1;
    for (uint64_t chunk = r.offset / kChunkBytes; chunk < end;) {
      const uint32_t piece = piece_of(chunk);
      const uint64_t piece_end = kFirstPieceChunks + uint64_t{piece} * kPieceChunks;
      if (piece != last_piece) read.pieces.push_back({static_cast<uint32_t>(chunk), 0});
      last_piece = piece;
      const uint64_t until = std::min(end, piece_end);
      read.pieces.back().num_chunks = static_cast<uint32_t>(until - read.pieces.back().first_chunk);
      chunk = until;
    }
  }
}

void StoreImpl::pump_reads() {
  reads_.erase(std::remove_if(reads_.begin(), reads_.end(), [](const auto& r) { return r->ended; }), reads_.end());
  for (const auto& read : reads_)
    while (read->next_issue < read->pieces.size() && read->next_issue - read->next_deliver < kReadAhead)
      if (!issue_piece(read)) return;
}

bool StoreImpl::issue_piece(const std::shared_ptr<Read>& read) {
  const Bounce buffer = read_buffers_.take();
  if (!buffer) return false;
  const size_t index = read->next_issue++;
  const Read::Piece& piece = read->pieces[index];
  const Reference& ref = read->reference;
  const uint64_t from = uint64_t{piece.first_chunk} * kChunkBytes;
  const uint64_t padded = round_up(ref.payload_bytes, kPageBytes);
  uint64_t bytes = std::min<uint64_t>(uint64_t{piece.num_chunks} * kChunkBytes, padded - from);
  uint64_t at = record_offset(ref.place);
  if (index == 0) {
    bytes += ref.header_bytes;
  } else {
    at += ref.header_bytes + from;
  }
  const uint32_t region = ref.place.region;
  regions_[region].pins++;
  stats_.bytes_read += bytes;
  transfer(IoOp::kRead, read->priority, directory_.data_file, at, buffer.get(), static_cast<uint32_t>(bytes),
           read->group, [this, read, index, buffer, region](int32_t result) {
             unpin(region);
             piece_arrived(read, index, buffer, result);
           });
  return true;
}

void StoreImpl::piece_arrived(const std::shared_ptr<Read>& read, size_t index, Bounce buffer, int32_t result) {
  if (read->ended) return;
  // What was cut off from outside does not come back, as it may from a device that fails.
  if (result != 0 && is_cut_off(read->reference)) return end_corrupt(*read);
  if (result != 0) return end_read(*read, StoreStatus::kIoError);
  read->pieces[index].buffer = std::move(buffer);
  read->pieces[index].arrived = true;
  while (read->next_deliver < read->pieces.size() && read->pieces[read->next_deliver].arrived) {
    Read::Piece& piece = read->pieces[read->next_deliver];
    if (!deliver(*read, piece)) return end_corrupt(*read);
    piece.buffer.reset();
    read->next_deliver++;
  }
  if (read->next_deliver == read->pieces.size()) end_read(*read, StoreStatus::kOk);
}

bool StoreImpl::is_cut_off(const Reference& ref) const {
  return io_->file_bytes(directory_.data_file) <
         record_offset(ref.place) + stored_bytes(ref.header_bytes, ref.payload_bytes);
}

void StoreImpl::end_corrupt(Read& read) {
  const auto it = table_.find(read.id);
  if (it != table_.end() && it->second.place == read.reference.place) {
    stats_.quarantined++;
    forget(read.id);
  }
  end_read(read, StoreStatus::kCorrupt);
}

// False: something is not what the reference says.
bool StoreImpl::deliver(Read& read, Read::Piece& piece) {
  const Reference& ref = read.reference;
  const uint8_t* payload = piece.buffer.get();
  if (&piece == &read.pieces[0]) {
    if (parse_record_header(payload, ref.header_bytes, directory_.store, ref.place, directory_.region_bytes,
                            read.found) != HeaderCheck::kOk)
      return false;
    const Reference& there = read.found.reference;
    if (checked(kCheckDigest) && there.digest != ref.digest) return false;
    if (checked(kCheckKey) && there.key != ref.key) return false;
    if (checked(kCheckPlace) && read.found.info.id != read.id) return false;
    if (read.found.dead || there.header_bytes != ref.header_bytes || there.payload_bytes != ref.payload_bytes)
      return false;
    payload += ref.header_bytes;
  }
  const uint64_t from = uint64_t{piece.first_chunk} * kChunkBytes;
  const uint64_t padded = round_up(ref.payload_bytes, kPageBytes);
  for (uint32_t i = 0; checked(kCheckPayloadCrc) && i < piece.num_chunks; i++) {
    const uint64_t at = uint64_t{i} * kChunkBytes;
    const uint64_t bytes = std::min<uint64_t>(kChunkBytes, padded - from - at);
    if (crc32c(payload + at, bytes) != read.found.chunks[piece.first_chunk + i]) return false;
  }
  const uint64_t until = std::min(ref.payload_bytes, from + uint64_t{piece.num_chunks} * kChunkBytes);
  for (; read.next_range < read.ranges.size(); read.next_range++) {
    const ByteRange& r = read.ranges[read.next_range];
    const uint64_t begin = std::max(r.offset, from), end = std::min(r.offset + r.bytes, until);
    if (begin < end) {
      read.sink->take(begin, payload + (begin - from), end - begin);
      read.delivered += end - begin;
    }
    if (r.offset + r.bytes > until) break;  // goes on in the next piece
  }
  return true;
}

void StoreImpl::end_read(Read& read, StoreStatus status) {
  if (read.ended) return;
  read.ended = true;
  read.sink.reset();
  for (Read::Piece& piece : read.pieces) piece.buffer.reset();
  unpin(read.reference.place.region);
  io_->cancel(read.group);
  if (read.then) {
    // Not from inside the walk over the reads that brought us here.
    post([then = std::move(read.then), status, found = std::move(read.found)] { then(status, found); });
  } else {
    answer(StoreEvent::kRead, read.ticket, status, read.delivered);
  }
}

}  // namespace nandu
