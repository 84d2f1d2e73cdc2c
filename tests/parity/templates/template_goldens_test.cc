// The renderings of jinja2 3.1 that features.py and compare.py wrote, rendered again by src/chat/.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/parity/templates/template_cases.h"

namespace gantry {
namespace {

using Json = nlohmann::ordered_json;

Json read_goldens(const std::string& name) {
  const char* root = std::getenv("GANTRY_SOURCE_DIR");
  std::ifstream file(std::string(root == nullptr ? "." : root) + "/tests/parity/templates/" + name);
  return Json::parse(file, nullptr, false);
}

// A message without the "line N: " that Gantry puts in front of a syntax error.
std::string bare(const std::string& message) {
  if (message.rfind("line ", 0) != 0) return message;
  const size_t end = message.find_first_not_of("0123456789", 5);
  return message.compare(end, 2, ": ") == 0 ? message.substr(end + 2) : message;
}

// The output, or "error: " and its message.
std::string outcome(const std::string& source, const Json& input) {
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed.ok()) return "error: " + bare(parsed.status().message());
  const auto text = (*parsed)->render(template_input(input));
  return text.ok() ? *text : "error: " + bare(text.status().message());
}

std::string expected(const Json& golden) {
  return golden.contains("output") ? golden["output"].get<std::string>()
                                   : "error: " + golden["error"].get<std::string>();
}

TEST(TemplateGoldensTest, LanguageFeaturesAreJinjas) {
  const Json goldens = read_goldens("features.json");
  ASSERT_TRUE(goldens.is_object());
  ASSERT_GT(goldens["cases"].size(), 500U);
  for (const Json& golden : goldens["cases"]) {
    const std::string got = outcome(golden["source"], goldens["input"]);
    if (golden.value("other_words", false)) {
      EXPECT_EQ(got.rfind("error: ", 0), 0U) << golden["source"];
    } else {
      EXPECT_EQ(got, expected(golden)) << golden["group"] << ": " << golden["source"];
    }
  }
}

TEST(TemplateGoldensTest, PublishedTemplatesRenderAsJinjas) {
  const Json goldens = read_goldens("goldens.json");
  ASSERT_TRUE(goldens.is_object());
  ASSERT_GT(goldens["templates"].size(), 100U);
  for (const Json& golden : goldens["templates"]) {
    for (const Json& result : golden["cases"]) {
      const std::string got =
          outcome(golden["source"], goldens["inputs"][result["input"].get<std::string>()]);
      EXPECT_EQ(got, expected(result)) << golden["name"] << " [" << result["input"] << "]";
    }
  }
}

}  // namespace
}  // namespace gantry
