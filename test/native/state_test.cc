// A sequence exported at any length and imported where all else is NaN continues with the same bits; forks share
// complete blocks and never disturb each other; foreign bytes are refused.
#include "models.h"

using namespace nandu;
using namespace nandu::test;

namespace {

constexpr uint32_t kTokens = 460, kContinue = 150;

void expect_exact_continuation(Numerics numerics) {
  const auto model = make_model(mixed_options(0));
  const std::vector<uint32_t> tokens = random_tokens(3, kTokens + kContinue, model->geometry.vocab);
  Runner whole(*model, *usable_sets()[0], numerics, 2);
  SequenceState uninterrupted(whole.pool);
  const std::vector<float> want = whole.run(uninterrupted, tokens.data(), kTokens + kContinue, 64);
  std::vector<uint32_t> lengths = {1,   3,   4,   5,   47,  48,  49,  127, 128, 129,
                                   130, 131, 132, 255, 256, 257, 383, 384, 385, 411};
  if (short_form()) lengths = {5, 131, 256};
  for (uint32_t n : lengths) {
    // Twin: the same tokens through the decode path, so rows made by decoding are exported too.
    for (uint32_t chunk : {64u, 1u}) {
      if (chunk == 1 && n > 132) continue;
      Runner first(*model, *usable_sets()[0], numerics, 1), second(*model, *usable_sets()[0], numerics, 2);
      SequenceState source(first.pool), target(second.pool);
      first.run(source, tokens.data(), n, chunk);
      const std::vector<uint8_t> bytes = source.export_bytes();
      EXPECT(target.import_bytes(bytes.data(), bytes.size(), true).ok());
      EXPECT(target.length() == n);
      EXPECT(target.export_bytes() == bytes);
      const std::vector<float> got = second.run(target, tokens.data() + n, kContinue, 37);
      EXPECT_MSG(memcmp(got.data(), want.data() + size_t{n} * second.vocab, got.size() * sizeof(float)) == 0,
                 std::to_string(n));
    }
  }
}

}  // namespace

TEST(export_and_import_into_poisoned_memory_continue_bit_for_bit_reference) {
  expect_exact_continuation(Numerics::kReference);
}
TEST(export_and_import_into_poisoned_memory_continue_bit_for_bit_f32) {
  expect_exact_continuation(Numerics::kF32);
}

namespace {

// Slots [first, first + n).
std::vector<uint32_t> slots_from(uint32_t first, uint32_t n) {
  std::vector<uint32_t> slots(n);
  for (uint32_t i = 0; i < n; i++) slots[i] = first + i;
  return slots;
}

// Goes on from a point in a sequence that shares the complete blocks before it and whose every other byte is NaN.
std::vector<float> continue_at(Runner& runner, const Point& point, const std::vector<uint32_t>& tokens, uint32_t end,
                               uint32_t chunk) {
  const uint32_t complete = point.position / kBlockTokens, all = end / kBlockTokens + 1;
  std::vector<uint32_t> slots = slots_from(0, complete);
  for (uint32_t i = complete; i < all; i++) {
    slots.push_back(100 + i);
    memset(runner.pool.slot(100 + i), 0xff, runner.layout.block_bytes);
  }
  SequenceState target(runner.pool, slots);
  EXPECT(target.resume(point));
  EXPECT(target.length() == point.position && target.boundary() == 0);
  return runner.run(target, tokens.data() + point.position, end - point.position, chunk);
}

void expect_points_continue(Numerics numerics) {
  const auto model = make_model(mixed_options(0));
  const uint32_t vocab = model->geometry.vocab;
  const std::vector<uint32_t> tokens = random_tokens(3, 520, vocab);
  Runner whole(*model, *usable_sets()[0], numerics, 2);
  SequenceState uninterrupted(whole.pool);
  const std::vector<float> want = whole.run(uninterrupted, tokens.data(), 520, 64);
  const auto check = [&](Runner& runner, const Point& point) {
    const std::vector<float> got = continue_at(runner, point, tokens, 520, 37);
    EXPECT_MSG(memcmp(got.data(), want.data() + size_t{point.position} * vocab, got.size() * sizeof(float)) == 0,
               std::to_string(point.position));
  };
  for (uint32_t chunk : short_form() ? std::vector<uint32_t>{200} : std::vector<uint32_t>{1, 5, 128, 200, 300}) {
    Runner runner(*model, *usable_sets()[0], numerics, 2);
    SequenceState source(runner.pool, slots_from(0, 5));
    uint32_t length = 0;
    while (length < 450) {
      const uint32_t n = std::min(chunk, 450 - length);
      runner.run(source, tokens.data() + length, n, n);
      length += n;
      EXPECT(source.boundary() == length / 128 * 128);
      // The point at a boundary stays within reach until the next one is passed, however far the chunk went beyond.
      const uint32_t past = length % 128;
      if (source.boundary() == 0 || (chunk == 1 && past != 0 && past != 1 && past != 3 && past != 127)) continue;
      if (chunk == 5 && past > 8 && past < 124) continue;
      const auto point = source.point_at_boundary();
      EXPECT(point->bytes.size() == runner.layout.point_bytes);
      check(runner, *point);
      if (past == 127 || past == 3 || chunk == 200) {
        const auto end = source.point_at_end();
        EXPECT(end->position == length);
        check(runner, *end);
      }
    }
  }
}

void expect_replay_is_exact(Numerics numerics) {
  const auto model = make_model(mixed_options(0));
  const Geometry& g = model->geometry;
  const uint32_t vocab = g.vocab, frozen = 384;
  const uint32_t from = (frozen - (g.window - 1) * g.layers) / kBlockTokens * kBlockTokens;
  EXPECT(from == 128);  // so that something is left out
  const std::vector<uint32_t> tokens = random_tokens(9, 520, vocab);
  Runner runner(*model, *usable_sets()[0], numerics, 2);
  SequenceState source(runner.pool, slots_from(0, 5));
  const std::vector<float> want = runner.run(source, tokens.data(), 520, 64);
  for (uint32_t chunk : short_form() ? std::vector<uint32_t>{128} : std::vector<uint32_t>{32, 128, 300}) {
    std::vector<uint32_t> slots = slots_from(0, frozen / kBlockTokens);
    std::vector<uint8_t> before(runner.layout.block_bytes);
    memcpy(before.data(), runner.pool.slot(2), before.size());
    for (uint32_t i = 0; i < 2; i++) {
      slots.push_back(200 + i);
      memset(runner.pool.slot(200 + i), 0xff, runner.layout.block_bytes);
    }
    SequenceState target(runner.pool, slots);
    EXPECT(target.replay(from, frozen));
    const std::vector<float> got = runner.run(target, tokens.data() + from, 520 - from, chunk);
    const size_t exact = size_t{frozen - from} * vocab;
    EXPECT(memcmp(got.data() + exact, want.data() + size_t{frozen} * vocab, (got.size() - exact) * sizeof(float)) == 0);
    EXPECT(memcmp(before.data(), runner.pool.slot(2), before.size()) == 0);
    // And it leaves points that are as good as any.
    const std::vector<float> rest = continue_at(runner, *target.point_at_boundary(), tokens, 520, 8);
    EXPECT(memcmp(rest.data(), want.data() + size_t{512} * vocab, rest.size() * sizeof(float)) == 0);
  }
}

}  // namespace

TEST(points_continue_bit_for_bit_in_shared_blocks_reference) {
  expect_points_continue(Numerics::kReference);
}
TEST(points_continue_bit_for_bit_in_shared_blocks_f32) {
  expect_points_continue(Numerics::kF32);
}
TEST(replayed_windows_are_exact_behind_the_receptive_field_reference) {
  expect_replay_is_exact(Numerics::kReference);
}
TEST(replayed_windows_are_exact_behind_the_receptive_field_f32) {
  expect_replay_is_exact(Numerics::kF32);
}

TEST(a_point_of_another_size_is_refused) {
  const auto model = make_model(small_options());
  Runner runner(*model, *usable_sets()[0], Numerics::kReference, 1);
  Point point{128, std::vector<uint8_t>(runner.layout.point_bytes - 1)};
  SequenceState target(runner.pool, slots_from(0, 2));
  EXPECT(!target.resume(point));
}

TEST(forks_share_complete_blocks_and_go_their_own_ways) {
  const auto model = make_model(mixed_options(0));
  const std::vector<uint32_t> tokens = random_tokens(4, 300, model->geometry.vocab),
                              other = random_tokens(5, 100, model->geometry.vocab);
  Runner runner(*model, *usable_sets()[0], Numerics::kReference, 2);
  for (uint32_t n : {130u, 256u}) {
    SequenceState parent(runner.pool);
    runner.run(parent, tokens.data(), n, 50);
    const uint64_t used = runner.pool.used();
    auto child = parent.fork();
    EXPECT(runner.pool.used() == used + (n % 128 != 0));
    // The child goes another way first; the parent must not notice.
    const std::vector<float> away = runner.run(*child, other.data(), 100, 9);
    const std::vector<float> home = runner.run(parent, tokens.data() + n, 300 - n, 1);
    SequenceState fresh(runner.pool), fresh_other(runner.pool);
    const std::vector<float> want = runner.run(fresh, tokens.data(), 300, 300);
    EXPECT(memcmp(home.data(), want.data() + size_t{n} * runner.vocab, home.size() * sizeof(float)) == 0);
    std::vector<uint32_t> joined(tokens.begin(), tokens.begin() + n);
    joined.insert(joined.end(), other.begin(), other.end());
    const std::vector<float> want_away = runner.run(fresh_other, joined.data(), n + 100, 64);
    EXPECT(memcmp(away.data(), want_away.data() + size_t{n} * runner.vocab, away.size() * sizeof(float)) == 0);
  }
  EXPECT(runner.pool.used() == 0);
}

TEST(foreign_state_bytes_are_refused_and_leave_the_sequence_usable) {
  const auto model = make_model(small_options());
  Runner runner(*model, *usable_sets()[0], Numerics::kReference, 1);
  const std::vector<uint32_t> tokens = random_tokens(6, 140, model->geometry.vocab);
  SequenceState source(runner.pool);
  runner.run(source, tokens.data(), 140, 140);
  const std::vector<uint8_t> good = source.export_bytes();
  Random random(8);
  for (int i = 0; i < 300; i++) {
    std::vector<uint8_t> bytes = good;
    if (i % 2) bytes.resize(random.below(static_cast<uint32_t>(good.size())));
    else bytes[random.below(24)] ^= static_cast<uint8_t>(1 + random.below(255));
    SequenceState target(runner.pool);
    Status imported = target.import_bytes(bytes.data(), bytes.size(), false);
    // Changing the padding word of the header is the only harmless flip.
    if (imported.ok()) EXPECT(bytes.size() == good.size() && memcmp(bytes.data(), good.data(), 20) == 0);
    else EXPECT(target.length() == 0);
  }
  Runner f32(*model, *usable_sets()[0], Numerics::kF32, 1);
  SequenceState other(f32.pool);
  EXPECT(!other.import_bytes(good.data(), good.size(), false).ok());
}

TEST(sequence_memory_returns_to_the_pool_and_the_budget_holds) {
  const auto model = make_model(small_options());
  Runner runner(*model, *usable_sets()[0], Numerics::kReference, 1);
  KvPool pool(runner.layout, 3);
  {
    SequenceState a(pool), b(pool);
    EXPECT(a.reserve(256) && pool.used() == 2);
    EXPECT(b.reserve(128) && !b.reserve(129));
  }
  EXPECT(pool.used() == 0);
  SequenceState c(pool);
  EXPECT(c.reserve(384) && !c.reserve(385));
}
