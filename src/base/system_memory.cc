#include "base/system_memory.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace gantry {
namespace {

std::optional<uint64_t> number_in(std::string_view text) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc()) return std::nullopt;
  return value;
}

// The lowest memory.max from the process's group up to the root: "0::/a/b" in /proc/self/cgroup.
std::optional<uint64_t> cgroup_limit() {
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  std::optional<uint64_t> lowest;
  while (std::getline(groups, line)) {
    if (!line.starts_with("0::/")) continue;
    std::filesystem::path group = line.substr(3);
    while (true) {
      std::ifstream limit("/sys/fs/cgroup" + (group / "memory.max").string());
      std::string text;
      if (limit >> text) {
        if (const auto bytes = number_in(text)) lowest = std::min(lowest.value_or(*bytes), *bytes);
      }
      if (group == group.root_path()) break;
      group = group.parent_path();
    }
  }
  return lowest;
}

}  // namespace

uint64_t usable_memory_bytes() {
  const uint64_t machine =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
  return std::min(machine, cgroup_limit().value_or(machine));
}

ResidentMemory resident_memory() {
  ResidentMemory memory;
  std::ifstream status("/proc/self/status");
  std::string key;
  while (status >> key) {
    uint64_t kib = 0;
    if (key == "VmHWM:" && status >> kib) memory.peak = kib << 10;
    if (key == "VmRSS:" && status >> kib) memory.now = kib << 10;
    if (key == "RssFile:" && status >> kib) memory.files = kib << 10;
    std::getline(status, key);
  }
  return memory;
}

bool reset_peak_memory() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5";  // proc(5): resets VmHWM
  clear.close();
  return !clear.fail();
}

}  // namespace gantry
