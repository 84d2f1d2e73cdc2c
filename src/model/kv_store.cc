#include <fmt/format.h>

#include <atomic>

#include "base/check.h"
#include "model/memory.h"
#include "model/model.h"

namespace gantry {
namespace {

constexpr size_t kBlockAlignment = 64;

size_t block_stride(const Backend& backend, const KvLayout& layout) {
  const size_t bytes = backend.kv_block_bytes(layout);
  return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
}

}  // namespace

struct KvStore::Mapping {
  Memory memory;
};

KvStore::KvStore() {
  static std::atomic<uint64_t> next{1};
  id_ = next.fetch_add(1, std::memory_order_relaxed);
}
KvStore::~KvStore() = default;

size_t KvStore::block_bytes(const Backend& backend, std::span<const KvLayout> layers, int64_t tail) {
  size_t bytes = static_cast<size_t>(tail) * sizeof(float);
  for (const KvLayout& layout : layers) bytes += block_stride(backend, layout);
  return bytes;
}

Result<std::unique_ptr<KvStore>> KvStore::create(const Backend& backend, std::vector<KvLayout> layers,
                                                 int32_t blocks, int64_t tail) {
  GANTRY_CHECK(blocks > 0 && !layers.empty() && tail >= 0)
      << blocks << " blocks of " << layers.size() << " layers";
  size_t bytes = 0;
  if (__builtin_mul_overflow(block_bytes(backend, layers, tail), static_cast<size_t>(blocks), &bytes)) {
    return resource_exhausted(fmt::format("a KV cache of {} blocks exceeds the address space", blocks));
  }
  std::unique_ptr<KvStore> store(new KvStore);
  store->mapping_ = std::make_unique<Mapping>();
  GANTRY_ASSIGN_OR_RETURN(store->mapping_->memory,
                          Memory::map(bytes, fmt::format("a KV cache of {} blocks", blocks), backend.memory));
  store->blocks_ = blocks;
  std::byte* base = store->mapping_->memory.bytes().data();
  for (const KvLayout& layout : layers) {
    const size_t stride = block_stride(backend, layout);
    store->layers_.push_back(
        {.layout = layout, .base = base, .block_stride = static_cast<int64_t>(stride), .blocks = blocks});
    base += stride * static_cast<size_t>(blocks);
  }
  store->tails_ = reinterpret_cast<float*>(base);
  store->tail_ = tail;
  return store;
}

KvView KvStore::layer(int index) const { return layers_[static_cast<size_t>(index)]; }

}  // namespace gantry
