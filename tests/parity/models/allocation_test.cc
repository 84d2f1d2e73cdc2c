// forward() does not allocate (invariant 8): this executable counts every operator new.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "formats/weight_source.h"
#include "model/model.h"
#include "random_checkpoint.h"

namespace {

std::atomic<int64_t> allocations{0};

void* counted(size_t size, size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, size) != 0) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new[](size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<size_t>(alignment));
}
void* operator new[](size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace gantry::testing {
namespace {

class Allocation : public ::testing::TestWithParam<const char*> {};

TEST_P(Allocation, ForwardDoesNotAllocate) {
  const char* root = std::getenv("GANTRY_SOURCE_DIR");  // set by ctest; by hand: run in the source folder
  nlohmann::json golden;
  std::ifstream(std::string(root != nullptr ? root : ".") + "/tests/parity/models/goldens/" + GetParam() +
                ".json") >>
      golden;
  const nlohmann::json& config = golden.at("config");
  const CheckpointFolder folder(config, random_tensors(config, 1));
  const auto source = open_weights(folder.path()).value();
  const std::vector<int32_t> ids = random_prompt(1, 71, config.at("vocab_size").get<int32_t>());
  const std::vector<int32_t> logit_rows{69, 70}, blocks{2, 0, 1};
  // A prefill and a decode.
  const std::vector<Segment> segments{
      {.first_row = 0, .rows = 70, .first_position = 0, .block_table = blocks.data()},
      {.first_row = 70, .rows = 1, .first_position = 9, .block_table = blocks.data() + 2}};

  ThreadPool pool(2);
  for (const Backend* backend : runnable_backends()) {
    for (const Compute compute : {Compute::kF32, Compute::kAuto}) {
      SCOPED_TRACE(backend->name);
      const auto model = load_model(*source, {.backend = backend,
                                              .pool = &pool,
                                              .compute = compute,
                                              .rows_max = 71,
                                              .logit_rows_max = 2,
                                              .context_max = 128,
                                              .on_progress = {}})
                             .value();
      const auto kv = KvStore::create(*backend, model->kv_layouts(), 3).value();
      std::vector<float> logits(2 * static_cast<size_t>(model->config().vocab));
      const int64_t before = allocations.load();
      const Status status =
          model->forward({.ids = ids, .segments = segments, .logit_rows = logit_rows}, *kv, logits.data());
      EXPECT_EQ(allocations.load() - before, 0);
      EXPECT_TRUE(status.ok());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Allocation,
                         ::testing::Values("llama_yarn_biases", "qwen2_tied", "deepseek_v3"));

}  // namespace
}  // namespace gantry::testing
