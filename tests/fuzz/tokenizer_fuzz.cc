// Any merges over the 256 bytes, and any text: the ids that the definition of byte-pair encoding gives, and back.
// Input: options, how many merges, the two parts of each by index, then the text.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "text/detokenizer.h"
#include "text/nfc.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

constexpr size_t kMergesMax = 64;
constexpr size_t kTokenBytes = 32;
constexpr size_t kPreTokenizers = 5;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}
  uint8_t next() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

// A part is any byte below 128, or any earlier product: so that chains are as likely as pairs of letters.
gantry::VocabSpec make_spec(Input& input) {
  gantry::VocabSpec spec;
  const uint8_t options = input.next();
  spec.pre_tokenizer = static_cast<gantry::PreTokenizer>(options % kPreTokenizers);
  spec.ignore_merges = (options & 0x40) != 0;
  spec.normalize_nfc = (options & 0x80) != 0;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  std::vector<std::string> products;
  const auto part = [&] {
    const uint8_t index = input.next();
    if (index < 128 || products.empty()) return std::string(1, static_cast<char>(index));
    return products[(index - 128u) % products.size()];
  };
  for (size_t left = input.next() % kMergesMax; left > 0; --left) {
    std::pair<std::string, std::string> merge;
    merge.first = part();
    merge.second = part();
    std::string product = merge.first + merge.second;
    if (product.size() > kTokenBytes || std::ranges::count(spec.merges, merge) != 0) continue;
    if (std::ranges::count(spec.tokens, product) == 0) spec.tokens.push_back(product);
    spec.merges.push_back(std::move(merge));
    products.push_back(std::move(product));
  }
  return spec;
}

using Ids = std::map<std::string, gantry::TokenId>;
using Ranks = std::map<std::pair<std::string, std::string>, size_t>;

// Sennrich et al. 2016, algorithm 1: the leftmost pair of the lowest rank merges until none does.
void merge_by_definition(std::string_view piece, const Ids& ids, const Ranks& ranks,
                         std::vector<gantry::TokenId>& out) {
  std::vector<std::string> symbols;
  for (const char byte : piece) symbols.emplace_back(1, byte);
  while (true) {
    size_t best = 0;
    size_t best_rank = ranks.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find({symbols[i], symbols[i + 1]});
      if (found == ranks.end() || found->second >= best_rank) continue;
      best = i;
      best_rank = found->second;
    }
    if (best_rank == ranks.size()) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  for (const std::string& symbol : symbols) out.push_back(ids.at(symbol));
}

std::vector<gantry::TokenId> encode_by_definition(const gantry::VocabSpec& spec, std::string_view text) {
  Ids ids;
  for (size_t id = 0; id < spec.tokens.size(); ++id) ids[spec.tokens[id]] = static_cast<gantry::TokenId>(id);
  Ranks ranks;
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) ranks[spec.merges[rank]] = rank;
  std::vector<gantry::TokenId> out;
  gantry::PreTokenizerScan scan(spec.pre_tokenizer, text);
  for (std::string_view piece; scan.next(piece);) {
    const auto whole = ids.find(std::string(piece));
    if (spec.ignore_merges && whole != ids.end()) {
      out.push_back(whole->second);
    } else {
      merge_by_definition(piece, ids, ranks, out);
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const gantry::VocabSpec spec = make_spec(input);
  const auto created = gantry::Tokenizer::create(spec);
  GANTRY_CHECK(created.ok()) << created.status().message();
  const gantry::Tokenizer& tokenizer = **created;
  const auto ids = tokenizer.encode(input.rest(), {});
  GANTRY_CHECK(ids.ok() == gantry::is_valid_utf8(input.rest()));
  if (!ids.ok()) return 0;
  const std::string text = spec.normalize_nfc ? gantry::to_nfc(input.rest()) : std::string(input.rest());
  GANTRY_CHECK(*ids == encode_by_definition(spec, text)) << text;
  GANTRY_CHECK(tokenizer.decode(*ids, true) == text) << text;
  gantry::Detokenizer stream(tokenizer);
  std::string streamed;
  for (const gantry::TokenId id : *ids) stream.push(id, streamed);
  stream.finish(streamed);
  GANTRY_CHECK(streamed == text) << text;
  return 0;
}
