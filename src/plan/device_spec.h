// What a plan knows of a device: sizes and rates of the data sheet, and the share of them that is reached.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gantry {

struct DeviceSpec {
  std::string name;
  uint64_t memory_bytes = 0;  // as the driver reports it
  double bandwidth = 0;       // bytes/s of its memory, data sheet
  double fp8_flops = 0;       // dense, data sheet; 0: as bf16
  double bf16_flops = 0;
  double link_bandwidth = 0;     // bytes/s each way to the other devices of a node
  double network_bandwidth = 0;  // bytes/s each way to other nodes, per device
  int32_t per_node = 8;
};

// h100, h200, b200, l40s. kInvalidArgument lists them.
Result<DeviceSpec> find_device(std::string_view name);
// The devices by memory, smallest first.
std::span<const DeviceSpec> known_devices();

// Shares of the data sheet that the roofline counts on, and what a step pays beside it. Measured on one H200:
// a large reduction reads at 4.33 of 4.8 TB/s, FP8 GEMMs of 4,096 rows reach 1,281 to 1,492 of 1,979 TFLOPS,
// attention and bf16 GEMMs about 640 of 989.
struct Efficiency {
  double bandwidth = 0.90;
  double fp8 = 0.68;
  double bf16 = 0.65;
  double kernels = 0.75;       // of the floor that follows, for launch gaps, tails and small operations
  double operation_s = 2e-6;   // at least, of each dependent operation: its launch inside a graph
  double all_reduce_s = 6e-6;  // latency of one all-reduce within a node
  double hop_s = 10e-6;        // of handing a micro-batch to the next stage
  double accepted[3] = {1.92, 2.58, 2.82};  // tokens a step with 1 to 3 drafts (TensorRT-LLM's measurement)
};

}  // namespace gantry
