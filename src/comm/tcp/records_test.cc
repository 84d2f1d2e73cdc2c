#include "comm/tcp/records.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "comm/tcp/handshake.h"

namespace gantry::tcp {
namespace {

Key key_of(unsigned char fill) {
  Key key;
  key.fill(fill);
  return key;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string sealed(const std::vector<std::string>& texts) {
  RecordSealer sealer(key_of(1));
  std::string out;
  for (const std::string& text : texts) sealer.seal(RecordKind::kData, bytes_of(text), out);
  return out;
}

// What comes out of these bytes in pieces of `step`, each in brackets; "!" for an error.
std::string opened(std::string_view bytes, size_t step = 7) {
  RecordOpener opener(key_of(1));
  std::string out;
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, step);
    bytes.remove_prefix(piece.size());
    std::memcpy(opener.space().data(), piece.data(), piece.size());
    opener.received(piece.size());
    for (;;) {
      const auto record = opener.next();
      if (!record.ok()) return out + "!";
      if (!*record) break;
      out += "[" + std::string((*record)->data) + "]";
    }
  }
  return out;
}

TEST(Records, ComeOutAsTheyWentIn) {
  const std::string bytes = sealed({"first", "", "third"});
  EXPECT_EQ(bytes.size(), 10 + 3 * kRecordOverheadBytes);
  EXPECT_EQ(bytes.find("first"), std::string::npos);
  for (const size_t step : {1, 7, 1000}) EXPECT_EQ(opened(bytes, step), "[first][][third]");
  const std::string longest(limits::kRecordBytesMax, 'x');
  EXPECT_EQ(opened(sealed({longest, longest}), 50'000), "[" + longest + "][" + longest + "]");
}

TEST(Records, AnyChangedByteIsAnError) {
  const std::string bytes = sealed({"first", "second"});
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    const std::string out = opened(changed);
    // A header that promises more bytes than come is no record yet.
    EXPECT_TRUE(out == "!" || out == "[first]!" || out == "" || out == "[first]") << i << ": " << out;
  }
}

TEST(Records, OneThatIsLeftOutRepeatedOrMovedIsAnError) {
  const std::string both = sealed({"first", "other"});
  const std::string first = both.substr(0, both.size() / 2), second = both.substr(both.size() / 2);
  EXPECT_EQ(opened(second), "!");
  EXPECT_EQ(opened(first + first), "[first]!");
  EXPECT_EQ(opened(second + first), "!");
}

TEST(Records, TheOtherKeyOpensNothing) {
  RecordSealer sealer(key_of(2));
  std::string bytes;
  sealer.seal(RecordKind::kData, bytes_of("text"), bytes);
  EXPECT_EQ(opened(bytes), "!");
}

TEST(Records, LengthsBeyondTheLimitAreRefusedBeforeTheyAreWaitedFor) {
  EXPECT_EQ(opened(std::string("\x01\x00\x01\x00", 4)), "!");
  EXPECT_EQ(opened(std::string("\x00\x00\x00\x07", 4)), "!");  // no such kind
}

const Hello kHello{.purpose = Purpose::kAllGroup, .from = 3, .to = 1};

TEST(Handshake, BothEndsAgreeOnKeysAndWhoIsWho) {
  const Secret secret = Secret::random();
  ClientHandshake client(secret, kHello);
  ServerHandshake server(secret);
  const auto reply = server.reply(client.hello());
  ASSERT_TRUE(reply.ok());
  const auto proof = client.answer(*reply);
  ASSERT_TRUE(proof.ok());
  EXPECT_TRUE(server.finish(*proof).ok());
  EXPECT_EQ(server.hello().from, 3u);
  EXPECT_EQ(server.hello().to, 1u);
  EXPECT_EQ(client.keys().to_server, server.keys().to_server);
  EXPECT_EQ(client.keys().to_client, server.keys().to_client);
  EXPECT_NE(client.keys().to_client, client.keys().to_server);
}

TEST(Handshake, ChangedMessagesAndOtherSecretsAreRefused) {
  const Secret secret = Secret::random();
  ClientHandshake client(secret, kHello);
  for (size_t i = 8; i < kHelloBytes; ++i) {
    std::string hello = client.hello();
    hello[i] = static_cast<char>(hello[i] ^ 1);
    ServerHandshake server(secret);
    const auto reply = server.reply(hello);
    EXPECT_FALSE(reply.ok() && client.answer(*reply).ok()) << i;
  }
  ServerHandshake stranger(Secret::random());
  EXPECT_FALSE(client.answer(*stranger.reply(client.hello())).ok());
  ServerHandshake server(secret);
  const auto proof = client.answer(*server.reply(client.hello()));
  ASSERT_TRUE(proof.ok());
  std::string changed = *proof;
  changed[0] = static_cast<char>(changed[0] ^ 1);
  EXPECT_FALSE(server.finish(changed).ok());
  // Of another connection: the server's nonce is another.
  ServerHandshake again(secret);
  ASSERT_TRUE(again.reply(client.hello()).ok());
  EXPECT_FALSE(again.finish(*proof).ok());
  EXPECT_FALSE(ServerHandshake(secret).reply(std::string(kHelloBytes, 'x')).ok());
}

}  // namespace
}  // namespace gantry::tcp
