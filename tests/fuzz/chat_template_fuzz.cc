// Any bytes as a chat template, and after a zero byte the messages as JSON: an error, or a prompt whose
// pieces are the text.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "chat/chat_template.h"

namespace {

constexpr const char* kMessages =
    R"([{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "<b>\u00e9"}]},)"
    R"({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1.5}}}]}])";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t zero = bytes.find('\0');
  auto parsed = gantry::ChatTemplate::parse(std::string(bytes.substr(0, zero)));
  if (!parsed.ok()) return 0;
  gantry::ChatTemplateInput input;
  input.messages = nlohmann::ordered_json::parse(
      zero == std::string_view::npos ? kMessages : bytes.substr(zero + 1), nullptr, false);
  if (input.messages.is_discarded()) input.messages = nlohmann::ordered_json::parse(kMessages);
  input.tools = input.messages;
  const auto text = (*parsed)->render(input);
  const auto pieces = (*parsed)->render_pieces(input);
  GANTRY_CHECK(text.ok() == pieces.ok());
  if (!text.ok()) return 0;
  std::string joined;
  for (const auto& piece : *pieces) {
    GANTRY_CHECK(!piece.text.empty());
    joined += piece.text;
  }
  GANTRY_CHECK(joined == *text);
  return 0;
}
