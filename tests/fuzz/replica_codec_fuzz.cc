// Frames of a replica's socket, in both directions: whatever comes is a message within its ranges or an error.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <variant>

#include "base/check.h"
#include "protocol/frame_stream.h"
#include "protocol/replica_codec.h"

namespace {

constexpr int64_t kVocab = 1000;

void decode(std::string_view payload) {
  if (const auto message = gantry::decode_from_replica(payload, kVocab); message.ok()) {
    if (const auto* frame = std::get_if<gantry::StepFrame>(&*message)) {
      for (const gantry::TokenEvent& event : frame->tokens)
        GANTRY_CHECK(event.token < kVocab && event.index >= 0);
    }
    gantry::encode(*message);
  }
  if (const auto message = gantry::decode_to_replica(payload); message.ok()) gantry::encode(*message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  decode(input);
  gantry::FrameSplitter splitter;
  for (std::string_view rest = input; !rest.empty();) {
    const std::span<char> space = splitter.space();
    const size_t bytes = std::min(space.size(), rest.size());
    std::memcpy(space.data(), rest.data(), bytes);
    splitter.received(bytes);
    rest.remove_prefix(bytes);
    for (;;) {
      const auto payload = splitter.next();
      if (!payload.ok()) return 0;
      if (!payload->has_value()) break;
      decode(**payload);
    }
  }
  return 0;
}
