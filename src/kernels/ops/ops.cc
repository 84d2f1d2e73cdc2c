#include "kernels/ops/ops.h"

#include "base/check.h"
#include "base/limits.h"
#include "kernels/ops/gate.h"

namespace gantry::ops {
namespace {

void check_context(const OpContext& context) {
  GANTRY_CHECK(context.backend != nullptr && context.pool != nullptr);
  GANTRY_CHECK(reinterpret_cast<uintptr_t>(context.scratch.data()) % 64 == 0) << "scratch is not aligned";
}

void check_weight(const PackedWeight* weight, int64_t rows, int64_t cols, int64_t batch = 1) {
  GANTRY_CHECK(weight != nullptr && *weight) << "no weight";
  GANTRY_CHECK(weight->rows == rows && weight->cols == cols && weight->batch == batch)
      << "weight " << weight->batch << " x [" << weight->rows << ", " << weight->cols << "], want " << batch
      << " x [" << rows << ", " << cols << "]";
}

void check_segments(std::span<const Segment> segments, int64_t rows) {
  int64_t next = 0;
  for (const Segment& segment : segments) {
    GANTRY_CHECK(segment.first_row == next) << "segments leave a gap before row " << segment.first_row;
    GANTRY_CHECK(segment.rows > 0 && segment.first_position >= 0 && segment.block_table != nullptr);
    next += segment.rows;
  }
  GANTRY_CHECK(next == rows) << "segments cover " << next << " of " << rows << " rows";
}

void check_kv(const OpContext& context, const KvView& kv) {
  const KvLayout& layout = kv.layout;
  GANTRY_CHECK(layout.dtype == DType::kF32 || layout.dtype == DType::kF16 || layout.dtype == DType::kBF16)
      << "KV cache of " << to_string(layout.dtype);
  GANTRY_CHECK(layout.kv_heads > 0 && layout.key_dim > 0 && layout.value_dim >= 0 && kv.base != nullptr);
  GANTRY_CHECK(kv.block_stride >= static_cast<int64_t>(context.backend->kv_block_bytes(layout)))
      << "KV block stride " << kv.block_stride;
}

void check_rope(const RopeRows& rope, int32_t dim) {
  GANTRY_CHECK(rope.pairs > 0 && 2 * rope.pairs <= dim) << rope.pairs << " rope pairs in " << dim;
  GANTRY_CHECK(rope.cos != nullptr && rope.sin != nullptr);
}

}  // namespace

bool begin_step(const OpContext& context, const StepInputs& inputs) {
  check_context(context);
  return context.backend->begin_step != nullptr && context.backend->begin_step(context, inputs);
}

void finish(const OpContext& context) {
  if (context.backend->finish == nullptr) return;
  const Status status = context.backend->finish(context);
  GANTRY_CHECK(status.ok()) << status.message();
}

void launch(const OpContext& context) {
  const Status status = context.backend->launch(context);
  GANTRY_CHECK(status.ok()) << status.message();
}

std::span<const Drawn> collect(const OpContext& context) {
  const Result<std::span<const Drawn>> drawn = context.backend->collect(context);
  GANTRY_CHECK(drawn.ok()) << drawn.status().message();
  return *drawn;
}

void start_slot(const OpContext& context, const SlotStart& start) {
  GANTRY_CHECK(start.slot >= 0 && start.biases.size() <= limits::kLogitBiasMax &&
               start.end_tokens.size() <= kSlotEndTokensMax);
  context.backend->start_slot(context, start);
}

void embed(const OpContext& context, const EmbedArgs& args) {
  check_context(context);
  GANTRY_CHECK(args.table.shape.rank() == 2 && args.table.data != nullptr);
  if (args.ids.empty()) return;
  GANTRY_CHECK(args.out != nullptr);
  for (const int32_t id : args.ids) {
    const bool last = id < 0 && context.backend->draw != nullptr;
    GANTRY_CHECK(last || (id >= 0 && id < args.table.shape[0]))
        << "token " << id << " of " << args.table.shape[0];
  }
  context.backend->embed(context, args);
}

void norm(const OpContext& context, const NormArgs& args) {
  check_context(context);
  GANTRY_CHECK(args.width > 0 && args.out_stride >= args.width && args.norm.weight != nullptr);
  if (args.rows == 0) return;
  GANTRY_CHECK(args.rows > 0 && args.x != nullptr && args.out != nullptr && args.x != args.out);
  context.backend->norm(context, args);
}

void norm_linear(const OpContext& context, const NormLinearArgs& args) {
  check_context(context);
  GANTRY_CHECK(args.weight != nullptr);
  check_weight(args.weight, args.weight->rows, args.weight->cols);
  if (args.rows == 0) return;
  GANTRY_CHECK(args.rows > 0 && args.x != nullptr && args.out != nullptr && args.x != args.out);
  context.backend->norm_linear(context, args);
}

void qkv_project(const OpContext& context, const QkvProjectArgs& args) {
  check_context(context);
  GANTRY_CHECK(args.heads > 0 && args.kv_heads > 0 && args.head_dim > 0);
  GANTRY_CHECK(args.weight != nullptr);
  check_weight(args.weight, int64_t{args.heads + 2 * args.kv_heads} * args.head_dim, args.weight->cols);
  if (args.rows == 0) return;
  GANTRY_CHECK(args.x != nullptr && args.q != nullptr && args.qkv != nullptr);
  check_rope(args.rope, args.head_dim);
  check_segments(args.segments, args.rows);
  check_kv(context, args.kv);
  const KvLayout& layout = args.kv.layout;
  GANTRY_CHECK(layout.kv_heads == args.kv_heads && layout.key_dim == args.head_dim &&
               layout.value_dim == args.head_dim);
  context.backend->qkv_project(context, args);
}

void attend(const OpContext& context, const AttendArgs& args) {
  check_context(context);
  if (args.rows == 0) return;
  check_segments(args.segments, args.rows);
  check_kv(context, args.kv);
  GANTRY_CHECK(args.q != nullptr && args.out != nullptr && args.q != args.out &&
               args.kv.layout.value_dim > 0);
  GANTRY_CHECK(args.heads > 0 && args.heads % args.kv.layout.kv_heads == 0)
      << args.heads << " heads over " << args.kv.layout.kv_heads << " KV heads";
  context.backend->attend(context, args);
}

void mla_project(const OpContext& context, const MlaProjectArgs& args) {
  check_context(context);
  GANTRY_CHECK(args.heads > 0 && args.q_lora >= 0 && args.latent > 0 && args.nope > 0 && args.rope_dim > 0);
  GANTRY_CHECK(args.q_a_kv_a != nullptr);
  const int64_t hidden = args.q_a_kv_a->cols;
  check_weight(args.q_a_kv_a, int64_t{args.q_lora} + args.latent + args.rope_dim, hidden);
  check_weight(args.q_b, int64_t{args.heads} * (args.nope + args.rope_dim),
               args.q_lora > 0 ? args.q_lora : hidden);
  if (args.rows == 0) return;
  check_weight(args.w_uk, args.latent, args.nope, args.heads);
  GANTRY_CHECK(args.x != nullptr && args.q != nullptr && args.workspace != nullptr);
  check_rope(args.rope, args.rope_dim);
  check_segments(args.segments, args.rows);
  check_kv(context, args.kv);
  const KvLayout& layout = args.kv.layout;
  GANTRY_CHECK(layout.kv_heads == 1 && layout.key_dim == args.latent + args.rope_dim &&
               layout.value_dim == 0);
  context.backend->mla_project(context, args);
}

void mla_attend(const OpContext& context, const MlaAttendArgs& args) {
  check_context(context);
  if (args.rows == 0) return;
  check_segments(args.segments, args.rows);
  check_kv(context, args.kv);
  const KvLayout& layout = args.kv.layout;
  GANTRY_CHECK(args.heads > 0 && args.latent > 0 && args.value_dim > 0);
  GANTRY_CHECK(layout.kv_heads == 1 && layout.key_dim > args.latent && layout.value_dim == 0);
  check_weight(args.w_uv, args.value_dim, args.latent, args.heads);
  GANTRY_CHECK(args.q != nullptr && args.attended != nullptr && args.out != nullptr);
  context.backend->mla_attend(context, args);
}

void mlp(const OpContext& context, const MlpArgs& args) {
  check_context(context);
  GANTRY_CHECK(args.gate_up != nullptr && args.down != nullptr);
  GANTRY_CHECK(args.gate_up->rows == 2 * args.down->cols) << "gate and up are not of one size";
  check_weight(args.gate_up, args.gate_up->rows, args.gate_up->cols);
  check_weight(args.down, args.down->rows, args.down->cols);
  if (args.rows == 0) return;
  GANTRY_CHECK(args.x != nullptr && args.workspace != nullptr && args.out != nullptr);
  context.backend->mlp(context, args);
}

void moe(const OpContext& context, const MoeArgs& args) {
  check_context(context);
  GANTRY_CHECK(gate_params_valid(args.gate))
      << args.gate.experts << " experts, " << args.gate.groups << " groups, best " << args.gate.topk_group
      << " kept, " << args.gate.experts_per_token << " a token";
  GANTRY_CHECK(args.gate_up != nullptr && args.down != nullptr);
  GANTRY_CHECK(!args.shared_entry ||
               (args.shared_down == nullptr && context.backend->takes_shared_entry != nullptr));
  const int64_t entries = args.gate_up->batch, experts = entries - (args.shared_entry ? 1 : 0);
  GANTRY_CHECK(args.first_expert >= 0 && args.first_expert + experts <= args.gate.experts)
      << "experts " << args.first_expert << " + " << experts << " of " << args.gate.experts;
  GANTRY_CHECK(experts == args.gate.experts || context.backend->memory == nullptr)
      << "a GPU has all experts of a layer";
  check_weight(args.gate_up, 2 * args.down->cols, args.hidden, entries);
  check_weight(args.down, args.hidden, args.down->cols, entries);
  GANTRY_CHECK((args.shared_gate_up == nullptr) == (args.shared_down == nullptr));
  if (args.shared_down != nullptr) {
    check_weight(args.shared_gate_up, 2 * args.shared_down->cols, args.hidden);
    check_weight(args.shared_down, args.hidden, args.shared_down->cols);
  }
  check_weight(args.gate_weight, args.gate.experts, args.hidden);
  GANTRY_CHECK(args.gate_weight->compute == Compute::kF32) << "the gate's logits are f32 throughout";
  if (args.rows == 0) return;
  GANTRY_CHECK(args.x != nullptr && args.workspace != nullptr && args.out != nullptr);
  context.backend->moe(context, args);
}

void head(const OpContext& context, const HeadArgs& args) {
  check_context(context);
  GANTRY_CHECK(args.weight != nullptr);
  check_weight(args.weight, args.weight->rows, args.weight->cols);
  if (args.rows.empty()) return;
  GANTRY_CHECK(args.x != nullptr && args.workspace != nullptr);
  GANTRY_CHECK(args.out != nullptr || context.backend->draw != nullptr);
  context.backend->head(context, args);
}

void draw(const OpContext& context, const DrawArgs& args) {
  check_context(context);
  GANTRY_CHECK(context.backend->draw != nullptr && args.vocab > 0);
  if (args.rows.empty()) return;
  for (const DrawRow& row : args.rows) {
    GANTRY_CHECK(row.score < args.vocab && row.logprobs <= limits::kTopLogprobsMax);
  }
  context.backend->draw(context, args);
}

}  // namespace gantry::ops
