// "Did you mean ...?": the known word that a misspelt one is nearest to.
#pragma once

#include <span>
#include <string_view>

namespace gantry {

// The entry of `words` with the least edit distance (an insertion, deletion or replacement counts 1) to
// `word`, the first of equals; empty when even that one differs in more than a third of its characters.
std::string_view nearest(std::string_view word, std::span<const std::string_view> words);

}  // namespace gantry
