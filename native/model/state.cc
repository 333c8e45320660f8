#include "state.h"

#include <algorithm>

#include "../kernels/kernels.h"

namespace nandu {
namespace {

constexpr uint32_t kStateMagic = 0x4154534e;  // "NSTA"
constexpr uint32_t kStateVersion = 1;

struct StateHeader {
  uint32_t magic, version;
  uint64_t layout_digest;
  uint32_t length, reserved;
};

// Tokens of the 128-block that `position` lies in or starts.
constexpr uint32_t block_start(uint32_t position) {
  return position / kBlockTokens * kBlockTokens;
}

uint64_t mix(uint64_t digest, uint64_t value) {
  digest = (digest ^ value) * 0x9E3779B97F4A7C15ull;
  return digest ^ (digest >> 29);
}

}  // namespace

KvLayout::KvLayout(const Geometry& g, bool packed_rows)
    : packed(packed_rows),
      main_bytes(main_row_bytes(packed_rows, g.head_dim, g.rope_dim)),
      index_bytes(index_row_bytes(packed_rows, g.index_dim)),
      window(g.window),
      ring_rows(std::min(g.window, g.context) + kBlockTokens),
      block_bytes(0),
      private_bytes(0),
      block_payload_bytes(0),
      point_bytes(0),
      digest(mix(packed_rows, main_bytes)) {
  digest = mix(mix(mix(digest, index_bytes), window), g.head_dim);
  const auto take = [](size_t& total, size_t bytes) {
    const size_t at = total;
    total = align_up(total + bytes);
    return at;
  };
  const auto take_carry = [&](LayerKind kind, uint32_t dim) {
    Carry c{};
    c.width = Geometry::compressor_width(kind, dim);
    const size_t rows = kind == LayerKind::kCsa ? kCarryRows : kHcaRatio;
    c.k = take(private_bytes, rows * c.width * sizeof(float));
    c.s = take(private_bytes, rows * c.width * sizeof(float));
    if (kind != LayerKind::kCsa) return c;
    const size_t half = size_t{kCsaRatio} * (c.width / 2) * sizeof(float);
    c.boundary_k = take(private_bytes, half);
    c.boundary_s = take(private_bytes, half);
    point_bytes += 2 * half;
    return c;
  };
  for (LayerKind kind : g.kinds) {
    Layer l{};
    l.kind = kind;
    l.raw = take(private_bytes, size_t{ring_rows} * main_bytes);
    point_bytes += size_t{window - 1} * main_bytes;
    if (kind != LayerKind::kPlain) {
      const size_t rows = kBlockTokens / Geometry::ratio(kind);
      l.main = take(block_bytes, rows * main_bytes);
      block_payload_bytes += rows * main_bytes;
      l.carry = take_carry(kind, g.head_dim);
    }
    if (kind == LayerKind::kCsa) {
      const size_t rows = kBlockTokens / kCsaRatio;
      l.index = take(block_bytes, rows * index_bytes);
      block_payload_bytes += rows * index_bytes;
      l.index_carry = take_carry(kind, g.index_dim);
    }
    digest = mix(mix(digest, static_cast<uint64_t>(kind)), l.carry.width + (uint64_t{l.index_carry.width} << 32));
    layers.push_back(l);
  }
}

KvPool::KvPool(const KvLayout& layout, uint64_t max_slots)
    : layout_(layout), max_slots_(max_slots), rows_(new std::atomic<uint8_t*>[max_slots]()) {}

KvPool::~KvPool() {
  for (uint64_t i = 0; i < max_slots_; i++) std::free(rows_[i].load(std::memory_order_relaxed));
}

uint8_t* KvPool::slot(uint32_t number) {
  NANDU_CHECK(number < max_slots_);
  if (uint8_t* rows = rows_[number].load(std::memory_order_acquire)) return rows;
  std::lock_guard lock(allocation_);
  uint8_t* rows = rows_[number].load(std::memory_order_relaxed);
  if (rows) return rows;
  rows = static_cast<uint8_t*>(std::aligned_alloc(kAlignment, align_up(std::max<size_t>(1, layout_.block_bytes))));
  if (!rows) return nullptr;
  rows_[number].store(rows, std::memory_order_release);
  allocated_.fetch_add(1, std::memory_order_relaxed);
  return rows;
}

uint32_t KvPool::acquire() {
  if (used_ >= max_slots_) return kNoSlot;
  uint32_t number = next_;
  if (free_.empty()) {
    references_.resize(++next_);
  } else {
    number = free_.back();
    free_.pop_back();
  }
  if (!slot(number)) {
    free_.push_back(number);
    return kNoSlot;
  }
  references_[number] = 1;
  used_++;
  return number;
}

void KvPool::release(uint32_t number) {
  NANDU_CHECK(references_[number] > 0);
  if (--references_[number] > 0) return;
  used_--;
  free_.push_back(number);
}

uint64_t PointTable::add(std::shared_ptr<const Point> point) {
  std::lock_guard lock(mutex_);
  bytes_ += point->bytes.size();
  points_.emplace(next_, std::move(point));
  return next_++;
}

std::shared_ptr<const Point> PointTable::find(uint64_t handle) const {
  std::lock_guard lock(mutex_);
  const auto found = points_.find(handle);
  return found == points_.end() ? nullptr : found->second;
}

void PointTable::release(uint64_t handle) {
  std::lock_guard lock(mutex_);
  const auto found = points_.find(handle);
  if (found == points_.end()) return;
  bytes_ -= found->second->bytes.size();
  points_.erase(found);
}

uint64_t PointTable::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

SequenceState::SequenceState(KvPool& pool) : pool_(pool), layout_(pool.layout()), owns_slots_(true) {}
SequenceState::SequenceState(KvPool& pool, std::vector<uint32_t> slots)
    : pool_(pool), layout_(pool.layout()), owns_slots_(false), slots_(std::move(slots)) {}

SequenceState::~SequenceState() {
  if (owns_slots_)
    for (uint32_t number : slots_) pool_.release(number);
}

bool SequenceState::reserve(uint32_t tokens) {
  if (!private_.try_reserve(layout_.private_bytes)) return false;
  const size_t wanted = (size_t{length_} + tokens + kBlockTokens - 1) / kBlockTokens;
  while (owns_slots_ && slots_.size() < wanted) {
    const uint32_t number = pool_.acquire();
    if (number == KvPool::kNoSlot) return false;
    slots_.push_back(number);
  }
  if (slots_.size() < wanted) return false;
  while (rows_.size() < wanted) {
    uint8_t* rows = pool_.slot(slots_[rows_.size()]);
    if (!rows) return false;
    rows_.push_back(rows);
  }
  return true;
}

void SequenceState::advance(uint32_t tokens) {
  const uint32_t passed = block_start(length_ + tokens);
  if (passed > length_) boundary_ = passed;
  length_ += tokens;
}

std::unique_ptr<SequenceState> SequenceState::fork(const std::vector<uint32_t>& own) const {
  const size_t complete = length_ / kBlockTokens;
  std::unique_ptr<SequenceState> other;
  if (owns_slots_) {
    other = std::make_unique<SequenceState>(pool_);
    for (size_t b = 0; b < complete; b++) {
      pool_.add_reference(slots_[b]);
      other->slots_.push_back(slots_[b]);
    }
  } else {
    std::vector<uint32_t> slots(slots_.begin(), slots_.begin() + static_cast<ptrdiff_t>(complete));
    slots.insert(slots.end(), own.begin(), own.end());
    other = std::make_unique<SequenceState>(pool_, std::move(slots));
  }
  other->length_ = static_cast<uint32_t>(complete * kBlockTokens);
  if (!other->reserve(length_ % kBlockTokens)) return nullptr;
  if (length_ % kBlockTokens != 0) memcpy(other->rows_[complete], rows_[complete], layout_.block_bytes);
  memcpy(other->private_.data(), private_.data(), layout_.private_bytes);
  other->length_ = length_;
  other->boundary_ = boundary_;
  other->raw_from_ = raw_from_;
  other->frozen_ = frozen_;
  return other;
}

// Calls bytes(pointer, count) for every stretch that a continuation at `position` reads, in a fixed order: raw rows
// oldest first, compressed rows of tokens from `first_token` on, the A-half of the last complete CSA window, then the
// open windows. position: length_, or boundary_, whose CSA carry is the copy.
template <typename Visitor>
void SequenceState::visit(uint32_t position, uint32_t first_token, Visitor&& bytes) {
  const uint32_t n = position;
  const bool from_copy = n != length_;
  const uint32_t first_raw = n > layout_.window - 1 ? n - (layout_.window - 1) : 0;
  for (uint32_t layer = 0; layer < layout_.layers.size(); layer++) {
    const KvLayout::Layer& l = layout_.layers[layer];
    for (uint32_t p = first_raw; p < n; p++) bytes(raw_row(layer, p), size_t{layout_.main_bytes});
    if (l.kind == LayerKind::kPlain) continue;
    const uint32_t ratio = Geometry::ratio(l.kind), rows = n / ratio;
    for (uint32_t r = first_token / ratio; r < rows; r++) {
      bytes(main_row(layer, r), size_t{layout_.main_bytes});
      if (l.kind == LayerKind::kCsa) bytes(index_row(layer, r), size_t{layout_.index_bytes});
    }
    const uint32_t slots = l.kind == LayerKind::kCsa ? kCarryRows : kHcaRatio;
    const auto carry_rows = [&](const KvLayout::Carry& c) {
      const auto row = [&](size_t offset, size_t row_floats, uint32_t index, size_t floats) {
        bytes(reinterpret_cast<uint8_t*>(carry(offset) + index * row_floats), floats * sizeof(float));
      };
      for (int part = 0; part < 2; part++) {
        if (l.kind == LayerKind::kCsa && rows > 0)
          for (uint32_t i = 0; i < kCsaRatio; i++) {
            if (from_copy) row(part ? c.boundary_s : c.boundary_k, c.width / 2, i, c.width / 2);
            else row(part ? c.s : c.k, c.width, ((rows - 1) * ratio + i) % slots, c.width / 2);
          }
        for (uint32_t p = rows * ratio; p < n; p++) row(part ? c.s : c.k, c.width, p % slots, c.width);
      }
    };
    carry_rows(l.carry);
    if (l.kind == LayerKind::kCsa) carry_rows(l.index_carry);
  }
}

// Bytes that visit(n, first_token) covers; computed first, so that a claimed length allocates nothing.
static uint64_t state_bytes(const KvLayout& layout, uint64_t n, uint64_t first_token) {
  uint64_t bytes = 0;
  for (const KvLayout::Layer& l : layout.layers) {
    bytes += std::min<uint64_t>(n, layout.window - 1) * layout.main_bytes;
    if (l.kind == LayerKind::kPlain) continue;
    const uint64_t ratio = Geometry::ratio(l.kind), rows = n / ratio, width = l.carry.width + l.index_carry.width;
    bytes += (rows - first_token / ratio) * (layout.main_bytes + (l.kind == LayerKind::kCsa ? layout.index_bytes : 0));
    bytes += 2 * sizeof(float) * width * (n % ratio);
    if (l.kind == LayerKind::kCsa && rows > 0) bytes += 2 * sizeof(float) * (width / 2) * ratio;
  }
  return bytes;
}

std::shared_ptr<const Point> SequenceState::point(uint32_t position) const {
  auto point = std::make_shared<Point>();
  point->position = position;
  const uint32_t first_token = block_start(position);
  point->bytes.reserve(state_bytes(layout_, position, first_token));
  const_cast<SequenceState*>(this)->visit(
      position, first_token, [&](const uint8_t* p, size_t n) { point->bytes.insert(point->bytes.end(), p, p + n); });
  return point;
}

std::shared_ptr<const Point> SequenceState::point_at_boundary() const {
  NANDU_CHECK(boundary_ > 0);
  return point(boundary_);
}
std::shared_ptr<const Point> SequenceState::point_at_end() const {
  return point(length_);
}

bool SequenceState::resume(const Point& point) {
  NANDU_CHECK(length_ == 0);
  const uint32_t first_token = block_start(point.position);
  if (point.bytes.size() != state_bytes(layout_, point.position, first_token) || !reserve(point.position)) return false;
  length_ = point.position;
  size_t at = 0;
  visit(length_, first_token, [&](uint8_t* p, size_t n) {
    memcpy(p, &point.bytes[at], n);
    at += n;
  });
  return true;
}

bool SequenceState::replay(uint32_t position, uint32_t frozen) {
  NANDU_CHECK(length_ == 0 && position % kBlockTokens == 0 && frozen % kBlockTokens == 0 && position <= frozen);
  if (!reserve(frozen)) return false;
  length_ = raw_from_ = position;
  frozen_ = frozen;
  return true;
}

std::vector<uint8_t> SequenceState::export_bytes() const {
  const StateHeader header{kStateMagic, kStateVersion, layout_.digest, length_, 0};
  std::vector<uint8_t> out(reinterpret_cast<const uint8_t*>(&header), reinterpret_cast<const uint8_t*>(&header + 1));
  out.reserve(sizeof header + state_bytes(layout_, length_, 0));
  const_cast<SequenceState*>(this)->visit(length_, 0,
                                          [&](const uint8_t* p, size_t n) { out.insert(out.end(), p, p + n); });
  return out;
}

Status SequenceState::import_bytes(const uint8_t* data, size_t size, bool poison) {
  NANDU_CHECK(length_ == 0 && slots_.empty());
  StateHeader header;
  if (size < sizeof header) return error(Code::kInvalidArgument, "state: %zu bytes are shorter than its header", size);
  memcpy(&header, data, sizeof header);
  if (header.magic != kStateMagic || header.version != kStateVersion)
    return error(Code::kInvalidArgument, "state: not an exported sequence of version %u", kStateVersion);
  if (header.layout_digest != layout_.digest)
    return error(Code::kInvalidArgument, "state: exported from another model geometry or numeric mode");
  if (size - sizeof header != state_bytes(layout_, header.length, 0))
    return error(Code::kInvalidArgument, "state: %zu bytes do not match %u tokens", size, header.length);
  if (!reserve(header.length))
    return error(Code::kNoMemory, "state: %u tokens do not fit the KV budget", header.length);
  if (poison) {
    memset(private_.data(), 0xff, layout_.private_bytes);
    for (uint8_t* rows : rows_) memset(rows, 0xff, layout_.block_bytes);
  }
  length_ = header.length;
  size_t at = sizeof header;
  visit(length_, 0, [&](uint8_t* p, size_t n) {
    memcpy(p, data + at, n);
    at += n;
  });
  NANDU_CHECK(at == size);
  return ok();
}

}  // namespace nandu
