#include "kernels/cpu/backends.h"

#include <algorithm>

#include "kernels/cpu/attention_core.h"
#include "kernels/cpu/dense.h"
#include "kernels/cpu/kernels_generic.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/micro_kernels.h"
#include "kernels/cpu/mla.h"
#include "kernels/cpu/moe.h"
#include "kernels/cpu/packing.h"
#if defined(__x86_64__)
#include "kernels/cpu/kernels_avx2.h"
#include "kernels/cpu/kernels_avx512.h"
#endif

namespace gantry {
namespace cpu {
namespace {

size_t scratch_bytes(const ScratchSpec& spec) {
  return std::max({dense_scratch_bytes(spec), attention_scratch_bytes(spec), mla_scratch_bytes(spec),
                   moe_scratch_bytes(spec)});
}

CpuBackend make_backend(std::string_view name, const MicroKernels* micro) {
  CpuBackend backend;
  backend.name = name;
  backend.packed_bytes = packed_weight_bytes;
  backend.prepare = pack_weight;
  backend.pack_rows = pack_rows;
  backend.scratch_bytes = scratch_bytes;
  backend.kv_block_bytes = kv_block_bytes;
  backend.embed = embed;
  backend.norm = norm;
  backend.norm_linear = norm_linear;
  backend.qkv_project = qkv_project;
  backend.attend = attend;
  backend.mla_project = mla_project;
  backend.mla_attend = mla_attend;
  backend.mlp = mlp;
  backend.moe = moe;
  backend.head = head;
  backend.micro = micro;
  return backend;
}

MicroKernels generic_kernels() {
  MicroKernels kernels;
  fill_kernels_generic(kernels);
  return kernels;
}

#if defined(__x86_64__)
MicroKernels avx2_kernels() {
  MicroKernels kernels;
  fill_float_gemms_avx2(kernels);
  fill_int8_gemms_avx2(kernels);
  fill_elementwise_avx2(kernels);
  fill_attention_avx2(kernels);
  return kernels;
}

MicroKernels avx512_kernels() {
  MicroKernels kernels;
  fill_float_gemms_avx512(kernels);
  fill_int8_gemms_avx512(kernels);
  fill_elementwise_avx512(kernels);
  fill_attention_avx512(kernels);
  if (__builtin_cpu_supports("avx512bf16")) {
    fill_bf16_gemm_avx512(kernels);
    if (__builtin_cpu_supports("avx512vbmi")) fill_fp8_gemm_avx512(kernels);
  }
  return kernels;
}
#endif

}  // namespace
}  // namespace cpu

const Backend* generic_backend() {
  static const cpu::MicroKernels kernels = cpu::generic_kernels();
  static const cpu::CpuBackend backend = cpu::make_backend("generic", &kernels);
  return &backend;
}

#if defined(__x86_64__)
const Backend* avx2_backend() {
  static const cpu::MicroKernels kernels = cpu::avx2_kernels();
  static const cpu::CpuBackend backend = cpu::make_backend("avx2", &kernels);
  return &backend;
}

const Backend* avx512_backend() {
  static const cpu::MicroKernels kernels = cpu::avx512_kernels();
  static const cpu::CpuBackend backend = cpu::make_backend("avx512", &kernels);
  return &backend;
}
#endif

}  // namespace gantry
