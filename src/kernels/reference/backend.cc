#include "kernels/reference/backend.h"

#include "kernels/ops/scratch.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/draw.h"
#include "kernels/reference/kv.h"
#include "kernels/reference/moe.h"

namespace gantry {
namespace reference {
namespace {

constexpr Backend kBackend = {
    .name = "reference",
    .packed_bytes = adjoined_bytes,
    .prepare = adjoined_weight,
    .scratch_bytes = scratch_bytes,
    .kv_block_bytes = kv_block_bytes,
    .embed = embed,
    .norm = norm,
    .norm_linear = norm_linear,
    .qkv_project = qkv_project,
    .attend = attend,
    .mla_project = mla_project,
    .mla_attend = mla_attend,
    .mlp = mlp,
    .moe = moe,
    .head = head,
    .create_state = create_state,
    .begin_step = begin_step,
    .finish = finish,
    .draw = draw,
    .launch = launch,
    .collect = collect,
    .start_slot = start_slot,
};

}  // namespace

size_t scratch_bytes(const ScratchSpec& spec) {
  const size_t row = Scratch::size_of<float>(2 * spec.threads * spec.width_max);
  const size_t linear = row + Scratch::size_of<float>(spec.rows_max * spec.width_max);
  const size_t moe = spec.experts > 0 ? row + moe_scratch_bytes(spec) : 0;
  const size_t attention = attention_scratch_bytes(spec);
  const size_t most = linear > moe ? linear : moe;
  return most > attention ? most : attention;
}

}  // namespace reference

const Backend* reference_backend() { return &reference::kBackend; }

}  // namespace gantry
