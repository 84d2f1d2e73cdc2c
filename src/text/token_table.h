// Finds the token that is exactly a given piece of text: one cache line for the short ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"

namespace gantry {

class TokenTable {
 public:
  // The longest token that has its bytes in its entry.
  static constexpr size_t kInlineBytes = 24;

  // count: the number of tokens that will be inserted.
  explicit TokenTable(size_t count = 0);
  // bytes: not empty, not yet in the table, and outlives it.
  void insert(std::string_view bytes, TokenId id);

  // -1 if there is none.
  TokenId find(std::string_view bytes) const {
    if (bytes.size() > kInlineBytes) return find_long(bytes);
    const Key key = make_key(bytes);
    for (size_t slot = hash(key) & mask_;; slot = (slot + 1) & mask_) {
      const Entry& entry = entries_[slot];
      if (entry.size == key.size && entry.words[0] == key.words[0] && entry.words[1] == key.words[1] &&
          entry.words[2] == key.words[2]) {
        return entry.id;
      }
      if (entry.size == 0) return -1;
    }
  }

  // Starts to load what find(bytes) will look at.
  void prefetch(std::string_view bytes) const {
    if (bytes.size() <= kInlineBytes) __builtin_prefetch(&entries_[hash(make_key(bytes)) & mask_]);
  }

 private:
  struct Key {
    uint64_t words[3];  // the bytes, then zeros
    uint32_t size;
  };
  struct alignas(32) Entry {
    uint64_t words[3];
    uint32_t size;  // 0: no entry
    TokenId id;
  };

  static Key make_key(std::string_view bytes) {
    Key key{};
    std::memcpy(key.words, bytes.data(), bytes.size());
    key.size = static_cast<uint32_t>(bytes.size());
    return key;
  }
  static uint64_t hash(const Key& key) {
    uint64_t h = (key.words[0] ^ key.size) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 32 ^ key.words[1]) * 0xd6e8feb86659fd93u;
    h = (h ^ h >> 32 ^ key.words[2]) * 0xa0761d6478bd642fu;
    return h ^ h >> 32;
  }
  TokenId find_long(std::string_view bytes) const;

  std::vector<Entry> entries_;
  size_t mask_;
  std::unordered_map<std::string_view, TokenId> long_tokens_;
};

}  // namespace gantry
