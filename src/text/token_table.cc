#include "text/token_table.h"

#include <algorithm>
#include <bit>

namespace gantry {

TokenTable::TokenTable(size_t count)
    : entries_(std::bit_ceil(std::max<size_t>(count * 2, 16))), mask_(entries_.size() - 1) {}

void TokenTable::insert(std::string_view bytes, TokenId id) {
  if (bytes.size() > kInlineBytes) {
    long_tokens_.emplace(bytes, id);
    return;
  }
  const Key key = make_key(bytes);
  size_t slot = hash(key) & mask_;
  while (entries_[slot].size != 0) slot = (slot + 1) & mask_;
  entries_[slot] = {{key.words[0], key.words[1], key.words[2]}, key.size, id};
}

TokenId TokenTable::find_long(std::string_view bytes) const {
  const auto at = long_tokens_.find(bytes);
  return at == long_tokens_.end() ? -1 : at->second;
}

}  // namespace gantry
