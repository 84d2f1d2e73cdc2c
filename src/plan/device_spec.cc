#include "plan/device_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

namespace gantry {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr double kInfiniBand400 = 50e9;

// Data sheets of NVIDIA's SXM parts (L40S: PCIe, no NVLink); dense rates. Memory: what cuDeviceTotalMem gives on an
// H100 (480 MiB less than nvidia-smi's memory.total), and as much less than nvidia-smi's for the others.
const std::array<DeviceSpec, 4>& devices() {
  static const std::array<DeviceSpec, 4> table{{
      {"l40s", 45'588 * kMiB, 864e9, 733e12, 362e12, 32e9, kInfiniBand400 / 2, 8},
      {"h100", 81'079 * kMiB, 3.35e12, 1979e12, 989e12, 450e9, kInfiniBand400, 8},
      {"h200", 143'291 * kMiB, 4.8e12, 1979e12, 989e12, 450e9, kInfiniBand400, 8},
      {"b200", 182'879 * kMiB, 8.0e12, 4500e12, 2250e12, 900e9, kInfiniBand400, 8},
  }};
  return table;
}

}  // namespace

std::span<const DeviceSpec> known_devices() { return devices(); }

Result<DeviceSpec> find_device(std::string_view name) {
  std::string names;
  for (const DeviceSpec& device : devices()) {
    if (device.name == name) return device;
    names += (names.empty() ? "" : ", ") + device.name;
  }
  return invalid_argument(
      fmt::format("gpu {} is not known: one of {}, or --gpu-memory with --gpu-bandwidth and --gpu-flops",
                  name, names),
      "gpu");
}

}  // namespace gantry
