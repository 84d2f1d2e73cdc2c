// Byte-pair encoding of one piece of text in time linear in it, whatever it is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "text/bpe_merges.h"
#include "text/token_table.h"
#include "text/token_trie.h"
#include "text/vocab_spec.h"

namespace gantry {

struct BpeScratch {
  MergeScratch merges;
  std::string pair_bytes;         // of two tokens
  std::vector<TokenId> pair;      // what they merge into
  std::vector<bool> is_dead_end;  // by position in a long piece
  std::string known_bytes;
  uint64_t steps = 0;  // characters and candidates looked at; merges.steps counts the rest of the work
};

class Bpe {
 public:
  // spec: outlives this. is_special: by id; such tokens are never produced.
  static Result<Bpe> create(const VocabSpec& spec, const std::vector<bool>& is_special);

  // Appends the tokens of one piece. The result is that of BpeMerges::merge, or the one token that the piece
  // is with ignore_merges.
  void encode(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const;

  // Starts to load what encode(piece) will look at first.
  void prefetch(std::string_view piece) const { whole_.prefetch(piece); }

  const BpeMerges& merges() const { return merges_; }

 private:
  // How merging makes a token of its bytes. 16 bytes: what encoding a long piece reads of a token is in one
  // place.
  struct Derivation {
    Merge last;              // rank kNoRank: a byte, or a token that no merging makes
    uint16_t length = 0;     // bytes of the token
    uint8_t first_byte = 0;  // of the token
    bool is_ranked = true;   // each merge has a higher rank than those that make its parts
  };

  Bpe(const VocabSpec& spec, BpeMerges merges, std::vector<Derivation> derivations,
      const std::vector<std::string_view>& reachable, TokenTable whole);

  void encode_long(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const;
  void encode_known(std::string_view text, BpeScratch& scratch, std::vector<TokenId>& out) const;
  size_t length_of(TokenId id) const { return derivations_[static_cast<size_t>(id)].length; }
  bool may_be_neighbours(TokenId left, TokenId right, BpeScratch& scratch) const;
  bool merge_as_they_are(TokenId left, TokenId right, BpeScratch& scratch) const;

  const VocabSpec* spec_;
  BpeMerges merges_;
  std::vector<Derivation> derivations_;  // by id
  TokenTrie trie_;                       // the tokens that merging their own bytes gives
  TokenTable whole_;                     // those, and all tokens with ignore_merges
  bool all_bytes_known_;
};

}  // namespace gantry
