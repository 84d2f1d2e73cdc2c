// Finds the leftmost occurrence of any of a set of strings in text that arrives in pieces, in linear time
// (Aho and Corasick 1975).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry {

class PatternSet {
 public:
  // Which of the patterns that start at the same place is the match.
  enum class Tie { kLongest, kFirst };

  struct Match {
    size_t begin;  // bytes from the start of the text
    size_t end;
    int pattern;  // index in the list
  };

  // One pass over a text.
  class Search {
   public:
    explicit Search(const PatternSet& set) : set_(&set) {}
    // Looks at the next byte. True once the leftmost match is certain; the search is over then.
    bool step(uint8_t byte);
    // The match, where step() said so or the text has ended.
    std::optional<Match> match() const { return match_; }
    // Every match that is still to be found, or was, begins here or later.
    size_t earliest() const;

   private:
    friend class PatternSet;
    bool is_certain() const;
    const PatternSet* set_;
    uint32_t node_ = 0;
    size_t position_ = 0;
    std::optional<Match> match_;
  };

  // patterns: none empty. Of equal ones the first counts.
  PatternSet(const std::vector<std::string>& patterns, Tie tie);

  bool empty() const { return nodes_.size() == 1; }
  // The leftmost match in text[from, end).
  std::optional<Match> find(std::string_view text, size_t from) const;

 private:
  static constexpr uint32_t kRoot = 0;
  struct Node {
    uint32_t first_child = kRoot;
    uint32_t sibling = kRoot;  // the next child of the same parent
    uint32_t fail = kRoot;     // the longest proper suffix that is a node
    uint32_t depth = 0;
    int pattern = -1;          // that ends here
    int longest_pattern = -1;  // the longest one that is a suffix
    int first_below = -1;      // the lowest index of the patterns that go on from here; -1 if none does
    uint8_t byte = 0;
  };

  uint32_t child(uint32_t node, uint8_t byte) const;
  uint32_t insert(std::string_view pattern, int index);

  Tie tie_;
  std::vector<Node> nodes_;
  std::vector<size_t> lengths_;
  std::array<uint32_t, 256> root_children_{};
};

}  // namespace gantry
