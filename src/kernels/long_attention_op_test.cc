// Contexts longer than one partition of 256 positions: the merged result is right, and is the same bits whether
// partitions run one after the other (prefill) or as tasks of their own (a decode row).
#include <algorithm>

#include "kernels/test_support.h"

namespace gantry::kernel_test {
namespace {

constexpr int kTokens = 600, kHeads = 6, kKvHeads = 2, kDim = 32;
constexpr int64_t kWidth = (kHeads + 2 * kKvHeads) * kDim, kOut = kHeads * kDim;

class LongAttention : public testing::TestWithParam<const Backend*> {};
INSTANTIATE_TEST_SUITE_P(Backends, LongAttention, testing::ValuesIn(every_backend()), backend_name);

// A layer whose cache holds kTokens positions, written through identity weights.
class Layer {
 public:
  Layer(const Backend* backend, int threads)
      : rng_(31),
        backend_(backend),
        pool_(threads),
        scratch_(*backend, backend->scratch_bytes(spec(threads))),
        state_(backend->create_state != nullptr ? backend->create_state(spec(threads)).value() : nullptr),
        kv_(rng_, *backend, {DType::kF32, kKvHeads, kDim, kDim}, 1, kTokens),
        q_(kTokens * kOut) {
    TestWeight unit(rng_, {.parts = {{DType::kF32, kWidth}}, .cols = kWidth, .compute = Compute::kF32});
    Floats identity(kWidth * kWidth);
    for (size_t i = 0; i < kWidth; ++i) identity[i * kWidth + i] = 1.0f;
    unit.set_f32(identity);
    Rng inputs(32);
    const Floats x = inputs.normals(kTokens * kWidth, 2.0f);
    const std::vector<int32_t> positions(kTokens, 0);  // no rotation
    const RopeTable rope(positions, kDim / 2, false);
    Floats qkv(kTokens * kWidth);
    const std::vector<Segment> segments = {{0, kTokens, 0, kv_.table(0)}};
    ops::begin_step(context(), {.segments = segments, .rope = rope.rows()});
    ops::qkv_project(context(), {.x = x.data(),
                                 .rows = kTokens,
                                 .weight = unit.pack(*backend),
                                 .heads = kHeads,
                                 .kv_heads = kKvHeads,
                                 .head_dim = kDim,
                                 .rope = rope.rows(),
                                 .segments = segments,
                                 .kv = kv_.view(),
                                 .q = q_.data(),
                                 .qkv = qkv.data()});
    ops::finish(context());
  }

  Floats attend(int first, int rows) {
    Floats out = poisoned(rows * kOut);
    const std::vector<Segment> segments = {{0, rows, first, kv_.table(0)}};
    ops::begin_step(context(), {.segments = segments});
    ops::attend(context(), {.q = q_.data() + first * kOut,
                            .rows = rows,
                            .heads = kHeads,
                            .scale = 0.2f,
                            .segments = segments,
                            .kv = kv_.view(),
                            .out = out.data()});
    ops::finish(context());
    return out;
  }

 private:
  static ScratchSpec spec(int threads) {
    return {.rows_max = kTokens,
            .width_max = kWidth,
            .heads = kHeads,
            .head_dim_max = kDim,
            .context_max = kTokens,
            .threads = threads,
            .rope_pairs_max = kDim / 2};
  }
  OpContext context() { return {backend_, &pool_, scratch_.span(), state_.get()}; }

  Rng rng_;
  const Backend* backend_;
  ThreadPool pool_;
  AlignedBytes scratch_;
  std::unique_ptr<BackendState> state_;
  TestKv kv_;
  Floats q_;
};

TEST_P(LongAttention, MatchesReference) {
  Layer layer(GetParam(), 2), reference(cpu_backend("reference").value(), 1);
  EXPECT_LT(rows_error(layer.attend(0, kTokens), reference.attend(0, kTokens), kOut), 2e-5);
}

TEST_P(LongAttention, ARowIsTheSameBitsAloneAndInAPrompt) {
  Layer one(GetParam(), 1), four(GetParam(), 4);
  const Floats whole = one.attend(0, kTokens);
  for (Layer* layer : {&one, &four}) {
    for (const auto& [first, rows] :
         {std::pair{0, 600}, {0, 1}, {255, 1}, {256, 1}, {250, 13}, {511, 2}, {599, 1}}) {
      const auto expected = std::span<const float>(whole).subspan(static_cast<size_t>(first * kOut),
                                                                  static_cast<size_t>(rows * kOut));
      EXPECT_TRUE(same_bits(layer->attend(first, rows), expected)) << rows << " rows from " << first;
    }
  }
}

}  // namespace
}  // namespace gantry::kernel_test
