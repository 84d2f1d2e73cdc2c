#include <cuda_runtime.h>

#include <algorithm>
#include <mutex>

#include "kernels/cuda/dequantize.cuh"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/prepare.h"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/weight_layout.h"

namespace gantry::cuda {
namespace {

using sm90::cuda_status;

struct ConvertParams {
  const uint8_t* from;  // [rows, cols] in the file's format
  DType dtype;
  int block_elements, block_bytes;
  int64_t rows, cols;
  const float* scales;  // of blocks of kScaleBlock x kScaleBlock, or null
  int64_t first_row;    // of the matrix that the scales belong to
  void* to;             // [rows, stride], f32 or bf16; columns past cols are left as they are
  int64_t stride;
  bool bf16;
};

__global__ void convert_kernel(const __grid_constant__ ConvertParams p) {
  const int64_t elements = p.rows * p.cols;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < elements;
       i += int64_t{gridDim.x} * blockDim.x) {
    const uint8_t* block = p.from + i / p.block_elements * p.block_bytes;
    float value = block_value(p.dtype, block, static_cast<int>(i % p.block_elements));
    if (p.scales != nullptr) {
      const int64_t row = p.first_row + i / p.cols, blocks = (p.cols + kScaleBlock - 1) / kScaleBlock;
      value = __fmul_rn(value, p.scales[row / kScaleBlock * blocks + i % p.cols / kScaleBlock]);
    }
    const int64_t at = i / p.cols * p.stride + i % p.cols;
    if (p.bf16) {
      static_cast<__nv_bfloat16*>(p.to)[at] = __float2bfloat16_rn(value);
    } else {
      static_cast<float*>(p.to)[at] = value;
    }
  }
}

// File bytes on their way: one buffer of the process, taken in turns.
class Staging {
 public:
  static constexpr size_t kBytes = size_t{64} << 20;
  static Result<std::byte*> get() {
    static std::byte* const base = [] {
      const Result<void*> memory = kDeviceMemory.allocate(kBytes);
      return memory.ok() ? static_cast<std::byte*>(*memory) : nullptr;
    }();
    if (base == nullptr)
      return resource_exhausted("64 MB of the GPU's memory for loading weights are not free");
    return base;
  }
};

// scales: of an FP8 matrix, on the host; or null.
Status convert(const TensorView& view, const float* scales, DType target, std::byte* to) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  GANTRY_ASSIGN_OR_RETURN(std::byte* const staging, Staging::get());
  const DTypeInfo& info = dtype_info(view.dtype);
  const int64_t rows = view.shape[0], cols = view.shape[1];
  const int64_t file_row = row_bytes(view.dtype, cols), stride = row_stride(target, cols);
  // Scales lie at the buffer's end.
  const int64_t scale_bytes =
      scales == nullptr ? 0 : round_up(scale_blocks(rows) * scale_blocks(cols) * 4, kStorageAlign);
  const int64_t room = static_cast<int64_t>(Staging::kBytes) - scale_bytes;
  if (file_row > room) return unimplemented("a weight with rows above 64 MB");
  const int64_t rows_max = room / file_row;
  if (scales != nullptr) {
    GANTRY_RETURN_IF_ERROR(
        kDeviceMemory.upload(staging + room, scales,
                             static_cast<size_t>(scale_blocks(rows) * scale_blocks(cols)) * sizeof(float)));
  }
  for (int64_t row = 0; row < rows; row += rows_max) {
    const int64_t count = std::min(rows_max, rows - row);
    GANTRY_RETURN_IF_ERROR(kDeviceMemory.upload(staging, view.as<std::byte>() + row * file_row,
                                                static_cast<size_t>(count * file_row)));
    const ConvertParams params{
        .from = reinterpret_cast<const uint8_t*>(staging),
        .dtype = view.dtype,
        .block_elements = info.block_elements,
        .block_bytes = info.block_bytes,
        .rows = count,
        .cols = cols,
        .scales = scales == nullptr ? nullptr : reinterpret_cast<const float*>(staging + room),
        .first_row = row,
        .to = to + row * stride * dtype_info(target).block_bytes,
        .stride = stride,
        .bf16 = target == DType::kBF16};
    convert_kernel<<<1024, 256>>>(params);
    GANTRY_RETURN_IF_ERROR(cuda_status(cudaGetLastError(), "weights"));
    GANTRY_RETURN_IF_ERROR(cuda_status(cudaDeviceSynchronize(), "weights"));
  }
  return {};
}

int64_t bias_bytes(int64_t rows) {
  return round_up(rows * static_cast<int64_t>(sizeof(float)), kStorageAlign);
}

// Behind the codes of all entries.
float* scales_of(const PackedWeight::Part& part, std::byte* codes, int64_t batch) {
  return reinterpret_cast<float*>(codes + round_up(batch * part.batch_stride, kStorageAlign));
}

// What the parts become: themselves, or one that stacks them all.
PackedWeight device_parts(const WeightSpec& spec, const PackedWeight& file) {
  PackedWeight device = file;
  device.bytes = 0;
  if (stacked(file, spec.compute)) {
    device.part_count = 1;
    device.parts[0].rows = file.rows;
    for (int i = 1; i < file.part_count; ++i) {
      if (file.parts[static_cast<size_t>(i)].bias != nullptr)
        device.parts[0].bias = file.parts[static_cast<size_t>(i)].bias;
    }
  }
  for (int i = 0; i < device.part_count; ++i) {
    PackedWeight::Part& part = device.parts[static_cast<size_t>(i)];
    part.dtype = device_dtype(file, i, spec.compute);
    part.scales = nullptr;
    part.scale_batch_stride = part.dtype == DType::kF8E4M3 ? part_scales(part.rows, file.cols) : 0;
    part.batch_stride = entry_bytes(part.dtype, part.rows, file.cols);
    device.bytes += static_cast<uint64_t>(spec.batch * part.batch_stride);
  }
  return device;
}

}  // namespace

size_t packed_bytes(const WeightSpec& spec) {
  const Result<PackedWeight> file = weight_layout(spec);
  if (!file.ok()) return 0;
  const PackedWeight device = device_parts(spec, *file);
  int64_t bytes = 0;
  for (int i = 0; i < device.part_count; ++i) {
    const PackedWeight::Part& part = device.parts[static_cast<size_t>(i)];
    bytes += part_bytes(part.dtype, part.rows, file->cols, spec.batch);
    if (part.bias != nullptr) bytes += bias_bytes(part.rows);
  }
  return static_cast<size_t>(bytes);
}

Result<PackedWeight> prepare(const WeightSpec& spec, std::span<std::byte> storage) {
  if (spec.compute == Compute::kF8 || spec.compute == Compute::kF8PowerOfTwo) {
    return unimplemented(
        "the FP8 recipe for every weight is not supported on a GPU, where auto follows it for wide ones");
  }
  GANTRY_ASSIGN_OR_RETURN(const PackedWeight file, in_place_weight(spec));
  if (storage.size() < packed_bytes(spec)) return invalid_argument("the storage of a weight is too small");
  // Rows and columns of padding, and the bias of a part without one, stay 0.
  GANTRY_RETURN_IF_ERROR(cuda_status(cudaMemset(storage.data(), 0, storage.size()), "weights"));
  PackedWeight packed = device_parts(spec, file);
  std::byte* to = storage.data();
  int source = 0;  // part of the file
  for (int i = 0; i < packed.part_count; ++i) {
    PackedWeight::Part& part = packed.parts[static_cast<size_t>(i)];
    const int64_t row_size = row_stride(part.dtype, file.cols) * dtype_info(part.dtype).block_bytes;
    std::byte* const bias = to + part_bytes(part.dtype, part.rows, file.cols, spec.batch);
    for (int64_t row = 0; row < part.rows; ++source) {
      const PackedWeight::Part& from = file.parts[static_cast<size_t>(source)];
      for (int64_t e = 0; e < spec.batch; ++e) {
        const auto at = static_cast<size_t>(e * file.part_count + source);
        const float* scales = from.scales != nullptr ? spec.scales[at].as<float>() : nullptr;
        if (part.dtype == DType::kF8E4M3) {
          GANTRY_RETURN_IF_ERROR(kDeviceMemory.upload(to + e * part.batch_stride + row * row_size,
                                                      spec.parts[at].data, spec.parts[at].bytes()));
          float* const to_scales = scales_of(part, to, spec.batch) + e * part.scale_batch_stride +
                                   row / kScaleBlock * scale_blocks(file.cols);
          GANTRY_RETURN_IF_ERROR(kDeviceMemory.upload(to_scales, scales, spec.scales[at].bytes()));
          continue;
        }
        GANTRY_RETURN_IF_ERROR(
            convert(spec.parts[at], scales, part.dtype, to + e * part.batch_stride + row * row_size));
      }
      if (from.bias != nullptr) {
        GANTRY_RETURN_IF_ERROR(kDeviceMemory.upload(bias + row * static_cast<int64_t>(sizeof(float)),
                                                    from.bias,
                                                    static_cast<size_t>(from.rows) * sizeof(float)));
      }
      row += from.rows;
    }
    part.data = to;
    if (part.dtype == DType::kF8E4M3) part.scales = scales_of(part, to, spec.batch);
    to = bias;
    if (part.bias == nullptr) continue;
    part.bias = reinterpret_cast<const float*>(bias);
    to += bias_bytes(part.rows);
  }
  return packed;
}

}  // namespace gantry::cuda
