// What comes from another host: a handshake's messages, records, and in them frames. Bytes that were not sealed open
// nothing; of a stream that was sealed and then changed, what comes out is a beginning of what went in.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/check.h"
#include "comm/tcp/handshake.h"
#include "comm/tcp/records.h"
#include "runtime/host_messages.h"

namespace {

using gantry::tcp::Key;
using gantry::tcp::RecordKind;
using gantry::tcp::RecordOpener;
using gantry::tcp::RecordSealer;

const Key kKey{7, 7, 7};

std::string open_all(std::string_view bytes, size_t step) {
  RecordOpener opener(kKey);
  std::string out;
  while (!bytes.empty()) {
    const auto space = opener.space();
    const size_t count = std::min({bytes.size(), space.size(), step});
    std::memcpy(space.data(), bytes.data(), count);
    opener.received(count);
    bytes.remove_prefix(count);
    for (;;) {
      const auto record = opener.next();
      if (!record.ok()) return out;
      if (!*record) break;
      out += (*record)->data;
    }
  }
  return out;
}

void decode(std::string_view payload) {
  (void)gantry::decode_join(payload).ok();
  (void)gantry::decode_process(payload).ok();
  (void)gantry::decode_end(payload).ok();
  (void)gantry::decode_list(payload).ok();
  (void)gantry::decode_started(payload).ok();
  (void)gantry::decode_peers(payload).ok();
  if (const auto setup = gantry::decode_setup(payload); setup.ok()) {
    GANTRY_CHECK(gantry::decode_setup(gantry::encode(*setup)).ok());
  }
  if (const auto envelope = gantry::decode_envelope(payload); envelope.ok()) {
    GANTRY_CHECK(gantry::encode(*envelope) == payload);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  decode(input);
  GANTRY_CHECK(open_all(input, 1000).empty());
  if (input.size() >= gantry::tcp::kHelloBytes) {
    gantry::tcp::ServerHandshake server(gantry::tcp::Secret::random());
    if (server.reply(input.substr(0, gantry::tcp::kHelloBytes)).ok()) {
      GANTRY_CHECK(!server.finish(input.substr(0, gantry::tcp::kProofBytes)).ok());
    }
  }
  if (size < 4) return 0;
  // Sealed in records of data[0] bytes, then one byte changed.
  const std::string_view text = input.substr(4);
  RecordSealer sealer(kKey);
  std::string sealed;
  for (size_t at = 0; at < text.size(); at += size_t{data[0]} + 1) {
    const std::string_view part = text.substr(at, size_t{data[0]} + 1);
    sealer.seal(RecordKind::kData, {reinterpret_cast<const std::byte*>(part.data()), part.size()}, sealed);
  }
  const size_t step = size_t{data[1]} + 1;
  GANTRY_CHECK(open_all(sealed, step) == text);
  if (sealed.empty()) return 0;
  const size_t at = (size_t{data[2]} << 8 | data[3]) % sealed.size();
  sealed[at] = static_cast<char>(sealed[at] ^ 0x20);
  const std::string opened = open_all(sealed, step);
  GANTRY_CHECK(opened.size() < text.size() && text.starts_with(opened));
  return 0;
}
