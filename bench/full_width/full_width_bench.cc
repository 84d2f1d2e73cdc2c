// Loads a checkpoint and decodes one stream, against what the disk and the memory can do in the same run:
// full_width_bench FOLDER [THREADS] [BACKEND] [ROUNDS]. README.md says what the figures are.
#include <fcntl.h>
#include <fmt/format.h>
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
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "formats/weight_source.h"
#include "kernels/ops/backend.h"
#include "model/load_threads.h"
#include "model/memory.h"
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
  int64_t place;  // in all files' bytes
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
      for (int64_t at = 0; at < size; at += kReadBytes)
        pieces_.push_back({file, at, std::min(kReadBytes, size - at), bytes_ + at});
      bytes_ += size;
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
  // Seconds to read all with `threads` threads: into `kept`, which is as long as the files, or (empty) into buffers that
  // stay in the cache.
  double read(int threads, std::span<std::byte> kept) const {
    std::atomic<size_t> next{0};
    std::atomic<bool> failed{false};
    const int64_t start = monotonic_ns();
    std::vector<std::thread> readers;
    for (int t = 0; t < threads; ++t) {
      readers.emplace_back([&] {
        std::vector<std::byte> buffer(kept.empty() ? kReadBytes : 0);
        for (size_t i = next++; i < pieces_.size(); i = next++) {
          const Piece& piece = pieces_[i];
          std::byte* const to = kept.empty() ? buffer.data() : kept.data() + piece.place;
          int64_t done = 0;
          while (done < piece.bytes) {
            const ssize_t n =
                pread(piece.file, to + done, static_cast<size_t>(piece.bytes - done), piece.offset + done);
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

// As wide as the machine's registers: narrow loads leave bandwidth unused.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t
sum_of(const uint64_t* words, int64_t count) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += words[i];
  return sum;
}

// A summing read of 1 GiB that lies as the weights do, in huge pages, with every thread of the pool.
class ReadBandwidth {
 public:
  explicit ReadBandwidth(ThreadPool& pool) : pool_(pool) {
    auto memory = Memory::map(kBytes, "the bandwidth's measurement");
    if (!memory.ok()) return;
    memory_ = std::move(*memory);
    std::fill_n(words(), kBytes / sizeof(uint64_t), 1);
  }
  void pass() {
    if (memory_.bytes().empty()) return;
    const int64_t start = monotonic_ns();
    pool_.parallel_for(kBytes / sizeof(uint64_t), 1 << 17, [&](int64_t begin, int64_t end, int) {
      sink_ += sum_of(words() + begin, end - begin);
    });
    best_ = std::max(best_, static_cast<double>(kBytes) / seconds_since(start));
  }
  // Bytes a second of the best pass.
  double best() const { return best_; }

 private:
  static constexpr size_t kBytes = size_t{1} << 30;
  uint64_t* words() { return reinterpret_cast<uint64_t*>(memory_.bytes().data()); }

  ThreadPool& pool_;
  Memory memory_;
  std::atomic<uint64_t> sink_{0};
  double best_ = 0;
};

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

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

std::string listed(const std::vector<double>& values) {
  std::string text = "[";
  for (const double value : values) text += fmt::format("{}{:.3f}", text.size() > 1 ? ", " : "", value);
  return text + "]";
}

int fail(const std::string& what) { return std::fprintf(stderr, "full_width_bench: %s\n", what.c_str()), 1; }

int run(const std::string& folder, int threads, const std::string& backend_name, int rounds) {
  const auto backend = cpu_backend(backend_name);
  if (!backend.ok()) return fail(backend.status().message());
  ThreadPool pool(threads);
  const Files files(folder);
  const auto total = static_cast<double>(files.bytes());
  if (total == 0) return fail(folder + ": no safetensors");
  const double first_touch = touch(kTouchBytes, threads), next_touch = touch(kTouchBytes, threads);

  std::vector<double> buffered, kept, loads, ratios;
  double peak = 0;
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Model> loaded;
  const auto read_kept = [&]() -> Status {
    GANTRY_ASSIGN_OR_RETURN(const Memory memory,
                            Memory::map(static_cast<size_t>(files.bytes()), "the files' bytes"));
    files.drop_pages();
    kept.push_back(files.read(kLoadThreads, memory.bytes()));
    return {};
  };
  const auto load = [&]() -> Status {
    files.drop_pages();
    if (std::ofstream clear("/proc/self/clear_refs"); !(clear << "5" << std::flush))
      return internal_error("the peak of memory cannot be reset");
    const int64_t start = monotonic_ns();
    GANTRY_ASSIGN_OR_RETURN(source, open_weights(folder));
    GANTRY_ASSIGN_OR_RETURN(loaded, load_model(*source, {.backend = *backend,
                                                         .pool = &pool,
                                                         .rows_max = kDepth,
                                                         .logit_rows_max = 1,
                                                         .context_max = kContext,
                                                         .on_progress = {}}));
    loads.push_back(seconds_since(start));
    peak = std::max(peak, status_bytes("VmHWM"));
    return {};
  };
  const auto unload = [&] {
    loaded.reset();
    source.reset();
  };
  for (int round = 0; round < rounds; ++round) {
    unload();
    files.drop_pages();
    buffered.push_back(files.read(kLoadThreads, {}));
    // What comes second finds memory that was backed for the first: they change places, and a load is the last.
    const bool load_first = (rounds - round) % 2 == 0;
    Status status = load_first ? load() : read_kept();
    if (load_first) unload();
    if (status.ok()) status = load_first ? read_kept() : load();
    if (!status.ok()) return fail(status.message());
    if (buffered.back() == 0 || kept.back() == 0) return fail(folder + ": cannot read");
    ratios.push_back(kept.back() / loads.back());
    std::fprintf(stderr, "GB/s: plain reads %.2f, into memory that is kept %.2f, load %.2f; peak %.2f GB\n",
                 total / buffered.back() / 1e9, total / kept.back() / 1e9, total / loads.back() / 1e9,
                 peak / 1e9);
  }

  Model& model = *loaded;
  const int32_t vocab = model.config().vocab;
  const auto kv = KvStore::create(**backend, model.kv_layouts(), kContext / limits::kKvBlockTokens);
  if (!kv.ok()) return fail(kv.status().message());
  std::vector<int32_t> table(kContext / limits::kKvBlockTokens), ids(kDepth);
  std::iota(table.begin(), table.end(), 0);
  for (int i = 0; i < kDepth; ++i) ids[static_cast<size_t>(i)] = (i * 7919 + 1) % vocab;
  std::vector<float> logits(static_cast<size_t>(vocab));
  const Segment prompt{0, kDepth, 0, table.data()};
  const int32_t last = kDepth - 1, first = 0;
  const int64_t prefill_start = monotonic_ns();
  GANTRY_CHECK(model.forward({ids, {&prompt, 1}, {&last, 1}}, **kv, logits.data()).ok());
  const double prefill = seconds_since(prefill_start);
  ReadBandwidth bandwidth_of(pool);
  std::vector<double> steps;
  for (int i = 0; i < kTokens; ++i) {
    const auto id = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const Segment segment{0, 1, kDepth + i, table.data()};
    bandwidth_of.pass();  // in turns: what neighbours take of a shared machine changes within seconds
    const int64_t step = monotonic_ns();
    GANTRY_CHECK(model.forward({{&id, 1}, {&segment, 1}, {&first, 1}}, **kv, logits.data()).ok());
    steps.push_back(seconds_since(step));
  }
  const double bandwidth = bandwidth_of.best();
  const double step_s = median(steps), bytes = token_bytes(*source, model.config());
  std::printf(
      "{\"backend\": \"%s\", \"threads\": %d, \"load_threads\": %d, \"experts\": %d, \"file_bytes\": %.0f,\n"
      " \"first_touch_bytes_s\": %.0f, \"next_touch_bytes_s\": %.0f,\n"
      " \"buffered_read_s\": %s, \"kept_read_s\": %s, \"load_s\": %s, \"ratios\": %s,\n"
      " \"buffered_read_bytes_s\": %.0f, \"kept_read_bytes_s\": %.0f, \"load_bytes_s\": %.0f, "
      "\"load_ratio\": %.3f,\n"
      " \"peak_bytes\": %.0f, \"peak_ratio\": %.4f,\n"
      " \"prefill_rows\": %d, \"prefill_s\": %.3f,\n"
      " \"token_bytes\": %.0f, \"read_bandwidth_bytes_s\": %.0f, \"floor_s\": %.5f, \"step_s\": %.5f,\n"
      " \"fastest_step_s\": %.5f, \"tokens_s\": %.2f, \"of_floor\": %.3f}\n",
      std::string((*backend)->name).c_str(), threads, kLoadThreads,
      model.config().moe ? model.config().moe->experts : 0, total, first_touch, next_touch,
      listed(buffered).c_str(), listed(kept).c_str(), listed(loads).c_str(), listed(ratios).c_str(),
      total / median(buffered), total / median(kept), total / median(loads), median(ratios), peak,
      peak / total, kDepth, prefill, bytes, bandwidth, bytes / bandwidth, step_s,
      *std::min_element(steps.begin(), steps.end()), 1 / step_s, bytes / bandwidth / step_s);
  return 0;
}

}  // namespace
}  // namespace gantry

int main(int argc, char** argv) {
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int rounds = argc > 4 ? std::atoi(argv[4]) : 4;
  if (argc < 2 || threads < 1 || rounds < 1) {
    std::fprintf(stderr, "usage: full_width_bench FOLDER [THREADS] [BACKEND] [ROUNDS]\n");
    return 2;
  }
  return gantry::run(argv[1], threads, argc > 3 ? argv[3] : "auto", rounds);
}
