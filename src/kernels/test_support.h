// Fixtures of the op tests: seeded random weights of every dtype, a context with poisoned scratch, a paged KV
// cache with a shuffled block table, and comparisons.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/limits.h"
#include "kernels/ops/ops.h"
#include "kernels/ops/round_activations.h"
#include "tensor/convert.h"

namespace gantry::kernel_test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr DType kWeightDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kF8E4M3,
                                          DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                          DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// The host's memory as the ops of every backend reach it: page-locked where there is a GPU. Freed pieces are kept
// for the next of their size, since locking pages is slow.
class SharedMemory {
 public:
  static void* take(size_t bytes) {
    const size_t size = std::bit_ceil(std::max(bytes, size_t{64}));
    std::vector<void*>& free = pieces()[size];
    if (free.empty()) return space() != nullptr ? space()->allocate_host(size).value() : ::operator new(size);
    void* piece = free.back();
    free.pop_back();
    return piece;
  }
  static void give(void* piece, size_t bytes) {
    pieces()[std::bit_ceil(std::max(bytes, size_t{64}))].push_back(piece);
  }

 private:
  static const MemorySpace* space() {
    static const MemorySpace* const space = every_backend().back()->memory;
    return space;
  }
  static std::map<size_t, std::vector<void*>>& pieces() {
    static auto* const pieces =
        new std::map<size_t, std::vector<void*>>;  // outlives the vectors of other statics
    return *pieces;
  }
};
template <typename T>
struct SharedAllocator {
  using value_type = T;
  SharedAllocator() = default;
  template <typename U>
  SharedAllocator(const SharedAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(SharedMemory::take(n * sizeof(T))); }
  void deallocate(T* p, size_t n) { SharedMemory::give(p, n * sizeof(T)); }
  bool operator==(const SharedAllocator&) const { return true; }
};
using Floats = std::vector<float, SharedAllocator<float>>;
using Bytes = std::vector<std::byte, SharedAllocator<std::byte>>;

class Rng {
 public:
  explicit Rng(uint64_t seed) : engine_(seed) {}
  float normal(float sigma = 1.0f) { return std::normal_distribution<float>(0.0f, sigma)(engine_); }
  float uniform(float lo, float hi) { return std::uniform_real_distribution<float>(lo, hi)(engine_); }
  uint8_t byte() { return static_cast<uint8_t>(engine_() & 0xff); }
  int below(int n) { return static_cast<int>(engine_() % static_cast<uint64_t>(n)); }
  Floats normals(int64_t n, float sigma = 1.0f) {
    Floats v(static_cast<size_t>(n));
    for (float& x : v) x = normal(sigma);
    return v;
  }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

inline Floats poisoned(int64_t n) { return Floats(static_cast<size_t>(n), kNan); }

// Aligned bytes in a backend's memory (the host's without one), filled with 0xff (a NaN in every float format).
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size) : AlignedBytes(nullptr, size) {}
  AlignedBytes(const Backend& backend, size_t size) : AlignedBytes(backend.memory, size) {}
  ~AlignedBytes() {
    if (space_ != nullptr) space_->release(base_);
  }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  std::span<std::byte> span() { return {static_cast<std::byte*>(base_), size_}; }

 private:
  AlignedBytes(const MemorySpace* space, size_t size)
      : space_(space), storage_(size + 256, std::byte{0xff}), size_(size) {
    if (space_ == nullptr) {
      void* p = storage_.data();
      size_t room = storage_.size();
      base_ = std::align(256, size_, p, room);
    } else {
      base_ = space_->allocate(std::max(size, size_t{1})).value();
      EXPECT_TRUE(space_->upload(base_, storage_.data(), size).ok());
    }
  }

  const MemorySpace* space_;
  std::vector<std::byte> storage_;  // the bytes, or what they were filled with
  void* base_ = nullptr;
  size_t size_;
};

// E4M3 codes are drawn around this, so that their blocks' scales are about sigma / kE4m3Spread.
inline constexpr float kE4m3Spread = 60.0f;

// File bytes of `elements` random values, of about unit variance times sigma; block scales are finite.
// kF8E4M3: the codes alone, some of them subnormal.
inline Bytes random_tensor(Rng& rng, DType dtype, int64_t elements, float sigma) {
  Bytes bytes(bytes_of(dtype, static_cast<uint64_t>(elements)).value());
  auto put16 = [&](size_t at, uint16_t v) { std::memcpy(&bytes[at], &v, sizeof(v)); };
  if (dtype == DType::kF8E4M3) {
    for (std::byte& b : bytes) {
      b = std::byte{f32_to_e4m3(rng.normal(rng.below(8) == 0 ? 0.01f : kE4m3Spread))};
    }
    return bytes;
  }
  if (!is_quantized(dtype)) {
    for (int64_t i = 0; i < elements; ++i) {
      const float value = rng.normal(sigma);
      const auto at = static_cast<size_t>(i);
      if (dtype == DType::kF32) std::memcpy(&bytes[at * 4], &value, sizeof(value));
      if (dtype == DType::kF16) put16(at * 2, f32_to_f16(value));
      if (dtype == DType::kBF16) put16(at * 2, f32_to_bf16(value));
    }
    return bytes;
  }
  for (std::byte& b : bytes) b = std::byte{rng.byte()};
  const auto block_bytes = static_cast<size_t>(dtype_info(dtype).block_bytes);
  for (size_t b = 0; b < bytes.size(); b += block_bytes) {
    // d scales codes of a known spread; m (dmin) shifts by about the codes' mean.
    const float sign = rng.below(2) ? 1.0f : -1.0f;
    const float d = sigma * rng.uniform(0.5f, 1.5f);
    switch (dtype) {
      case DType::kQ4_0:
        put16(b, f32_to_f16(sign * d / 4.6f));
        break;
      case DType::kQ4_1:
        put16(b, f32_to_f16(d / 4.6f));
        put16(b + 2, f32_to_f16(-d / 4.6f * 7.0f));
        break;
      case DType::kQ5_0:
        put16(b, f32_to_f16(sign * d / 9.2f));
        break;
      case DType::kQ5_1:
        put16(b, f32_to_f16(d / 9.2f));
        put16(b + 2, f32_to_f16(-d / 9.2f * 15.0f));
        break;
      case DType::kQ8_0:
        put16(b, f32_to_f16(sign * d / 74.0f));
        break;
      case DType::kQ4_K:
        put16(b, f32_to_f16(d / 4.6f / 32.0f));
        put16(b + 2, f32_to_f16(d / 4.6f * 7.0f / 32.0f));
        break;
      case DType::kQ5_K:
        put16(b, f32_to_f16(d / 9.2f / 32.0f));
        put16(b + 2, f32_to_f16(d / 9.2f * 15.0f / 32.0f));
        break;
      case DType::kQ6_K:
        put16(b + 208, f32_to_f16(sign * d / 18.0f / 74.0f));
        break;
      default:
        break;
    }
  }
  return bytes;
}

// Scales of FP8 blocks for `count` matrices, or nothing for another dtype.
inline Floats random_scales(Rng& rng, const Shape& shape, DType dtype, int64_t count, float sigma) {
  if (dtype != DType::kF8E4M3) return {};
  Floats scales(static_cast<size_t>(count * scale_blocks(shape[0]) * scale_blocks(shape[1])));
  for (float& scale : scales) scale = sigma / kE4m3Spread * rng.uniform(0.5f, 1.5f);
  return scales;
}

// out *= the scales of row `row` of a matrix.
inline void scale_row(const float* scales, int64_t row, std::span<float> out) {
  const auto cols = static_cast<int64_t>(out.size());
  for (int64_t k = 0; k < cols; ++k) {
    out[static_cast<size_t>(k)] *= scales[row / kScaleBlock * scale_blocks(cols) + k / kScaleBlock];
  }
}

// A stacked weight in file bytes, its dequantised values, and its packing for one backend.
class TestWeight {
 public:
  struct PartSpec {
    DType dtype = DType::kF32;
    int64_t rows = 0;
  };
  struct Spec {
    std::vector<PartSpec> parts;
    int64_t cols = 0;
    int64_t batch = 1;
    bool bias = false;
    Compute compute = Compute::kAuto;
    float sigma = 0;  // 0: cols^-0.5, so that outputs have the inputs' size
  };

  TestWeight(Rng& rng, const Spec& spec) : spec_(spec) {
    const float sigma = spec.sigma > 0 ? spec.sigma : 1.0f / std::sqrt(static_cast<float>(spec.cols));
    for (const PartSpec& part : spec.parts) {
      bytes_.push_back(random_tensor(rng, part.dtype, spec.batch * part.rows * spec.cols, sigma));
      scales_.push_back(random_scales(rng, {part.rows, spec.cols}, part.dtype, spec.batch, sigma));
      biases_.push_back(rng.normals(spec.bias ? part.rows : 0));
    }
  }

  int64_t cols() const { return spec_.cols; }
  int64_t rows() const {
    int64_t rows = 0;
    for (const PartSpec& part : spec_.parts) rows += part.rows;
    return rows;
  }
  Compute compute() const { return spec_.compute; }
  DType dtype(size_t part = 0) const { return spec_.parts[part].dtype; }

  TensorView view(size_t part, int64_t entry = 0) const {
    const int64_t rows = spec_.parts[part].rows;
    const DType dtype = spec_.parts[part].dtype;
    return {bytes_[part].data() + entry * rows * row_bytes(dtype, spec_.cols), dtype,
            Shape{rows, spec_.cols}};
  }

  TensorView scales(size_t part, int64_t entry = 0) const {
    if (scales_[part].empty()) return {};
    const Shape shape{scale_blocks(spec_.parts[part].rows), scale_blocks(spec_.cols)};
    return {scales_[part].data() + entry * shape.elements(), DType::kF32, shape};
  }

  // [rows, cols] of one batch entry, parts stacked.
  Floats dense(int64_t batch = 0) const {
    Floats out;
    for (size_t p = 0; p < bytes_.size(); ++p) {
      const int64_t count = spec_.parts[p].rows * spec_.cols;
      Floats part(static_cast<size_t>(count));
      dequantize(view(p, batch), 0, part);
      for (int64_t row = 0; row < spec_.parts[p].rows && !scales_[p].empty(); ++row) {
        scale_row(
            scales(p, batch).as<float>(), row,
            std::span(part).subspan(static_cast<size_t>(row * spec_.cols), static_cast<size_t>(spec_.cols)));
      }
      out.insert(out.end(), part.begin(), part.end());
    }
    return out;
  }
  Floats bias() const {
    Floats out;
    for (const auto& b : biases_) out.insert(out.end(), b.begin(), b.end());
    return out;
  }

  // Overwrites the values of an F32 weight of one part, before it is packed.
  void set_f32(std::span<const float> values) {
    ASSERT_EQ(values.size_bytes(), bytes_[0].size());
    std::memcpy(bytes_[0].data(), values.data(), values.size_bytes());
  }

  // Packs for the backend into storage owned here, once; valid until pack() for another backend.
  const PackedWeight* pack(const Backend& backend) {
    if (packed_for_ == &backend) return &packed_;
    packed_for_ = &backend;
    std::vector<TensorView> parts, biases, part_scales;
    for (int64_t e = 0; e < spec_.batch; ++e) {
      for (size_t p = 0; p < bytes_.size(); ++p) {
        parts.push_back(view(p, e));
        part_scales.push_back(scales(p, e));
        biases.push_back(spec_.bias ? TensorView{biases_[p].data(), DType::kF32, Shape{spec_.parts[p].rows}}
                                    : TensorView{});
      }
    }
    const WeightSpec spec{.parts = parts,
                          .biases = biases,
                          .scales = part_scales,
                          .compute = spec_.compute,
                          .batch = spec_.batch};
    storage_ = std::make_unique<AlignedBytes>(backend, backend.packed_bytes(spec));
    packed_ = backend.prepare(spec, storage_->span()).value();
    return &packed_;
  }

 private:
  Spec spec_;
  std::vector<Bytes> bytes_;
  std::vector<Floats> scales_, biases_;
  std::unique_ptr<AlignedBytes> storage_;
  const Backend* packed_for_ = nullptr;
  PackedWeight packed_;
};

// A backend, a pool and scratch that covers every test shape; scratch starts as NaN.
class TestContext {
 public:
  explicit TestContext(const Backend* backend, int threads = 1)
      : pool_(threads),
        scratch_(*backend, backend->scratch_bytes(spec(threads))),
        state_(backend->create_state != nullptr ? backend->create_state(spec(threads)).value() : nullptr),
        context_{backend, &pool_, scratch_.span(), state_.get()} {}
  const OpContext& operator*() const { return context_; }
  // Around the ops of one step.
  void begin(const StepInputs& inputs) const { EXPECT_FALSE(ops::begin_step(context_, inputs)); }
  void finish() const { ops::finish(context_); }
  const Backend& backend() const { return *context_.backend; }

 private:
  static ScratchSpec spec(int threads) {
    return {.rows_max = 160,
            .width_max = 3072,
            .hidden = 3072,
            .experts = 32,
            .experts_per_token = 8,
            .expert_width = 256,
            .heads = 16,
            .head_dim_max = 576,
            .context_max = 512,
            .threads = threads,
            .logit_rows_max = 32,
            .vocab = 512,
            .rope_pairs_max = 128};
  }

  ThreadPool pool_;
  AlignedBytes scratch_;
  std::unique_ptr<BackendState> state_;
  OpContext context_;
};

// One layer's cache for sequences of up to tokens_max, blocks in shuffled order.
class TestKv {
 public:
  TestKv(Rng& rng, const Backend& backend, const KvLayout& layout, int sequences, int tokens_max)
      : blocks_per_sequence_((tokens_max + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens),
        stride_((backend.kv_block_bytes(layout) + 63) / 64 * 64),
        bytes_(backend, stride_ * static_cast<size_t>(sequences * blocks_per_sequence_)),
        table_(static_cast<size_t>(sequences * blocks_per_sequence_)) {
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), rng.engine());
    view_ = {layout, bytes_.span().data(), static_cast<int64_t>(stride_)};
  }
  const KvView& view() const { return view_; }
  const int32_t* table(int sequence) const {
    return &table_[static_cast<size_t>(sequence * blocks_per_sequence_)];
  }

 private:
  int blocks_per_sequence_;
  size_t stride_;
  AlignedBytes bytes_;
  std::vector<int32_t> table_;
  KvView view_;
};

// cos and sin of position * 10000^(-i / pairs), for the positions of each row.
struct RopeTable {
  Floats cos, sin;
  int32_t pairs;
  bool interleaved;
  RopeTable(std::span<const int32_t> positions, int32_t pairs_, bool interleaved_)
      : pairs(pairs_), interleaved(interleaved_) {
    for (const int32_t position : positions) {
      for (int32_t i = 0; i < pairs; ++i) {
        const double angle = position * std::pow(10000.0, -static_cast<double>(i) / pairs);
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }
  RopeRows rows() const { return {cos.data(), sin.data(), pairs, interleaved}; }
};

// Largest |actual - expected| in units of the expected row's root mean square; infinite where actual is not
// finite.
inline double row_error(std::span<const float> actual, std::span<const float> expected) {
  double squares = 0.0, worst = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    squares += static_cast<double>(expected[i]) * expected[i];
    const double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    if (!std::isfinite(error)) return INFINITY;
    worst = error > worst ? error : worst;
  }
  const double rms = std::sqrt(squares / static_cast<double>(expected.size()));
  return worst == 0.0 ? 0.0 : worst / (rms + 1e-30);
}

// The worst row_error of [rows, width].
inline double rows_error(std::span<const float> actual, std::span<const float> expected, int64_t width) {
  double worst = 0.0;
  for (size_t at = 0; at < expected.size(); at += static_cast<size_t>(width)) {
    const auto w = static_cast<size_t>(width);
    worst = std::max(worst, row_error(actual.subspan(at, w), expected.subspan(at, w)));
  }
  return worst;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// The error that one linear of the dtype may show against f32, as rows_error: f32 arithmetic in another
// order; activations in bf16 (8 bits of mantissa); activations in int8 with a scale per block (amax / 127 a
// step, and inputs with outliers: a standard deviation near 1e-2). Largest of about 10^4 samples, so
// about 4.5 standard deviations.
inline double linear_tolerance(DType dtype, Compute compute) {
  if (compute == Compute::kF32 || dtype == DType::kF32) return 1e-5;
  // A norm that differs in its last bit may tip a rounding to e4m3, which is a sixteenth of that value.
  if (rounds_activations(compute, dtype)) return 5e-2;
  if (!is_quantized(dtype)) return 1.5e-2;
  return 5e-2;
}

inline std::string backend_name(const testing::TestParamInfo<const Backend*>& info) {
  return std::string(info.param->name);
}

}  // namespace gantry::kernel_test
