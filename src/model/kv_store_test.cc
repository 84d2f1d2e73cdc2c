#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "model/model.h"

namespace gantry {
namespace {

const std::vector<KvLayout> kLayouts{
    {.dtype = DType::kF16, .kv_heads = 3, .key_dim = 10, .value_dim = 6},
    {.dtype = DType::kF32, .kv_heads = 1, .key_dim = 40, .value_dim = 0},
};

TEST(KvStore, LayersAreApartAlignedAndZero) {
  for (const Backend* backend : runnable_backends()) {
    SCOPED_TRACE(backend->name);
    constexpr int32_t kBlocks = 5;
    const auto store = KvStore::create(*backend, kLayouts, kBlocks).value();
    EXPECT_EQ(store->blocks(), kBlocks);
    const KvView first = store->layer(0), second = store->layer(1);
    EXPECT_EQ(first.layout.kv_heads, 3);
    EXPECT_EQ(second.layout.key_dim, 40);
    for (const KvView& view : {first, second}) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(view.base) % 64, 0u);
      EXPECT_EQ(view.block_stride % 64, 0);
      EXPECT_GE(view.block_stride, static_cast<int64_t>(backend->kv_block_bytes(view.layout)));
      const auto* bytes = static_cast<const unsigned char*>(view.base);
      EXPECT_TRUE(
          std::all_of(bytes, bytes + kBlocks * view.block_stride, [](unsigned char b) { return b == 0; }));
    }
    EXPECT_EQ(static_cast<std::byte*>(first.base) + kBlocks * first.block_stride, second.base);
    EXPECT_EQ(KvStore::block_bytes(*backend, kLayouts),
              static_cast<size_t>(first.block_stride + second.block_stride));
  }
}

TEST(KvStore, SaysWhenMemoryCannotBeHad) {
  const std::vector<KvLayout> huge(
      4096, {.dtype = DType::kF32, .kv_heads = 4096, .key_dim = 8192, .value_dim = 8192});
  const auto store = KvStore::create(*runnable_backends()[0], huge, std::numeric_limits<int32_t>::max());
  EXPECT_EQ(store.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(store.status().message(), testing::HasSubstr("KV cache of 2147483647 blocks"));
}

}  // namespace
}  // namespace gantry
