// Loads a checkpoint and decodes one stream, against what the disk and the memory can do in the same run:
// full_width_bench FOLDER [THREADS] [BACKEND] [found|touched]. README.md says what the figures are.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "formats/weight_source.h"
#include "kernels/ops/backend.h"
#include "model/model.h"

namespace gantry {
namespace {

constexpr int kContext = 256;
constexpr int kDepth = 64;
constexpr int kTokens = 24;
constexpr int64_t kReadBytes = 8 << 20;
constexpr size_t kTouchBytes = size_t{512} << 20;

double seconds_since(int64_t start) { return static_cast<double>(monotonic_ns() - start) * 1e-9; }

// Of a line "NAME:   N kB".
double status_bytes(const std::string& name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name + ":")) return std::strtod(line.c_str() + name.size() + 1, nullptr) * 1024;
  }
  return 0;
}

struct Piece {
  int file;
  int64_t offset;
  int64_t bytes;
};

class Files {
 public:
  explicit Files(const std::string& folder) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      const int file = open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
      if (file < 0) continue;
      files_.push_back(file);
      const auto size = static_cast<int64_t>(entry.file_size());
      bytes_ += size;
      for (int64_t at = 0; at < size; at += kReadBytes)
        pieces_.push_back({file, at, std::min(kReadBytes, size - at)});
    }
  }
  ~Files() {
    for (const int file : files_) close(file);
  }
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  int64_t bytes() const { return bytes_; }
  void drop_pages() const {
    for (const int file : files_) {
      fsync(file);
      posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    }
  }
  // Seconds to read all with `threads` threads into buffers that stay in the cache.
  double read(int threads) const {
    std::atomic<size_t> next{0};
    std::atomic<bool> failed{false};
    const int64_t start = monotonic_ns();
    std::vector<std::thread> readers;
    for (int t = 0; t < threads; ++t) {
      readers.emplace_back([&] {
        std::vector<char> buffer(kReadBytes);
        for (size_t i = next++; i < pieces_.size(); i = next++) {
          const Piece& piece = pieces_[i];
          int64_t done = 0;
          while (done < piece.bytes) {
            const ssize_t n = pread(piece.file, buffer.data(), static_cast<size_t>(piece.bytes - done),
                                    piece.offset + done);
            if (n <= 0) {
              failed = true;
              return;
            }
            done += n;
          }
        }
      });
    }
    for (std::thread& reader : readers) reader.join();
    return failed ? 0 : seconds_since(start);
  }

 private:
  std::vector<int> files_;
  std::vector<Piece> pieces_;
  int64_t bytes_ = 0;
};

// Bytes a second at which `threads` threads make `bytes` of new memory resident, which goes again.
double touch(size_t bytes, int threads) {
  constexpr size_t kPage = 4096;
  void* const base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return 0;
  madvise(base, bytes, MADV_HUGEPAGE);
  const int64_t start = monotonic_ns();
  std::vector<std::thread> writers;
  for (int t = 0; t < threads; ++t) {
    writers.emplace_back([&, t] {
      const size_t part = bytes / static_cast<size_t>(threads), first = part * static_cast<size_t>(t);
      for (size_t at = first; at < first + part; at += kPage) static_cast<volatile char*>(base)[at] = 1;
    });
  }
  for (std::thread& writer : writers) writer.join();
  const double seconds = seconds_since(start);
  munmap(base, bytes);
  return static_cast<double>(bytes) / seconds;
}

// Memory that nothing holds, not even the page cache.
size_t free_bytes() {
  return static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Bytes a second of a summing read with every thread of the pool, the best of some passes over 1 GiB.
double read_bandwidth(ThreadPool& pool) {
  std::vector<uint64_t> data((1u << 30) / 8, 1);
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const int64_t start = monotonic_ns();
    pool.parallel_for(static_cast<int64_t>(data.size()), 1 << 17, [&](int64_t begin, int64_t end, int) {
      sink += std::accumulate(data.begin() + begin, data.begin() + end, uint64_t{0});
    });
    best = std::max(best, static_cast<double>(data.size() * 8) / seconds_since(start));
  }
  return best;
}

// What one token reads: every tensor but the embedding and the MTP layer, and of the experts those that it picks.
double token_bytes(const WeightSource& source, const ModelConfig& config) {
  double bytes = 0, experts = 0;
  const std::string mtp = "model.layers." + std::to_string(config.layers) + ".";
  for (const WeightInfo& info : source.weights()) {
    if (info.name.starts_with("model.embed_tokens.") && !config.tied_embeddings) continue;
    if (info.name.starts_with(mtp)) continue;
    (info.name.find(".mlp.experts.") != std::string::npos ? experts : bytes) +=
        static_cast<double>(info.view.bytes());
  }
  return config.moe ? bytes + experts * config.moe->experts_per_token / config.moe->experts : bytes;
}

// A hypervisor that takes back free memory makes its next touch slow, the page cache's and the loader's.
void warm(const Files& files, bool touched, int threads) {
  files.drop_pages();
  if (!touched) return;
  constexpr size_t kLeft = size_t{512} << 20;
  const size_t free = free_bytes(), wanted = 2 * static_cast<size_t>(files.bytes());
  if (free > kLeft) touch(std::min(wanted, free - kLeft), threads);
}

int run(const std::string& folder, int threads, const std::string& backend_name, bool touched) {
  const auto backend = cpu_backend(backend_name);
  if (!backend.ok())
    return std::fprintf(stderr, "full_width_bench: %s\n", backend.status().message().c_str()), 1;
  ThreadPool pool(threads);
  const Files files(folder);
  if (files.bytes() == 0)
    return std::fprintf(stderr, "full_width_bench: %s: no safetensors\n", folder.c_str()), 1;
  const double first_touch = touch(kTouchBytes, threads), next_touch = touch(kTouchBytes, threads);
  warm(files, touched, threads);
  const double plain = files.read(threads);
  warm(files, touched, threads);
  if (plain == 0) return std::fprintf(stderr, "full_width_bench: %s: cannot read\n", folder.c_str()), 1;
  // The memory that was touched is gone; what the load takes counts.
  if (std::ofstream clear("/proc/self/clear_refs"); !(clear << "5" << std::flush))
    return std::fprintf(stderr, "full_width_bench: the peak of memory cannot be reset\n"), 1;
  std::fprintf(stderr, "plain reads: %.2f GB/s\n", static_cast<double>(files.bytes()) / plain / 1e9);

  const int64_t start = monotonic_ns();
  const auto source = open_weights(folder);
  if (!source.ok())
    return std::fprintf(stderr, "full_width_bench: %s\n", source.status().message().c_str()), 1;
  const auto loaded = load_model(**source, {.backend = *backend,
                                            .pool = &pool,
                                            .rows_max = kDepth,
                                            .logit_rows_max = 1,
                                            .context_max = kContext,
                                            .on_progress = {}});
  if (!loaded.ok())
    return std::fprintf(stderr, "full_width_bench: %s\n", loaded.status().message().c_str()), 1;
  const double load = seconds_since(start);
  const double peak = status_bytes("VmHWM");
  std::fprintf(stderr, "load: %.2f GB/s, peak %.2f GB\n", static_cast<double>(files.bytes()) / load / 1e9,
               peak / 1e9);

  Model& model = **loaded;
  const int32_t vocab = model.config().vocab;
  const auto kv = KvStore::create(**backend, model.kv_layouts(), kContext / limits::kKvBlockTokens);
  if (!kv.ok()) return std::fprintf(stderr, "full_width_bench: %s\n", kv.status().message().c_str()), 1;
  std::vector<int32_t> table(kContext / limits::kKvBlockTokens), ids(kDepth);
  std::iota(table.begin(), table.end(), 0);
  for (int i = 0; i < kDepth; ++i) ids[static_cast<size_t>(i)] = (i * 7919 + 1) % vocab;
  std::vector<float> logits(static_cast<size_t>(vocab));
  const Segment prompt{0, kDepth, 0, table.data()};
  const int32_t last = kDepth - 1, first = 0;
  const int64_t prefill_start = monotonic_ns();
  GANTRY_CHECK(model.forward({ids, {&prompt, 1}, {&last, 1}}, **kv, logits.data()).ok());
  const double prefill = seconds_since(prefill_start);
  const double bandwidth_before = read_bandwidth(pool);
  std::vector<double> steps;
  for (int i = 0; i < kTokens; ++i) {
    const auto id = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const Segment segment{0, 1, kDepth + i, table.data()};
    const int64_t step = monotonic_ns();
    GANTRY_CHECK(model.forward({{&id, 1}, {&segment, 1}, {&first, 1}}, **kv, logits.data()).ok());
    steps.push_back(seconds_since(step));
  }
  const double bandwidth = std::max(bandwidth_before, read_bandwidth(pool));
  std::sort(steps.begin(), steps.end());
  const double median = steps[steps.size() / 2], bytes = token_bytes(**source, model.config());
  const auto total = static_cast<double>(files.bytes());
  std::printf(
      "{\"backend\": \"%s\", \"threads\": %d, \"experts\": %d, \"file_bytes\": %.0f,\n"
      " \"memory\": \"%s\", \"first_touch_bytes_s\": %.0f, \"next_touch_bytes_s\": %.0f,\n"
      " \"plain_read_bytes_s\": %.0f, \"load_bytes_s\": %.0f, \"load_ratio\": %.3f,\n"
      " \"peak_bytes\": %.0f, \"peak_ratio\": %.4f,\n"
      " \"prefill_rows\": %d, \"prefill_s\": %.3f,\n"
      " \"token_bytes\": %.0f, \"read_bandwidth_bytes_s\": %.0f, \"floor_s\": %.5f, \"step_s\": %.5f,\n"
      " \"fastest_step_s\": %.5f, \"tokens_s\": %.2f, \"of_floor\": %.3f}\n",
      std::string((*backend)->name).c_str(), threads, model.config().moe ? model.config().moe->experts : 0,
      total, touched ? "touched" : "as found", first_touch, next_touch, total / plain, total / load,
      plain / load, peak, peak / total, kDepth, prefill, bytes, bandwidth, bytes / bandwidth, median,
      steps[0], 1 / median, bytes / bandwidth / median);
  return 0;
}

}  // namespace
}  // namespace gantry

int main(int argc, char** argv) {
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const std::string memory = argc > 4 ? argv[4] : "found";
  if (argc < 2 || threads < 1 || (memory != "found" && memory != "touched")) {
    std::fprintf(stderr, "usage: full_width_bench FOLDER [THREADS] [BACKEND] [found|touched]\n");
    return 2;
  }
  return gantry::run(argv[1], threads, argc > 3 ? argv[3] : "auto", memory == "touched");
}
