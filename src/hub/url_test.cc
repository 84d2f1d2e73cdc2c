#include "hub/url.h"

#include <gtest/gtest.h>

namespace gantry::hub {
namespace {

TEST(Url, KnowsTheOrigin) {
  const auto hub = parse_url("https://huggingface.co/a?b#c");
  ASSERT_TRUE(hub.ok());
  EXPECT_TRUE(hub->same_origin(*parse_url("https://HuggingFace.co:443/x")));
  EXPECT_FALSE(hub->same_origin(*parse_url("http://huggingface.co/a")));
  EXPECT_FALSE(hub->same_origin(*parse_url("https://huggingface.co:444/a")));
  EXPECT_FALSE(hub->same_origin(*parse_url("https://huggingface.co.evil.com/a")));
  EXPECT_TRUE(parse_url("http://u:p@localhost")->has_credentials);
}

TEST(Url, KnowsLoopback) {
  for (const char* url :
       {"http://127.0.0.1:80/", "http://127.1.2.3", "http://localhost:1", "http://[::1]:8000/"}) {
    EXPECT_TRUE(parse_url(url)->is_loopback()) << url;
  }
  for (const char* url :
       {"http://127.evil.com", "http://localhost.evil.com", "http://10.0.0.1", "http://[::2]"}) {
    EXPECT_FALSE(parse_url(url)->is_loopback()) << url;
  }
}

TEST(Url, RefusesOtherSchemes) {
  for (const char* url : {"", "file:///etc/passwd", "ftp://a/b", "/relative", "https://", "gopher://a"}) {
    EXPECT_FALSE(parse_url(url).ok()) << url;
  }
}

TEST(Url, JoinsALocation) {
  EXPECT_EQ(*join_url("https://h/a/b?x=1", "/c?y=2"), "https://h/c?y=2");
  EXPECT_EQ(*join_url("https://h/a/b", "https://cdn.example/z?s=1"), "https://cdn.example/z?s=1");
  EXPECT_FALSE(join_url("https://h/a", std::string(20'000, 'a')).ok());
}

TEST(Url, Encodes) {
  EXPECT_EQ(percent_encode("refs/pr/1", false), "refs%2Fpr%2F1");
  EXPECT_EQ(percent_encode("a b/\xc3\xa9#?.json", true), "a%20b/%C3%A9%23%3F.json");
}

TEST(Url, ShowsNoSignature) { EXPECT_EQ(url_for_messages("https://h/a?Signature=s#f"), "https://h/a"); }

}  // namespace
}  // namespace gantry::hub
