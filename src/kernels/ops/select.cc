#include <cstdlib>
#include <string>

#include "kernels/cpu/backends.h"
#include "kernels/cuda/backend.h"
#include "kernels/ops/backend.h"
#include "kernels/reference/backend.h"

namespace gantry {
namespace {

bool runs_anywhere() { return true; }

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

struct Candidate {
  std::string_view name;
  const Backend* (*backend)();
  bool (*runs_here)();
  std::string_view needs;  // for the message where it does not run
};

// "reference" first, then slowest to fastest: auto takes the last that runs here.
constexpr Candidate kCandidates[] = {
    {"reference", reference_backend, runs_anywhere, ""},
    {"generic", generic_backend, runs_anywhere, ""},
#if defined(__x86_64__)
    {"avx2", avx2_backend, has_avx2, "AVX2, FMA and F16C"},
    {"avx512", avx512_backend, has_avx512, "AVX-512 F, BW, VL, DQ and VNNI"},
#endif
};

std::string candidate_names() {
  std::string names = "auto";
  for (const Candidate& candidate : kCandidates) names.append(", ").append(candidate.name);
  return names;
}

}  // namespace

Result<const Backend*> cpu_backend(std::string_view name) {
  std::string_view wanted = name;
  std::string param;
  if (name == "auto") {
    const char* isa = std::getenv("GANTRY_CPU_ISA");
    if (isa != nullptr && *isa != '\0') {
      wanted = isa;
      param = "GANTRY_CPU_ISA";
    }
  }
  if (wanted == "auto") {
    const Backend* best = nullptr;
    for (const Candidate& candidate : kCandidates) {
      if (candidate.runs_here()) best = candidate.backend();
    }
    return best;
  }
  for (const Candidate& candidate : kCandidates) {
    if (candidate.name != wanted) continue;
    if (candidate.runs_here()) return candidate.backend();
    return unimplemented(std::string("CPU backend '") + std::string(wanted) + "' needs " +
                             std::string(candidate.needs) + ", which this machine lacks; use 'auto'",
                         param);
  }
  return invalid_argument("unknown CPU backend '" + std::string(wanted) + "'; one of: " + candidate_names(),
                          param);
}

std::vector<const Backend*> runnable_backends() {
  std::vector<const Backend*> backends;
  for (const Candidate& candidate : kCandidates) {
    if (candidate.runs_here()) backends.push_back(candidate.backend());
  }
  return backends;
}

std::vector<const Backend*> every_backend() {
  std::vector<const Backend*> backends = runnable_backends();
  if (const auto cuda = cuda_backend(); cuda.ok()) backends.push_back(*cuda);
  return backends;
}

Result<DeviceChoice> device_backend(std::string_view device) {
  DeviceChoice choice;
  if (device != "auto" && device != "cpu" && device != "cuda") {
    return invalid_argument("unknown device '" + std::string(device) + "'; one of: auto, cpu, cuda");
  }
  if (device != "cpu") {
    const Result<const Backend*> cuda = cuda_backend();
    if (cuda.ok()) {
      choice.backend = *cuda;
      return choice;
    }
    if (device == "cuda") return cuda.status();
    if (cuda.status().code() != StatusCode::kNotFound) choice.note = cuda.status().message();
  }
  GANTRY_ASSIGN_OR_RETURN(choice.backend, cpu_backend("auto"));
  return choice;
}

Result<const Backend*> backend_by_name(std::string_view name) {
  return name == "cuda" ? cuda_backend() : cpu_backend(name);
}

}  // namespace gantry
