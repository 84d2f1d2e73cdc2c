#include "kernels/cpu/attention_core.h"

#include <algorithm>

#include "base/limits.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/micro_kernels.h"
#include "kernels/ops/scratch.h"

namespace gantry::cpu {
namespace {

constexpr int64_t kTokens = limits::kKvBlockTokens;
// Softmax state starts afresh every 256 positions and the states are merged in order, in every path: so the
// partitions of a long context can run on several threads without a change of result.
constexpr int64_t kTilesPerPartition = 4;
constexpr int64_t kPartition = kTilesPerPartition * kTokens;
// Below this many tasks for each thread, partitions become tasks of their own.
constexpr int64_t kTasksPerThread = 16;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t padded(int64_t dim) { return ceil_div(dim, 16) * 16; }

// Query vectors of one task: `rows` rows times `heads` heads of one KV head.
struct Task {
  const Segment* segment;
  int64_t first_row;  // inside the segment
  int64_t rows;
  int32_t kv_head;
  int32_t first_head;
  int32_t heads;
  int64_t partitions;
};

// Softmax state of a task's vectors over one partition.
struct State {
  float* max;     // [kVectorsMax]
  float* weight;  // [kVectorsMax]
  float* sums;    // [kVectorsMax, width]
};
int64_t state_floats(int64_t width) { return kVectorsMax * (2 + width); }

class Attention {
 public:
  Attention(const OpContext& context, const AttentionWork& work)
      : micro_(micro_of(context)),
        work_(work),
        threads_(context.pool->size()),
        width_(padded(work.value_dim)),
        group_(work.heads / work.kv.layout.kv_heads),
        heads_per_task_(std::min<int64_t>(group_, kVectorsMax)),
        head_tasks_(ceil_div(group_, heads_per_task_)),
        rows_per_task_(std::max<int64_t>(1, kVectorsMax / heads_per_task_)) {}

  void run(const OpContext& context) {
    Scratch scratch(context.scratch);
    const auto segments = static_cast<int64_t>(work_.segments.size());
    first_task_ = scratch.take<int64_t>(segments + 1);
    int64_t partitions_max = 0;
    first_task_[0] = 0;
    for (int64_t s = 0; s < segments; ++s) {
      const Segment& segment = work_.segments[static_cast<size_t>(s)];
      first_task_[s + 1] = first_task_[s] + ceil_div(segment.rows, rows_per_task_) * tasks_per_rows();
      partitions_max =
          std::max(partitions_max, ceil_div(int64_t{segment.first_position} + segment.rows, kPartition));
    }
    const int64_t tasks = first_task_[segments];
    scores_ = scratch.take<float>(threads_ * kVectorsMax * kTokens);
    own_ = scratch.take<float>(threads_ * 2 * state_floats(width_));
    if (partitions_max < 2 || tasks >= kTasksPerThread * threads_) {
      context.pool->parallel_for(tasks, 1, [&](int64_t begin, int64_t end, int thread) {
        // The last rows see most: they go first.
        for (int64_t i = begin; i < end; ++i) whole_task(task_at(tasks - 1 - i), thread);
      });
      return;
    }
    float* states = scratch.take<float>(tasks * partitions_max * state_floats(width_));
    const auto state_of = [&](int64_t task, int64_t partition) {
      return state(states + (task * partitions_max + partition) * state_floats(width_));
    };
    context.pool->parallel_for(tasks * partitions_max, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        const Task task = task_at(i / partitions_max);
        const int64_t partition = i % partitions_max;
        if (partition < task.partitions)
          run_partition(task, partition, thread, state_of(i / partitions_max, partition));
      }
    });
    context.pool->parallel_for(tasks, kTasksPerThread, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const Task task = task_at(i);
        const State total = state_of(i, 0);
        for (int64_t p = 1; p < task.partitions; ++p) merge(task, p, state_of(i, p), total);
        finish(task, total);
      }
    });
  }

 private:
  int64_t tasks_per_rows() const { return head_tasks_ * work_.kv.layout.kv_heads; }

  State state(float* base) const { return {base, base + kVectorsMax, base + 2 * kVectorsMax}; }

  Task task_at(int64_t index) const {
    const auto segments = static_cast<int64_t>(work_.segments.size());
    const int64_t s = std::upper_bound(first_task_, first_task_ + segments + 1, index) - first_task_ - 1;
    const Segment& segment = work_.segments[static_cast<size_t>(s)];
    const int64_t local = index - first_task_[s];
    const int64_t row_tile = local / tasks_per_rows();
    const int64_t head_task = local % tasks_per_rows();
    Task task{};
    task.segment = &segment;
    task.first_row = row_tile * rows_per_task_;
    task.rows = std::min<int64_t>(rows_per_task_, segment.rows - task.first_row);
    task.kv_head = static_cast<int32_t>(head_task / head_tasks_);
    const int64_t first = head_task % head_tasks_ * heads_per_task_;
    task.first_head = static_cast<int32_t>(task.kv_head * group_ + first);
    task.heads = static_cast<int32_t>(std::min(heads_per_task_, group_ - first));
    task.partitions = ceil_div(segment.first_position + task.first_row + task.rows, kPartition);
    return task;
  }

  // Vectors of the task that see nothing of the partition: those of its first rows.
  int blind(const Task& task, int64_t partition) const {
    const int64_t first_position = task.segment->first_position + task.first_row;
    return static_cast<int>(std::clamp<int64_t>(partition * kPartition - first_position, 0, task.rows) *
                            task.heads);
  }

  void run_partition(const Task& task, int64_t partition, int thread, const State& out) const {
    const KvView& kv = work_.kv;
    const int64_t key_dim = kv.layout.key_dim;
    const float* q[kVectorsMax];
    int32_t visible[kVectorsMax];
    int vectors = 0;
    const int skipped = blind(task, partition);
    for (int64_t r = skipped / task.heads; r < task.rows; ++r) {
      const int64_t row = task.segment->first_row + task.first_row + r;
      for (int32_t h = 0; h < task.heads; ++h) {
        q[vectors] = work_.q + (row * work_.heads + task.first_head + h) * key_dim;
        visible[vectors++] = static_cast<int32_t>(task.segment->first_position + task.first_row + r + 1);
      }
    }
    const void* keys[kTilesPerPartition];
    const void* values[kTilesPerPartition];
    const int64_t first_tile = partition * kTilesPerPartition;
    const int64_t tiles = std::min(kTilesPerPartition, ceil_div(visible[vectors - 1], kTokens) - first_tile);
    for (int64_t t = 0; t < tiles; ++t) {
      const int32_t block = task.segment->block_table[first_tile + t];
      keys[t] = key_tile(kv, block, task.kv_head);
      values[t] = value_tile(kv, block, task.kv_head);
    }
    AttendCall call;
    call.q = q;
    call.visible = visible;
    call.vectors = vectors;
    call.first_tile = static_cast<int>(first_tile);
    call.tiles = static_cast<int>(tiles);
    call.keys = keys;
    call.values = values;
    call.keys_by_row = kv.layout.value_dim == 0;
    call.key_dim = static_cast<int>(key_dim);
    call.key_stride = key_stride(kv.layout);
    call.value_dim = work_.value_dim;
    call.value_stride = value_stride(kv.layout);
    call.scale = work_.scale;
    call.scores = scores_ + thread * kVectorsMax * kTokens;
    call.max = out.max + skipped;
    call.weight = out.weight + skipped;
    call.sums = out.sums + skipped * width_;
    switch (kv.layout.dtype) {
      case DType::kF16:
        return micro_.attend_f16(call);
      case DType::kBF16:
        return micro_.attend_bf16(call);
      default:
        return micro_.attend_f32(call);
    }
  }

  void merge(const Task& task, int64_t partition, const State& next, const State& total) const {
    for (int v = blind(task, partition); v < task.rows * task.heads; ++v) {
      micro_.merge_states(next.sums + v * width_, next.max[v], next.weight[v], width_,
                          total.sums + v * width_, total.max + v, total.weight + v);
    }
  }

  void finish(const Task& task, const State& total) const {
    for (int64_t r = 0; r < task.rows; ++r) {
      const int64_t row = task.segment->first_row + task.first_row + r;
      for (int32_t h = 0; h < task.heads; ++h) {
        const int64_t v = r * task.heads + h;
        micro_.divide(total.sums + v * width_, total.weight[v], work_.value_dim,
                      work_.out + (row * work_.heads + task.first_head + h) * work_.value_dim);
      }
    }
  }

  void whole_task(const Task& task, int thread) const {
    const State total = state(own_ + thread * 2 * state_floats(width_));
    const State next = state(own_ + (thread * 2 + 1) * state_floats(width_));
    run_partition(task, 0, thread, total);
    for (int64_t p = 1; p < task.partitions; ++p) {
      run_partition(task, p, thread, next);
      merge(task, p, next, total);
    }
    finish(task, total);
  }

  const MicroKernels& micro_;
  const AttentionWork& work_;
  int64_t threads_;
  int64_t width_;  // of a value sum, padded
  int64_t group_;  // heads that share a KV head
  int64_t heads_per_task_;
  int64_t head_tasks_;
  int64_t rows_per_task_;
  int64_t* first_task_ = nullptr;  // [segments + 1]
  float* scores_ = nullptr;        // [threads, kVectorsMax, 64]
  float* own_ = nullptr;           // [threads, 2 states]
};

}  // namespace

void attention(const OpContext& context, const AttentionWork& work) { Attention(context, work).run(context); }

void attend(const OpContext& context, const AttendArgs& args) {
  attention(context, {.q = args.q,
                      .rows = args.rows,
                      .heads = args.heads,
                      .value_dim = args.kv.layout.value_dim,
                      .scale = args.scale,
                      .segments = args.segments,
                      .kv = args.kv,
                      .out = args.out});
}

size_t attention_scratch_bytes(const ScratchSpec& spec) {
  const int64_t state = state_floats(padded(spec.head_dim_max));
  return Scratch::size_of<int64_t>(spec.rows_max + 1) +
         Scratch::size_of<float>(spec.threads * kVectorsMax * kTokens) +
         Scratch::size_of<float>(spec.threads * 2 * state) +
         Scratch::size_of<float>(kTasksPerThread * spec.threads * ceil_div(spec.context_max, kPartition) *
                                 state);
}

}  // namespace gantry::cpu
