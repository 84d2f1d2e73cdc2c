#include "kernels/cuda/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/experts_fp8.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/prepare.h"
#include "kernels/cuda/state.h"

namespace gantry {
namespace {

bool begin_step(const OpContext& context, const StepInputs& inputs) {
  return cuda::state_of(context).begin(inputs);
}
Status finish(const OpContext& context) { return cuda::state_of(context).finish(); }
void draw(const OpContext& context, const DrawArgs& args) { cuda::state_of(context).draw(args); }
Status launch(const OpContext& context) { return cuda::state_of(context).launch(); }
Result<std::span<const Drawn>> collect(const OpContext& context) { return cuda::state_of(context).collect(); }
void start_slot(const OpContext& context, const SlotStart& start) {
  cuda::state_of(context).start_slot(start);
}

constexpr Backend kBackend = {
    .name = "cuda",
    .packed_bytes = cuda::packed_bytes,
    .prepare = cuda::prepare,
    .scratch_bytes = cuda::scratch_bytes,
    .kv_block_bytes = cuda::kv_block_bytes,
    .embed = cuda::embed,
    .norm = cuda::norm,
    .norm_linear = cuda::norm_linear,
    .qkv_project = cuda::qkv_project,
    .attend = cuda::attend,
    .mla_project = cuda::mla_project,
    .mla_attend = cuda::mla_attend,
    .mlp = cuda::mlp,
    .moe = cuda::moe,
    .head = cuda::head,
    .memory = &cuda::kDeviceMemory,
    .create_state = cuda::State::create,
    .begin_step = begin_step,
    .finish = finish,
    .draw = draw,
    .launch = launch,
    .collect = collect,
    .start_slot = start_slot,
    .takes_shared_entry = cuda::takes_shared_entry,
    .kv_dtype = DType::kBF16,
};

}  // namespace

Result<const Backend*> cuda_backend() {
  static const Result<CudaDevice> device = cuda_device(0);
  if (!device.ok()) return device.status();
  return &kBackend;
}

}  // namespace gantry
