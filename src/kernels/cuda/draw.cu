#include <cooperative_groups.h>

#include <algorithm>
#include <string>

#include "kernels/cuda/draw.h"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"

namespace gantry::cuda {
namespace {

namespace cg = cooperative_groups;
using sm90::let_next_kernel_start;
using sm90::wait_for_previous_kernel;

constexpr int kBlocks = 8;  // of a cluster: the portable size
constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kGroup = 64;  // sample/candidates.h: kLogitBlock
constexpr int kLanes = 16;  // sample/exp_weights.cc
constexpr int64_t kSharedBytesMax = 220 << 10;
constexpr float kInfinity = __builtin_huge_valf();
constexpr float kLargest = 3.40282346638528859812e38f;
// SampleError (protocol/sampling_params.h).
constexpr int kNotFinite = 1, kNothingLeft = 2;

// sample/exp_weights.cc, operation by operation: the same bits.
__device__ __forceinline__ float exp_nonpositive(float x) {
  constexpr float kLowest = -87.0f, kRound = 12582912.0f;
  const float clamped = x > kLowest ? x : kLowest;
  const float shifted = __fadd_rn(__fmul_rn(clamped, 1.44269504088896341f), kRound);
  const float n = __fsub_rn(shifted, kRound);
  const float r = __fsub_rn(__fsub_rn(clamped, __fmul_rn(n, 0.693359375f)), __fmul_rn(n, -2.12194440e-4f));
  float p = 1.9875691500e-4f;
  p = __fadd_rn(__fmul_rn(p, r), 1.3981999507e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2f);
  p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1f);
  p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1f);
  p = __fadd_rn(__fadd_rn(__fmul_rn(p, __fmul_rn(r, r)), r), 1.0f);
  const float scaled = __uint_as_float(__float_as_uint(p) + (__float_as_uint(shifted) << 23));
  return x >= kLowest ? scaled : 0.0f;
}
__device__ __forceinline__ float weight_of(float logit, float max, float scale) {
  return exp_nonpositive(__fmul_rn(__fsub_rn(logit, max), scale));
}

// Ordered as the values are; both zeros are one.
__device__ __forceinline__ uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float value_of(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}
// Greater is better: the logit, then the lower id.
__device__ __forceinline__ uint64_t rank_of(float logit, int id) {
  return uint64_t{key_of(logit)} << 32 | static_cast<uint32_t>(~id);
}
__device__ __forceinline__ int id_of(uint64_t rank) { return static_cast<int>(~static_cast<uint32_t>(rank)); }

struct Shared {
  alignas(16) std::byte exchange[2][kBlocks][64];
  alignas(16) std::byte warps[kWarps][64];
};

__device__ __forceinline__ float max_of(float a, float b) { return a > b ? a : b; }
__device__ __forceinline__ uint64_t max_of(uint64_t a, uint64_t b) { return a > b ? a : b; }

// Counts and masses at or above three keys; one number or another elsewhere.
struct Tally {
  double mass[3];
  int32_t count[3];
  __device__ void add(const Tally& other) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      mass[i] += other.mass[i];
      count[i] += other.count[i];
    }
  }
  __device__ Tally shifted(int step) const {
    Tally moved;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      moved.mass[i] = __shfl_xor_sync(~0u, mass[i], step);
      moved.count[i] = __shfl_xor_sync(~0u, count[i], step);
    }
    return moved;
  }
};
struct Sum {
  double value;
  __device__ void add(const Sum& other) { value += other.value; }
  __device__ Sum shifted(int step) const { return {__shfl_xor_sync(~0u, value, step)}; }
};
struct Best {
  uint64_t rank;
  __device__ void add(const Best& other) { rank = max_of(rank, other.rank); }
  __device__ Best shifted(int step) const { return {__shfl_xor_sync(~0u, rank, step)}; }
};
struct Peak {
  float max;
  int32_t bad;
  __device__ void add(const Peak& other) {
    max = max_of(max, other.max);
    bad |= other.bad;
  }
  __device__ Peak shifted(int step) const {
    return {__shfl_xor_sync(~0u, max, step), __shfl_xor_sync(~0u, bad, step)};
  }
};

// A row's drawing by one cluster; every thread of every block takes the same way through it.
class Row {
 public:
  __device__ Row(const DrawParams& p, Shared& shared, float* logits, double* sums)
      : p_(p),
        shared_(shared),
        logits_(logits),
        sums_(sums),
        cluster_(cg::this_cluster()),
        block_(static_cast<int>(cluster_.block_rank())),
        row_(static_cast<int>(blockIdx.x)),
        draw_(p.rows[row_]),
        first_(block_ * p.part),
        count_(max(0, min(p.part, p.vocab - first_))),
        out_(p.results + *p.turn * p.results_stride + row_) {}

  __device__ void run() {
    const Peak raw = load();
    if (raw.bad != 0) return fail(kNotFinite);
    max_ = raw.max;
    if (draw_.score >= 0 || draw_.logprobs >= 0) {
      if (max_ > -kInfinity) {
        scale_ = 1.0f;
        logsumexp_ = static_cast<float>(static_cast<double>(max_) + log(lane_sums()));
        take_tops();
      } else if (draw_.score >= 0) {
        return fail(kNothingLeft);
      }
    }
    if (draw_.score >= 0) return finish(draw_.score);
    if (draw_.bias + draw_.masks_ends + draw_.penalises > 0) max_ = adjust();
    if (max_ == -kInfinity) return fail(kNothingLeft);
    if (draw_.inverse_temperature == 0.0f) {
      const Best best = best_below(~0ull);
      if (block_ == 0) finish(id_of(best.rank));
      return;
    }
    scale_ = draw_.inverse_temperature;
    const bool all =
        (draw_.top_k <= 0 || draw_.top_k >= p_.vocab) && draw_.top_p >= 1.0f && draw_.min_p <= 0.0f;
    lowest_ = {0, p_.vocab};
    if (!all) cut();
    pick(all);
  }

 private:
  // Of candidates in order of rank: all above `key`, and those equal to it up to id.
  struct Cut {
    uint32_t key;
    int32_t id;
  };
  struct Found {
    uint32_t key;
    int32_t above_count, at_count;  // above the key; equal to it
    double above_mass;
    bool all;  // so many, or so much, there are not: the key is the least, above_mass that of all
  };

  template <typename T>
  __device__ T of_block(T value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value.add(value.shifted(step));
    __syncthreads();  // the last use of warps is over
    if (threadIdx.x % 32 == 0) *reinterpret_cast<T*>(shared_.warps[threadIdx.x / 32]) = value;
    __syncthreads();
    T total = *reinterpret_cast<T*>(shared_.warps[0]);
#pragma unroll
    for (int w = 1; w < kWarps; ++w) total.add(*reinterpret_cast<T*>(shared_.warps[w]));
    return total;
  }
  // Each block's value to all blocks; [kBlocks] in this block's memory until the exchange after the next.
  template <typename T>
  __device__ const std::byte* exchange(const T& value) {
    static_assert(sizeof(T) <= 64);
    std::byte* mine = shared_.exchange[phase_][block_];
    if (threadIdx.x < kBlocks) {
      *reinterpret_cast<T*>(cluster_.map_shared_rank(mine, threadIdx.x)) = value;
    }
    cluster_.sync();
    const std::byte* all = shared_.exchange[phase_][0];
    phase_ ^= 1;
    return all;
  }
  template <typename T>
  __device__ T of_cluster(const T& value) {
    const std::byte* all = exchange(of_block(value));
    T total = *reinterpret_cast<const T*>(all);
#pragma unroll
    for (int b = 1; b < kBlocks; ++b) total.add(*reinterpret_cast<const T*>(all + b * 64));
    return total;
  }

  __device__ Peak load() {
    const float* from = p_.logits + int64_t{row_} * p_.vocab + first_;
    Peak peak{-kInfinity, 0};
    for (int i = threadIdx.x; i < count_; i += kThreads) {
      const float v = from[i];
      logits_[i] = v;
      if (!(v < kInfinity)) peak.bad = 1;
      peak.max = v > peak.max ? v : peak.max;
    }
    return of_cluster(peak);
  }

  // sample/exp_weights.cc's exp_sum: lanes of a group in f32, the rest in double. sums_ has each group's.
  __device__ double lane_sums() {
    const int lane = threadIdx.x % kLanes;
    Sum total{0};
    for (int base = threadIdx.x / kLanes * kGroup; base < (count_ + kGroup - 1) / kGroup * kGroup;
         base += kThreads / kLanes * kGroup) {
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kGroup; j += kLanes) {
        const int i = base + j + lane;
        if (i < count_) sum = __fadd_rn(sum, weight_of(logits_[i], max_, scale_));
      }
      sum_group(base, static_cast<double>(sum), total);
    }
    return of_cluster(total).value;
  }
  // The same of what is kept, each weight in double.
  __device__ double kept_sums() {
    const int lane = threadIdx.x % kLanes;
    Sum total{0};
    for (int base = threadIdx.x / kLanes * kGroup; base < (count_ + kGroup - 1) / kGroup * kGroup;
         base += kThreads / kLanes * kGroup) {
      double sum = 0;
#pragma unroll
      for (int j = 0; j < kGroup; j += kLanes) {
        const int i = base + j + lane;
        if (i < count_) sum += kept_weight(i);
      }
      sum_group(base, sum, total);
    }
    return of_cluster(total).value;
  }
  // Half a warp has a group.
  __device__ void sum_group(int base, double sum, Sum& total) {
    const uint32_t half = 0xffffu << (threadIdx.x & 16);
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(half, sum, step);
    if (threadIdx.x % kLanes == 0) {
      sums_[base / kGroup] = sum;
      total.value += sum;
    }
  }

  // The best that is worse than `bound`.
  __device__ Best best_below(uint64_t bound) {
    Best best{0};
    for (int i = threadIdx.x; i < count_; i += kThreads) {
      const uint64_t rank = rank_of(logits_[i], first_ + i);
      if (rank < bound) best.rank = max_of(best.rank, rank);
    }
    return of_cluster(best);
  }
  __device__ void take_tops() {
    tops_ = max(0, min(draw_.logprobs, p_.vocab));
    uint64_t bound = ~0ull;
    for (int i = 0; i < tops_; ++i) {
      bound = best_below(bound).rank;
      if (block_ == 0 && threadIdx.x == 0) {
        out_->top[i] = {id_of(bound), __fsub_rn(value_of(static_cast<uint32_t>(bound >> 32)), logsumexp_)};
      }
    }
  }

  __device__ float adjust() {
    const int32_t* lengths = p_.slots.lengths + 2 * draw_.slot;
    __syncthreads();
    if (draw_.bias != 0) {
      const int64_t at = int64_t{draw_.slot} * static_cast<int64_t>(limits::kLogitBiasMax);
      for (int i = threadIdx.x; i < lengths[0]; i += kThreads) {
        const int id = p_.slots.bias_ids[at + i] - first_;
        if (id >= 0 && id < count_) atomicAdd(logits_ + id, p_.slots.biases[at + i]);
      }
      __syncthreads();
    }
    if (draw_.masks_ends != 0) {
      const int64_t at = int64_t{draw_.slot} * static_cast<int64_t>(kSlotEndTokensMax);
      for (int i = threadIdx.x; i < lengths[1]; i += kThreads) {
        const int id = p_.slots.end_tokens[at + i] - first_;
        if (id >= 0 && id < count_) logits_[id] = -kInfinity;
      }
      __syncthreads();
    }
    const uint32_t* counts =
        draw_.penalises != 0 ? p_.slots.counts + int64_t{draw_.slot} * p_.vocab + first_ : nullptr;
    Peak peak{-kInfinity, 0};
    for (int i = threadIdx.x; i < count_; i += kThreads) {
      float v = logits_[i];
      if (counts != nullptr && counts[i] != 0) {
        v = v > 0.0f ? __fdiv_rn(v, draw_.repetition_penalty) : __fmul_rn(v, draw_.repetition_penalty);
        v = fminf(v, kLargest);
        const uint32_t generated = counts[i] & ~kInPrompt;
        if (generated != 0) {
          v = __fsub_rn(v, __fmul_rn(draw_.frequency_penalty, static_cast<float>(generated)));
          v = __fsub_rn(v, draw_.presence_penalty);
        }
        logits_[i] = v;
      }
      peak.max = v > peak.max ? v : peak.max;
    }
    return of_cluster(peak).max;  // passes a barrier: the block's logits are as adjusted from here
  }

  __device__ bool is_kept(float logit, int id) const {
    const uint32_t key = key_of(logit);
    return key > lowest_.key || (key == lowest_.key && id <= lowest_.id);
  }
  // Of what top_k, top_p and min_p keep, else 0.
  __device__ double kept_weight(int i) const {
    if (!is_kept(logits_[i], first_ + i)) return 0;
    const float weight = weight_of(logits_[i], max_, scale_);
    return weight >= draw_.min_p ? static_cast<double>(weight) : 0;
  }

  __device__ Tally tally(const uint32_t (&keys)[3]) {
    Tally sums{};
    for (int i = threadIdx.x; i < count_; i += kThreads) {
      const uint32_t key = key_of(logits_[i]);
      if (key < keys[0]) continue;
      const auto weight = static_cast<double>(weight_of(logits_[i], max_, scale_));
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        if (key < keys[j]) continue;
        sums.mass[j] += weight;
        ++sums.count[j];
      }
    }
    return of_cluster(sums);
  }

  // The greatest key at or above which there are `count` candidates of `mass` together; of those with any weight. Four
  // parts a pass.
  __device__ Found search(int32_t count, double mass) {
    uint32_t low = key_of(max_ - 88.0f / scale_);
    uint32_t high = key_of(max_) + 1;
    Found found{low, 0, 0, 0.0, false};
    const Tally all = tally({low, low, low});
    if (all.count[0] < count || all.mass[0] < mass) return {low, 0, all.count[0], all.mass[0], true};
    found.at_count = all.count[0];
    // at_count: at or above low; above_count and above_mass: at or above high.
    while (high - low > 1 && found.at_count - found.above_count > 1) {
      const uint64_t range = high - low;
      uint32_t keys[3];
#pragma unroll
      for (int j = 0; j < 3; ++j) keys[j] = low + static_cast<uint32_t>(range * (j + 1) / 4);
      const Tally sums = tally(keys);
      int reached = -1;
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        if (sums.count[j] >= count && sums.mass[j] >= mass) reached = j;
      }
      if (reached < 2) {
        high = keys[reached + 1];
        found.above_count = sums.count[reached + 1];
        found.above_mass = sums.mass[reached + 1];
      }
      if (reached >= 0) {
        low = keys[reached];
        found.at_count = sums.count[reached];
      }
    }
    found.key = low;
    if (high - low > 1) found.key = static_cast<uint32_t>(best_below(uint64_t{high} << 32).rank >> 32);
    found.at_count -= found.above_count;
    return found;
  }

  // The id of the take-th, from 1, of the candidates equal to key.
  __device__ int32_t id_of_equal(uint32_t key, int32_t take) {
    Tally mine{};
    for (int i = threadIdx.x; i < count_; i += kThreads) mine.count[0] += key_of(logits_[i]) == key ? 1 : 0;
    const std::byte* all = exchange(of_block(mine));
    int owner = 0;
    for (; owner < kBlocks - 1; ++owner) {
      const int32_t there = reinterpret_cast<const Tally*>(all + owner * 64)->count[0];
      if (take <= there) break;
      take -= there;
    }
    Best found{0};
    if (block_ == owner && threadIdx.x < 32) {
      for (int base = 0; base < count_; base += 32) {
        const int i = base + static_cast<int>(threadIdx.x);
        uint32_t equal = __ballot_sync(~0u, i < count_ && key_of(logits_[i]) == key);
        if (take > __popc(equal)) {
          take -= __popc(equal);
          continue;
        }
        for (; take > 1; --take) equal &= equal - 1;
        found.rank = static_cast<uint64_t>(first_ + base + __ffs(static_cast<int>(equal)) - 1);
        break;
      }
    }
    return static_cast<int32_t>(of_cluster(found).rank);
  }

  // Sets lowest_: the last in order of rank that top_k and top_p keep. (min_p is a matter of each one's weight.)
  __device__ void cut() {
    double mass = draw_.top_p < 1.0f && draw_.top_k <= 0 ? lane_sums() : 0;
    lowest_.key = key_of(max_ - 88.0f / scale_);
    if (draw_.top_k > 0 && draw_.top_k < p_.vocab) {
      const Found found = search(draw_.top_k, 0);
      mass = found.above_mass;
      if (!found.all) {
        const int32_t take = draw_.top_k - found.above_count;
        lowest_ = {found.key, p_.vocab};
        if (take < found.at_count) lowest_.id = id_of_equal(found.key, take);
        mass += static_cast<double>(weight_of(value_of(found.key), max_, scale_)) * take;
      }
    } else if (draw_.top_k > 0) {
      mass = draw_.top_p < 1.0f ? lane_sums() : 0;
    }
    if (draw_.top_p >= 1.0f) return;
    const double wanted = static_cast<double>(draw_.top_p) * mass;
    const Found found = search(1, wanted);
    if (found.all) return;
    const auto weight = static_cast<double>(weight_of(value_of(found.key), max_, scale_));
    const double short_of = ceil((wanted - found.above_mass) / weight);
    const int32_t take = short_of < 1                ? 1
                         : short_of < found.at_count ? static_cast<int32_t>(short_of)
                                                     : found.at_count;
    Cut last{found.key, p_.vocab};
    if (take < found.at_count) last.id = id_of_equal(found.key, take);
    if (last.key > lowest_.key || (last.key == lowest_.key && last.id < lowest_.id)) lowest_ = last;
  }

  // By inversion, in order of id: blocks, groups, values.
  __device__ void pick(bool all) {
    Sum mine{0};
    all ? lane_sums() : kept_sums();
    for (int g = threadIdx.x; g < (count_ + kGroup - 1) / kGroup; g += kThreads) mine.value += sums_[g];
    const std::byte* parts = exchange(of_block(mine));
    const auto part = [&](int b) { return reinterpret_cast<const Sum*>(parts + b * 64)->value; };
    double total = 0;
    for (int b = 0; b < kBlocks; ++b) total += part(b);
    double left = draw_.uniform * total;
    int owner = -1, last = 0;
    for (int b = 0; b < kBlocks && owner < 0; ++b) {
      if (part(b) > 0) last = b;
      if (left < part(b)) {
        owner = b;
      } else {
        left -= part(b);
      }
    }
    if (owner < 0) {  // rounding left something: the last with any weight
      owner = last;
      left = __longlong_as_double(0x7ff0000000000000ll);
    }
    if (block_ != owner || threadIdx.x >= 32) return;
    const int groups = (count_ + kGroup - 1) / kGroup;
    const int group = find(groups, left, [&](int g) { return sums_[g]; });
    const int base = group * kGroup;
    const int i = find(min(kGroup, count_ - base), left, [&](int k) {
      return all ? static_cast<double>(weight_of(logits_[base + k], max_, scale_)) : kept_weight(base + k);
    });
    finish(first_ + base + i);
  }
  // By one warp: the first of `count` at which the sum of weights exceeds `left`, which loses those before it; the last
  // with any weight where none does.
  template <typename Weight>
  __device__ int find(int count, double& left, const Weight& weight) {
    const int lane = static_cast<int>(threadIdx.x), each = (count + 31) / 32;
    const int begin = min(count, lane * each), end = min(count, begin + each);
    double mine = 0;
    for (int i = begin; i < end; ++i) mine += weight(i);
    int owner = -1, last = 0;
    double remaining = left;
    for (int l = 0; l < 32; ++l) {
      const double there = __shfl_sync(~0u, mine, l);
      if (owner >= 0) continue;
      if (there > 0) last = l;
      if (remaining < there) {
        owner = l;
      } else {
        remaining -= there;
      }
    }
    if (owner < 0) {
      owner = last;
      remaining = __longlong_as_double(0x7ff0000000000000ll);
    }
    int chosen = begin;
    if (lane == owner) {
      for (int i = begin; i < end; ++i) {
        const double there = weight(i);
        if (there <= 0) continue;
        chosen = i;
        if (remaining < there) break;
        remaining -= there;
      }
    }
    left = __shfl_sync(~0u, remaining, owner);
    return __shfl_sync(~0u, chosen, owner);
  }

  // By the first thread of one block.
  __device__ void finish(int token) {
    if (threadIdx.x != 0 || (draw_.score >= 0 && block_ != 0)) return;
    out_->token = token;
    out_->error = 0;
    out_->tops = tops_;
    const bool wanted = draw_.score >= 0 || draw_.logprobs >= 0;
    out_->logprob = wanted ? __fsub_rn(p_.logits[int64_t{row_} * p_.vocab + token], logsumexp_) : 0;
    if (draw_.score >= 0) return;
    p_.slots.last[draw_.slot] = token;
    if (draw_.penalises != 0) ++p_.slots.counts[int64_t{draw_.slot} * p_.vocab + token];
  }
  __device__ void fail(int error) {
    if (threadIdx.x != 0 || block_ != 0) return;
    out_->token = draw_.score;
    out_->error = error;
    out_->tops = tops_;
    // Rows that are in flight need an id that exists.
    if (draw_.score < 0) p_.slots.last[draw_.slot] = 0;
  }

  const DrawParams& p_;
  Shared& shared_;
  float* logits_;  // [part] this block's
  double* sums_;   // [part / 64]
  cg::cluster_group cluster_;
  int block_, row_;
  DrawRow draw_;
  int first_, count_;
  Drawn* out_;
  int phase_ = 0;
  float max_ = 0, scale_ = 1, logsumexp_ = 0;
  int32_t tops_ = 0;
  Cut lowest_{};
};

__global__ __launch_bounds__(kThreads) void draw_kernel(const __grid_constant__ DrawParams p) {
  extern __shared__ __align__(16) std::byte memory[];
  __shared__ Shared shared;
  let_next_kernel_start();
  wait_for_previous_kernel();
  cg::this_cluster().sync();  // a block's memory may be written once it runs
  auto* logits = reinterpret_cast<float*>(memory);
  Row(p, shared, logits, reinterpret_cast<double*>(logits + p.part)).run();
}

__global__ __launch_bounds__(kThreads) void count_kernel(const __grid_constant__ CountParams p) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < p.count;
       i += int64_t{gridDim.x} * kThreads) {
    if (i < p.prompt) {
      atomicOr(p.counts + p.ids[i], kInPrompt);
    } else {
      atomicAdd(p.counts + p.ids[i], 1u);
    }
  }
}

int64_t part_of(int64_t vocab) {
  const int64_t groups = (vocab + kGroup - 1) / kGroup;
  return (groups + kBlocks - 1) / kBlocks * kGroup;
}
int64_t shared_bytes(int64_t part) {
  return part * static_cast<int64_t>(sizeof(float)) + part / kGroup * static_cast<int64_t>(sizeof(double));
}

}  // namespace

Status check_draw(int64_t vocab) {
  if (shared_bytes(part_of(vocab)) <= kSharedBytesMax) return {};
  return unimplemented("a vocabulary of " + std::to_string(vocab) +
                       " tokens: the CUDA backend supports up to 400000");
}

Status launch_draw(DrawParams params, int64_t rows, cudaStream_t stream) {
  params.part = static_cast<int32_t>(part_of(params.vocab));
  return sm90::launch(draw_kernel,
                      {.grid = dim3(static_cast<unsigned>(rows), kBlocks, 1),
                       .threads = kThreads,
                       .smem_bytes = static_cast<int>(shared_bytes(params.part)),
                       .cluster_y = kBlocks},
                      params, stream);
}

Status launch_count(const CountParams& params, cudaStream_t stream) {
  const auto blocks =
      static_cast<unsigned>(std::clamp<int64_t>((params.count + kThreads - 1) / kThreads, 1, 256));
  return sm90::launch(count_kernel, {.grid = dim3(blocks, 1, 1), .threads = kThreads, .overlap = false},
                      params, stream);
}

}  // namespace gantry::cuda
