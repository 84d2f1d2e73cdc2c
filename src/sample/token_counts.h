// Which tokens a sequence has seen and how often it generated them: what penalties need.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace gantry {

class TokenCounts {
 public:
  struct Entry {
    TokenId id;
    int32_t generated;
  };

  // Room for `tokens` different ones without another allocation.
  void reserve(size_t tokens);
  void add_prompt(TokenId id) { entry(id); }
  void add_generated(TokenId id) { ++entry(id).generated; }
  // Each token once, in order of first sight.
  std::span<const Entry> entries() const { return entries_; }

 private:
  Entry& entry(TokenId id);
  void rehash(size_t slots);

  std::vector<Entry> entries_;
  std::vector<int32_t> slots_;  // index into entries_ or -1; a power of two, at most half full
};

}  // namespace gantry
