// P on int8 tiles: what AMX computes for many activations, in the verbs of tiles.h. The same formula as every other
// path (docs/arithmetic.md, D2 and D3), so the same bits: tiles add integers, which are exact in any order, and each
// unit then takes its one float step, chain by chain.
//
// Activations are the left operand and are read where they lie, if they lie at equal distances; else they are copied
// first. Weights are unpacked into right operands, 16 rows to a tile (tile_records.h).
//
// The includer brings, for its set's prepared activations and vectors:
//
//   PanelRows                             const uint8_t* row[16]
//   unpack_tiles32<type>(rows, at, to)    one block of 16 rows to a record, as Record32 says
//   unpack_tiles256<type>(rows, at, to)   one superblock, as Record256 says
//   TileAct32, TileAct256                 where an activation of k values keeps its codes, scales and sums
//   dot_words(sum, a, b)                  sum + the dots of pairs of int16
#pragma once

#include "tile_records.h"
#include "tiles.h"

namespace nandu::NANDU_TARGET {

// Weights of the next panel, asked for in one stream while these are worked on: 16 rows side by side are too many for
// the hardware prefetcher. Nothing is read, so the end may lie behind the weights.
struct NextPanel {
  const uint8_t *at, *end;
  uint32_t lines;  // a step
  inline void step() {
    for (uint32_t i = 0; i < lines; i++) __builtin_prefetch(at + 64 * i, 0, 2);
    at = at + 64 * lines < end ? at + 64 * lines : end;
  }
};

// The left operands of 16 activations: unit u of a chain's is at first + u * step, rows `stride` apart.
struct TileActs {
  const uint8_t* first;
  size_t step, stride;
};

// --- blocks of 32 ---

// 1.5 * 2^23: a float of this size counts in whole numbers. Sums that begin with its bits are, read as floats, it plus
// the sum: |sum| <= 32 * 128 * 127 is below 2^22.
alignas(64) static constexpr uint32_t kSumsBegin[16] = {
    0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000,
    0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000};
static constexpr float kSumsBeginValue = 0x1.8p23f;

// Of how many operations a float step consists decides this kernel: while tiles are at work an Intel core has one port
// for vectors of 512 bits and not two. So conversion and product are one FMA where that is exact:
//
//   fma(1.5 * 2^23 + isum, s_w, -(1.5 * 2^23 * s_w)) = RN(isum * s_w)
//
// A scale has 11 bits at most, so what is taken away is exact unless it overflows. Where the product is 0 the sign of v
// may differ, which shows only in a chain that is -0: it begins as +0, and rounds to -0 only from a product below
// 2^-149.
enum class Step32 { kFused, kPlain, kMin };

// What kFused wants of a panel's scales; s_a is 0 or at least 2^-108 (MXFP4's is halved).
template <TensorType kType, class Act>
static inline bool can_fuse(const Act& act, const uint8_t* panel) {
  I32x16 low = splat_int(0x7fffffff), high = splat_int(0);
  for (uint32_t u = 0; u < act.units; u++) {
    const uint8_t* const scales = panel + act.place(u) * Record32::bytes(false) + Record32::kScale;
    const I32x16 magnitude = bit_and(load_int(reinterpret_cast<const uint32_t*>(scales)), splat_int(0x7fffffff));
    low = min_int(low, magnitude);
    high = max_int(high, magnitude);
  }
  alignas(64) uint32_t lows[16], highs[16];
  store_int(lows, low);
  store_int(highs, high);
  constexpr uint32_t kTwoTo100 = (127 + 100) << 23, kTwoToMinus40 = (127 - 40) << 23;
  for (uint32_t i = 0; i < 16; i++)
    if (highs[i] > kTwoTo100 || (kType == TensorType::kMXFP4 && lows[i] < kTwoToMinus40)) return false;
  return true;
}

// The float step of one unit: chains of 16 activations, sums int32 [16 activations][16 rows].
template <Step32 kStep>
[[gnu::always_inline]] static inline void float_step32(const uint32_t* isums, const uint8_t* record,
                                                       const float* scales, const float* sums, F32x16 (&chain)[16]) {
  const F32x16 s_w = load(reinterpret_cast<const float*>(record + Record32::kScale));
  const F32x16 begin = mul(s_w, splat(-kSumsBeginValue));
#pragma GCC unroll 16
  for (uint32_t t = 0; t < 16; t++) {
    F32x16 v;
    if constexpr (kStep == Step32::kFused) v = fma(load(reinterpret_cast<const float*>(isums + 16 * t)), s_w, begin);
    else if constexpr (kStep == Step32::kPlain) v = mul(to_float(load_int(isums + 16 * t)), s_w);
    else
      v = fma(to_float(load_int(isums + 16 * t)), s_w,
              mul(splat(sums[t]), load(reinterpret_cast<const float*>(record + Record32::kMins))));
    chain[t] = fma(v, splat(scales[t]), chain[t]);
  }
}

// --- superblocks of 256 ---

// Two times 16 activations (b null: once) times the unit's two columns of tiles: tiles 0-3 = [a: 0, 1; b: 2, 3].
template <bool kUnsigned>
static inline void tile_dots256(const uint8_t* left, const uint8_t* right, const uint8_t* a, size_t a_stride,
                                const uint8_t* b, size_t b_stride) {
#define DOT(c, x, y)         \
  if constexpr (kUnsigned) { \
    TILE_DOT_SU(c, x, y);    \
  } else {                   \
    TILE_DOT_SS(c, x, y);    \
  }
  TILE_ZERO(0);
  TILE_ZERO(1);
  TILE_ZERO(2);
  TILE_ZERO(3);
  for (uint32_t s = 0; s < 4; s++) {
    TILE_LOAD(4, a + 64 * s, a_stride);
    TILE_LOAD(6, left + 1024 * s, 64);
    DOT(0, 4, 6)
    TILE_LOAD(7, right + 1024 * s, 64);
    DOT(1, 4, 7)
    if (!b) continue;
    TILE_LOAD(5, b + 64 * s, b_stride);
    DOT(2, 5, 6)
    DOT(3, 5, 7)
  }
#undef DOT
}
static inline void tile_keep256(bool both, uint32_t* buffer) {
  TILE_STORE(0, buffer, 64);
  TILE_STORE(1, buffer + 256, 64);
  if (!both) return;
  TILE_STORE(2, buffer + 512, 64);
  TILE_STORE(3, buffer + 768, 64);
}

// The float step of a superblock for 16 rows and 16 activations: first and second are the sums of its planes [16][16].
struct Step256 {
  const uint32_t *first, *second;
  const uint8_t* record;
  const uint8_t* const* x;  // 16 activations
  float *chain, *totals;    // [16][16]
  bool begins, ends;        // the chain
};
template <TensorType kType>
static inline void float_step256(const Step256& s, size_t scale_at, size_t pairs_at) {
  constexpr Fold f = fold_of(kType);
  constexpr int pairs = Record256::pairs(f);
  const F32x16 d = load(reinterpret_cast<const float*>(s.record + Record256::d(f)));
  F32x16 minus_dmin = zero();
  I32x16 mins[pairs + 1];
  if constexpr (f.min) {
    minus_dmin = load(reinterpret_cast<const float*>(s.record + Record256::minus_dmin(f)));
#pragma GCC unroll 8
    for (int p = 0; p < pairs; p++)
      mins[p] = load_int(reinterpret_cast<const uint32_t*>(s.record + Record256::mins(f) + 64 * p));
  }
  for (uint32_t t = 0; t < 16; t++) {
    I32x16 isum = load_int(s.first + 16 * t);
    if constexpr (f.planes == 2) isum = add(isum, shift_left<f.shift>(load_int(s.second + 16 * t)));
    if constexpr (f.negated) isum = sub(splat_int(0), isum);
    F32x16 v;
    if constexpr (f.min) {
      I32x16 msum = splat_int(0);
#pragma GCC unroll 8
      for (int p = 0; p < pairs; p++) msum = dot_words(msum, mins[p], splat_int(load_u32(s.x[t] + pairs_at + 4 * p)));
      v = fma(to_float(isum), d, mul(to_float(msum), minus_dmin));
    } else {
      v = mul(to_float(isum), d);
    }
    float s_a;
    memcpy(&s_a, s.x[t] + scale_at, 4);
    const F32x16 c = fma(v, splat(s_a), s.begins ? zero() : load(s.chain + 16 * t));
    if (s.ends) store(s.totals + 16 * t, add(load(s.totals + 16 * t), c));
    else store(s.chain + 16 * t, c);
  }
}

// --- the product ---

// Groups of 16 activations; the last one overlaps the one before it where m is no multiple of 16. Fewer than 16 are one
// group of shorter tiles.
struct TileGroups {
  uint32_t first, end, tile_rows;  // activations of this pass; rows of a tile of them
  inline uint32_t count() const { return (end - first + kTile - 1) / kTile; }
  inline uint32_t start(uint32_t group) const {
    const uint32_t at = first + kTile * group;
    return at + kTile <= end || end < kTile ? at : end - kTile;
  }
};

// The distance at which all activations lie: then a tile's rows are where they are. 0: there is none.
static inline size_t equal_distance(const MatmulArgs& args) {
  if (args.m == 1) return 64;
  const auto address = [&](uint32_t t) { return reinterpret_cast<intptr_t>(args.x[t]); };
  const intptr_t distance = address(1) - address(0);
  for (uint32_t t = 2; t < args.m; t++)
    if (address(t) - address(t - 1) != distance) return 0;
  return distance > 0 ? static_cast<size_t>(distance) : 0;
}

// 16 activations' floats at `at`, by unit, to [places][16]; a unit's place is in chain order.
template <class Act, class Load>
static inline void gather_by_place(const uint8_t* const* x, const Act& act, Load load_16, float* out) {
  for (uint32_t u = 0; u < act.units; u += 16) {
    F32x16 square[16];
    for (uint32_t i = 0; i < 16; i++) square[i] = load_16(x[i], u);
    transpose(square);
    for (uint32_t i = 0; i < 16 && u + i < act.units; i++) store(out + size_t{16} * act.place(u + i), square[i]);
  }
}

// Scratch of one product, in this order; groups: how many fit.
struct TileScratch {
  uint8_t* panel;
  uint32_t* buffer;      // int32 [8][16][16]
  float* chains;         // [4][16][16], for superblocks
  const uint8_t** x;     // [groups][16]
  float* totals;         // [columns of 16 rows][groups][16][16]
  float *scales, *sums;  // [groups][places][16], for blocks of 32
  uint8_t* copies;       // [groups][places][16][values], where activations lie at no equal distances
  uint32_t groups;
};
static inline TileScratch tile_scratch(const KernelScratch& scratch, size_t panel_bytes, uint32_t columns,
                                       size_t scale_bytes, size_t sum_bytes, size_t copy_bytes, uint32_t most) {
  TileScratch s = {};
  const size_t before = (panel_bytes + 63) / 64 * 64 + 8192 + 4096,
               a_group = 128 + size_t{1024} * columns + scale_bytes + sum_bytes + copy_bytes;
  if (before + a_group > scratch.bytes) return s;
  const size_t fit = (scratch.bytes - before) / a_group;
  s.groups = fit < most ? static_cast<uint32_t>(fit) : most;
  s.panel = scratch.data;
  s.buffer = reinterpret_cast<uint32_t*>(scratch.data + before - 8192 - 4096);
  s.chains = reinterpret_cast<float*>(s.buffer + 2048);
  uint8_t* at = scratch.data + before;
  s.x = reinterpret_cast<const uint8_t**>(at);
  s.totals = reinterpret_cast<float*>(at += size_t{128} * s.groups);
  s.scales = reinterpret_cast<float*>(at += size_t{1024} * columns * s.groups);
  s.sums = reinterpret_cast<float*>(at += scale_bytes * s.groups);
  s.copies = at + sum_bytes * s.groups;
  return s;
}

// The pointers of a pass's groups, the last one repeated where a group is short, and copies of their codes if wanted.
template <class Act>
static inline void tile_activations(const MatmulArgs& args, const TileGroups& groups, const Act& act, bool copied,
                                    const TileScratch& s) {
  for (uint32_t g = 0; g < groups.count(); g++) {
    const uint8_t** const x = s.x + kTile * g;
    for (uint32_t i = 0; i < kTile; i++) {
      const uint32_t t = groups.start(g) + i;
      x[i] = static_cast<const uint8_t*>(args.x[t < args.m ? t : args.m - 1]);
    }
    if (!copied) continue;
    uint8_t* const to = s.copies + size_t{g} * act.places() * kTile * Act::kValues;
    for (uint32_t u = 0; u < act.units; u++) {
      uint8_t* row = to + act.place(u) * kTile * Act::kValues;
      for (uint32_t i = 0; i < kTile; i++, row += Act::kValues) memcpy(row, x[i] + act.codes_at(u), Act::kValues);
    }
  }
}
template <class Act>
static inline TileActs tile_acts(const Act& act, size_t distance, const TileScratch& s, uint32_t group,
                                 uint32_t chain) {
  const size_t at = act.codes_at(chain), unit = size_t{kTile} * Act::kValues;
  if (distance) return {s.x[kTile * group] + at, act.codes_at(chain + 8) - at, distance};
  return {s.copies + (size_t{group} * act.places() + act.place(chain)) * unit, unit, Act::kValues};
}

static inline PanelRows panel_rows(const MatmulArgs& args, uint32_t first) {
  PanelRows rows;
  for (uint32_t r = 0; r < kTile; r++)  // rows behind the last repeat it; their results are not stored
    rows.row[r] = args.weights + size_t{first + r < args.rows ? first + r : args.rows - 1} * args.row_bytes;
  return rows;
}

// Results of a pass for 16 rows from `first` on. With fewer units than chains the empty ones are added too.
static inline void store_totals(const MatmulArgs& args, const TileGroups& groups, uint32_t units, uint32_t first,
                                const float* totals) {
  const uint32_t rows = args.rows - first < kTile ? args.rows - first : kTile;
  for (uint32_t g = 0; g < groups.count(); g++)
    for (uint32_t i = 0; i < groups.tile_rows; i++, totals += kTile) {
      F32x16 y = load(totals);
      if (units < 8) y = add(y, zero());
      float* const out = args.y[groups.start(g) + i] + first;
      if (rows == kTile) store(out, y);
      else store_n(out, y, rows);
    }
}
// -0 is the neutral start: -0 + c is c, also for c = -0, so the fold begins with chain 0 itself.
static inline void clear_totals(float* totals, size_t n) {
  for (size_t i = 0; i < n; i += 16) store(totals + i, splat(-0.0f));
}

static inline NextPanel next_panel(const MatmulArgs& args, uint32_t behind, uint32_t rows, size_t steps) {
  const uint8_t* const at = args.weights + size_t{behind} * args.row_bytes;
  const size_t bytes = rows * args.row_bytes;
  return {at, at + bytes, static_cast<uint32_t>((bytes / 64 + steps) / steps)};
}

// Where the chains of a panel are, in the order in which they are computed: all groups for each, so that a chain's
// weights are read from the first cache. Behind the last one it begins anew.
template <class Act>
struct Chains32 {
  const Act& act;
  const TileScratch& s;
  size_t distance, record_bytes;
  uint32_t groups;
  uint32_t group, chain;

  void next() {
    if (++group < groups) return;
    group = 0;
    if (++chain == 8 || chain == act.units) chain = 0;
  }
  uint32_t units() const { return (act.units - chain + 7) / 8; }
  TileActs acts() const { return tile_acts(act, distance, s, group, chain); }
  const uint8_t* record() const { return s.panel + act.place(chain) * record_bytes; }
  size_t floats() const { return size_t{16} * (size_t{act.places()} * group + act.place(chain)); }
};

// All products of a panel: totals [groups][16 activations][16 rows] += every chain. The float step of a unit runs while
// tiles compute the next two, across the ends of chains: to let tiles run dry there costs 300 cycles each time. What is
// counted from unit to unit are plain variables, since every instruction counts here.
template <Step32 kStep, class Act>
static void tile_panel32(const Act& act, size_t distance, const TileScratch& s, uint32_t groups, NextPanel next) {
  constexpr size_t bytes = Record32::bytes(kStep == Step32::kMin);
  Chains32<Act> ahead{act, s, distance, bytes, groups, 0, 0}, at = ahead;
  const size_t a_step = ahead.acts().step, a_stride = ahead.acts().stride;
  const uint8_t *a = ahead.acts().first, *b = ahead.record(), *record = b;
  const float *scales = s.scales, *sums = s.sums;
  uint32_t* const buffer = s.buffer;
  uint32_t a_left = ahead.units(), left = a_left;
  F32x16 chain[16];
#pragma GCC unroll 16
  for (uint32_t t = 0; t < 16; t++) chain[t] = zero();

#define MULTIPLY(c, x, y)                  \
  if constexpr (kStep == Step32::kFused) { \
    TILE_LOAD(c, kSumsBegin, 0);           \
  } else {                                 \
    TILE_ZERO(c);                          \
  }                                        \
  TILE_LOAD(x, a, a_stride);               \
  TILE_LOAD(y, b, 64);                     \
  TILE_DOT_SS(c, x, y);                    \
  a += a_step;                             \
  b += bytes;                              \
  if (--a_left == 0) {                     \
    ahead.next();                          \
    a = ahead.acts().first;                \
    b = ahead.record();                    \
    a_left = ahead.units();                \
  }
#define KEEP(c) TILE_STORE(c, buffer + 256 * c, 64);
#define FLOAT_STEP(c)                                                 \
  float_step32<kStep>(buffer + 256 * c, record, scales, sums, chain); \
  scales += 16;                                                       \
  if constexpr (kStep == Step32::kMin) sums += 16;                    \
  record += bytes;                                                    \
  if (--left == 0) {                                                  \
    float* const totals = s.totals + size_t{256} * at.group;          \
    _Pragma("GCC unroll 16") for (uint32_t t = 0; t < 16; t++) {      \
      store(totals + 16 * t, add(load(totals + 16 * t), chain[t]));   \
      chain[t] = zero();                                              \
    }                                                                 \
    at.next();                                                        \
    record = at.record();                                             \
    scales = s.scales + at.floats();                                  \
    if constexpr (kStep == Step32::kMin) sums = s.sums + at.floats(); \
    left = at.units();                                                \
  }
  MULTIPLY(0, 4, 6)
  MULTIPLY(1, 5, 7)
  KEEP(0)
  const size_t units = size_t{act.units} * groups;
  for (size_t u = 0; u < units; u += 2) {
    MULTIPLY(0, 4, 6)
    FLOAT_STEP(0)
    KEEP(1)
    if (u + 1 == units) break;
    MULTIPLY(1, 5, 7)
    FLOAT_STEP(1)
    KEEP(0)
    next.step();
  }
#undef MULTIPLY
#undef KEEP
#undef FLOAT_STEP
}

// Both products return false, having done nothing, where the scratch is too small for a panel and 16 activations.
template <TensorType kType>
static bool tile_product32(const MatmulArgs& args) {
  constexpr bool min = kType == TensorType::kQ4_1, half = kType == TensorType::kMXFP4;
  constexpr size_t block_bytes = type_info(kType)->block_bytes;
  const TileAct32 act(args.k);
  const size_t distance = equal_distance(args), copy_bytes = distance ? 0 : size_t{kTile} * act.kValues * act.places();
  const size_t place_bytes = size_t{64} * act.places();
  const TileScratch s = tile_scratch(*args.scratch, act.places() * Record32::bytes(min), 1, place_bytes,
                                     min ? place_bytes : 0, copy_bytes, (args.m + kTile - 1) / kTile);
  if (!s.groups) return false;
  TileGroups groups = {0, 0, args.m < kTile ? args.m : kTile};
  // Rows that short tiles do not store are computed with, too: what another product left there could be subnormal, and
  // slow.
  for (uint32_t i = 0; i < 512; i += 16) store_int(s.buffer + i, load_int(kSumsBegin));
  TILES_BEGIN(tile_config(groups.tile_rows, 32));
  for (; groups.first < args.m; groups.first = groups.end) {
    groups.end = args.m - groups.first < kTile * s.groups ? args.m : groups.first + kTile * s.groups;
    tile_activations(args, groups, act, !distance, s);
    for (uint32_t g = 0; g < groups.count(); g++) {
      const uint8_t* const* const x = s.x + kTile * g;
      const size_t scale_at = act.scale_at(half), to = size_t{16} * act.places() * g;
      gather_by_place(
          x, act, [&](const uint8_t* a, uint32_t u) { return load(reinterpret_cast<const float*>(a + scale_at) + u); },
          s.scales + to);
      if constexpr (min)
        gather_by_place(
            x, act, [&](const uint8_t* a, uint32_t u) { return act.sums(a, u); }, s.sums + to);
    }
    for (uint32_t first = 0; first < args.rows; first += kTile) {
      NextPanel next = next_panel(args, first + kTile, kTile, (size_t{act.units} * groups.count() + 1) / 2);
      const PanelRows rows = panel_rows(args, first);
      for (uint32_t u = 0; u < act.units; u++)
        unpack_tiles32<kType>(rows, u * block_bytes, s.panel + act.place(u) * Record32::bytes(min));
      clear_totals(s.totals, size_t{256} * groups.count());
      if constexpr (min) tile_panel32<Step32::kMin>(act, distance, s, groups.count(), next);
      else if (can_fuse<kType>(act, s.panel)) tile_panel32<Step32::kFused>(act, distance, s, groups.count(), next);
      else tile_panel32<Step32::kPlain>(act, distance, s, groups.count(), next);
      store_totals(args, groups, act.units, first, s.totals);
    }
  }
  TILES_END();
  return true;
}

template <TensorType kType>
static bool tile_product256(const MatmulArgs& args) {
  constexpr Fold f = fold_of(kType);
  constexpr uint32_t columns = f.planes == 1 ? 2 : 1;  // of 16 rows; a column of tiles each, or one of two planes
  constexpr size_t record = Record256::bytes(f), unit_record = record * columns;
  constexpr size_t block_bytes = type_info(kType)->block_bytes;
  const TileAct256 act(args.k);
  const size_t distance = equal_distance(args), copy_bytes = distance ? 0 : size_t{kTile} * act.kValues * act.places();
  const TileScratch s = tile_scratch(*args.scratch, act.chain_units * unit_record, columns, 0, 0, copy_bytes,
                                     (args.m + kTile - 1) / kTile);
  if (!s.groups) return false;
  TileGroups groups = {0, 0, args.m < kTile ? args.m : kTile};
  TILES_BEGIN(tile_config(groups.tile_rows, 64));
  for (; groups.first < args.m; groups.first = groups.end) {
    groups.end = args.m - groups.first < kTile * s.groups ? args.m : groups.first + kTile * s.groups;
    tile_activations(args, groups, act, !distance, s);
    const size_t column_totals = size_t{256} * groups.count();
    for (uint32_t first = 0; first < args.rows; first += kTile * columns) {
      NextPanel next = next_panel(args, first + kTile * columns, kTile * columns, size_t{act.units} * groups.count());
      PanelRows rows[columns];
      for (uint32_t c = 0; c < columns; c++) rows[c] = panel_rows(args, first + kTile * c);
      clear_totals(s.totals, column_totals * columns);
      for (uint32_t j = 0; j < 8 && j < act.units; j++) {
        const uint32_t units = (act.units - j + 7) / 8;
        for (uint32_t u = 0; u < units; u++)
          for (uint32_t c = 0; c < columns; c++)
            unpack_tiles256<kType>(rows[c], (j + size_t{8} * u) * block_bytes, s.panel + unit_record * u + record * c);
        // Tiles multiply one unit while the float step of the one before it runs: units of a chain, then the next two
        // groups.
        const auto multiply = [&](uint32_t g, uint32_t u) {
          const TileActs a = tile_acts(act, distance, s, g, j);
          const bool both = g + 1 < groups.count();
          const TileActs b = both ? tile_acts(act, distance, s, g + 1, j) : TileActs{};
          const uint8_t* const left = s.panel + unit_record * u;
          tile_dots256<f.is_unsigned>(left, left + (columns == 2 ? record : 4096), a.first + u * a.step, a.stride,
                                      both ? b.first + u * b.step : nullptr, b.stride);
        };
        uint32_t turn = 0;
        multiply(0, 0);
        tile_keep256(groups.count() > 1, s.buffer);
        for (uint32_t g = 0, u = 0; g < groups.count(); turn ^= 1) {
          const uint32_t to_g = u + 1 < units ? g : g + 2, to_u = u + 1 < units ? u + 1 : 0;
          if (to_g < groups.count()) multiply(to_g, to_u);
          const uint32_t unit = j + 8 * u;
          for (uint32_t i = 0; i < 2 && g + i < groups.count(); i++) {
            const uint32_t* const sums = s.buffer + 1024 * turn + 512 * i;
            for (uint32_t c = 0; c < columns; c++)
              float_step256<kType>(
                  {sums + 256 * c, sums + 256, s.panel + unit_record * u + record * c, s.x + kTile * (g + i),
                   s.chains + 256 * (2 * i + c), s.totals + column_totals * c + 256 * (g + i), u == 0, u + 1 == units},
                  act.scale_at(unit), act.pairs_at(f.sub, unit));
            next.step();
          }
          if (to_g < groups.count()) tile_keep256(to_g + 1 < groups.count(), s.buffer + 1024 * (turn ^ 1));
          g = to_g;
          u = to_u;
        }
      }
      for (uint32_t c = 0; c < columns && first + kTile * c < args.rows; c++)
        store_totals(args, groups, act.units, first + kTile * c, s.totals + column_totals * c);
    }
  }
  TILES_END();
  return true;
}

// Activations from which tiles beat VNNI, unpacking included, by the figures of docs/performance.md.
static constexpr uint32_t kLeastTiles = 12, kLeastTilesOfTwoPlanes = 32;

template <TensorType kType>
static bool tile_product(const MatmulArgs& args) {
  constexpr bool superblocks = type_info(kType)->act == ActKind::kAct8x256;
  constexpr uint32_t least = superblocks && fold_of(kType).planes == 2 ? kLeastTilesOfTwoPlanes : kLeastTiles;
  const bool wanted = args.force_path < 0 ? args.m >= least : args.force_path == kPathAmxInt8;
  if (!wanted || args.m == 0 || args.rows == 0) return false;
  if constexpr (superblocks) return tile_product256<kType>(args);
  else return tile_product32<kType>(args);
}

static bool tile_product_of_type(const MatmulArgs& args) {
  switch (args.type) {
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
    case TensorType::kI32: return false;
    case TensorType::kQ8_0: return tile_product<TensorType::kQ8_0>(args);
    case TensorType::kQ4_0: return tile_product<TensorType::kQ4_0>(args);
    case TensorType::kQ4_1: return tile_product<TensorType::kQ4_1>(args);
    case TensorType::kQ5_0: return tile_product<TensorType::kQ5_0>(args);
    case TensorType::kIQ4_NL: return tile_product<TensorType::kIQ4_NL>(args);
    case TensorType::kMXFP4: return tile_product<TensorType::kMXFP4>(args);
    case TensorType::kQ2_K: return tile_product<TensorType::kQ2_K>(args);
    case TensorType::kQ3_K: return tile_product<TensorType::kQ3_K>(args);
    case TensorType::kQ4_K: return tile_product<TensorType::kQ4_K>(args);
    case TensorType::kQ5_K: return tile_product<TensorType::kQ5_K>(args);
    case TensorType::kQ6_K: return tile_product<TensorType::kQ6_K>(args);
    case TensorType::kIQ2_XXS: return tile_product<TensorType::kIQ2_XXS>(args);
    case TensorType::kIQ4_XS: return tile_product<TensorType::kIQ4_XS>(args);
  }
  return false;
}

// The table's entry.
static void tile_matmul(const MatmulArgs& args) {
  if (tile_product_of_type(args)) args.scratch->counts[kPathAmxInt8]++;
  else TILE_BASE.matmul(args);
}

}  // namespace nandu::NANDU_TARGET
