// Any bytes as tokenizer.json, and after a zero byte a text: refused in one line, or a tokenizer that gives ids of its
// vocabulary.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "formats/strict_json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace {

void check_one_line(const gantry::Status& status) {
  GANTRY_CHECK(status.message().find('\n') == std::string::npos) << status.message();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t zero = bytes.find('\0');
  const auto json = gantry::parse_strict_json(bytes.substr(0, zero), "tokenizer.json");
  if (!json.ok()) return 0;
  auto spec = gantry::vocab_from_tokenizer_json(*json, *json);
  if (!spec.ok()) {
    check_one_line(spec.status());
    return 0;
  }
  const auto tokenizer = gantry::Tokenizer::create(std::move(spec).value());
  if (!tokenizer.ok()) {
    check_one_line(tokenizer.status());
    return 0;
  }
  const std::string_view text =
      zero == std::string_view::npos ? "Hello,  w\xc3\xb6rld 123!\n" : bytes.substr(zero + 1);
  for (const auto specials : {gantry::Tokenizer::Specials::kText, gantry::Tokenizer::Specials::kControl}) {
    const auto ids = (*tokenizer)->encode(text, {.specials = specials, .add_bos = true});
    if (!ids.ok()) continue;
    for (const gantry::TokenId id : *ids) {
      GANTRY_CHECK(id >= 0 && static_cast<size_t>(id) < (*tokenizer)->vocab_size()) << id;
    }
    static_cast<void>((*tokenizer)->decode(*ids, false));
  }
  return 0;
}
