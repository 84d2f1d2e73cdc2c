#include "chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/limits.h"
#include "chat/jinja_test_util.h"

namespace gantry {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

ChatTemplateInput input_of(const char* messages) {
  ChatTemplateInput input;
  input.messages = Json::parse(messages);
  return input;
}

std::unique_ptr<ChatTemplate> parse(const std::string& source) {
  auto parsed = ChatTemplate::parse(source);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return parsed.ok() ? std::move(*parsed) : nullptr;
}

constexpr const char* kChatml =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(ChatTemplateTest, RendersChatml) {
  ChatTemplateInput input = input_of(R"([{"role": "user", "content": "Hi"}])");
  const auto chatml = parse(kChatml);
  EXPECT_EQ(*chatml->render(input), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  input.add_generation_prompt = false;
  EXPECT_EQ(*chatml->render(input), "<|im_start|>user\nHi<|im_end|>\n");
}

TEST(ChatTemplateTest, GivesTheVariablesOfTransformers) {
  ChatTemplateInput input = input_of("[]");
  input.tools = Json::parse(R"([{"name": "f"}])");
  input.kwargs = Json::parse(R"({"enable_thinking": false})");
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.now_unix_seconds = 1753660800;
  const auto t = parse(
      "{{ bos_token }}{{ eos_token }}{{ tools[0].name }}{{ enable_thinking }}{{ documents }}"
      "{{ add_generation_prompt }}{{ strftime_now('%Y-%m-%d') }}");
  EXPECT_EQ(*t->render(input), "<s></s>fFalseNoneTrue2025-07-28");
}

TEST(ChatTemplateTest, RaiseExceptionIsAnInvalidArgumentWithItsMessage) {
  const auto t = parse("{{ raise_exception('Only ' ~ 'user') }}");
  const auto text = t->render(input_of("[]"));
  EXPECT_EQ(text.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(text.status().message(), "Only user");
}

TEST(ChatTemplateTest, SyntaxErrorsNameTheLine) {
  const auto parsed = ChatTemplate::parse("a\n\n{% if x %}\n");
  EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(parsed.status().message(), HasSubstr("line 3: Unexpected end of template"));
}

TEST(ChatTemplateTest, RefusesConstructsByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"{% include 'x' %}", "tag 'include'"},
      {"{% import 'x' as y %}", "tag 'import'"},
      {"{% from 'x' import y %}", "tag 'from'"},
      {"{% extends 'x' %}", "tag 'extends'"},
      {"\n{% block b %}{% endblock %}", "line 2: tag 'block'"},
      {"{% autoescape true %}{% endautoescape %}", "tag 'autoescape'"},
      {"{% for x in y recursive %}{% endfor %}", "'recursive' of a for loop"},
      {"{{ cycler(1) }}", "function 'cycler'"},
      {"{% set j = joiner(', ') %}", "function 'joiner'"},
      {"{{ lipsum() }}", "function 'lipsum'"},
      {"{{ x | groupby('a') }}", "filter 'groupby'"},
      {"{{ x | urlize }}", "filter 'urlize'"},
  };
  for (const auto& [source, what] : cases) {
    const auto parsed = ChatTemplate::parse(source);
    EXPECT_EQ(parsed.status().code(), StatusCode::kUnimplemented) << source;
    EXPECT_THAT(parsed.status().message(), HasSubstr(what));
  }
}

TEST(ChatTemplateTest, AMacroMayHaveTheNameOfARefusedFunction) {
  EXPECT_EQ(render("{% macro joiner(x) %}<{{ x }}>{% endmacro %}{{ joiner(1) }}"), "<1>");
}

TEST(ChatTemplateTest, RefusesASourceThatIsNotUtf8) {
  EXPECT_EQ(ChatTemplate::parse("\xff").status().code(), StatusCode::kInvalidArgument);
}

TEST(ChatTemplateTest, KnowsWhichVariablesItReads) {
  const auto t = parse("{% set mine = 1 %}{% if tools %}{{ enable_thinking }}{{ ns.other }}{% endif %}");
  EXPECT_TRUE(t->uses("tools"));
  EXPECT_TRUE(t->uses("enable_thinking"));
  EXPECT_FALSE(t->uses("mine"));
  EXPECT_FALSE(t->uses("other"));
  EXPECT_FALSE(t->uses("messages"));
}

TEST(ChatTemplateTest, TakesAnyJson) {
  for (const char* messages :
       {"null", "5", "{}", "[null]", "[5]", "[[]]", R"([{"role": null}])", R"(["text"])"}) {
    const auto text = parse(kChatml)->render(input_of(messages));
    const StatusCode code = text.status().code();
    EXPECT_TRUE(code == StatusCode::kOk || code == StatusCode::kInvalidArgument) << messages;
  }
}

TEST(ChatTemplateTest, OneTemplateServesManyThreads) {
  const auto t = parse(kChatml);
  std::vector<std::thread> threads;
  std::vector<std::string> texts(4);
  for (size_t i = 0; i < texts.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 100; ++k) texts[i] = *t->render(input_of(R"([{"role": "user", "content": "Hi"}])"));
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(texts, ::testing::Each(texts[0]));
}

}  // namespace
}  // namespace gantry
