// What a hostile template or conversation can cost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/limits.h"
#include "chat/jinja_test_util.h"

namespace gantry {
namespace {

std::string repeat(std::string_view part, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += part;
  return out;
}

class ExhaustedTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ExhaustedTest, IsACleanError) {
  EXPECT_EQ(status_code(GetParam(), R"({"user": "u"})"), StatusCode::kResourceExhausted)
      << GetParam().substr(0, 200);
}

INSTANTIATE_TEST_SUITE_P(
    Templates, ExhaustedTest,
    ::testing::Values(
        // Work without end.
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{% call f() %}{% endcall %}",
        // Text without end.
        "{{ 'x' * 10000000000 }}", "{{ 10000000000 * [1] }}", "{{ 'x' * 9223372036854775807 }}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('x', 'xxxx') "
        "%}{% endfor %}",
        "{% set ns = namespace(s='xx') %}{% for i in range(100) %}{% set ns.s = ns.s.join(ns.s) %}{% endfor "
        "%}",
        "{% set ns = namespace(s='xx') %}{% for i in range(100) %}{% set ns.s = ns.s|join(ns.s) %}{% endfor "
        "%}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% "
        "endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% "
        "endfor %}",
        "{% set ns = namespace(s='<') %}{% for i in range(100) %}{% set ns.s = ns.s|forceescape|string ~ '' "
        "%}"
        "{% endfor %}{% for i in range(100000) %}{% set ns.s = (ns.s ~ '<')|forceescape ~ '' %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{% set s = 'x' * 10000000 %}{% for i in range(100) %}{% set t = s|list %}{% endfor %}",
        "{% set s = 'x' * 10000000 %}{% for i in range(100) %}{% set t = s.split('x') %}{% endfor %}",
        // Many origins in one text, and searches that start over and over.
        "{% set ns = namespace(s='a' ~ user) %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% "
        "endfor %}",
        "{% set s = ('a' ~ user) * 1000 %}{% for i in range(100000) %}{{ [s, s, s]|join }}{% endfor %}",
        "{% set s = 'x' * 10000000 %}{% for i in range(100000) %}{{ s|length }}{% endfor %}",
        "{% set s = 'x' * 10000000 %}{% for i in range(100000) %}{{ s.startswith('x', 1) }}{% endfor %}",
        "{% set s = 'a' * 10000000 %}{% for i in range(100000) %}{{ s.rfind('a' * 1000 ~ 'b') }}{% endfor %}",
        "{% set s = 'a' * 10000000 %}{% for i in range(100000) %}{{ ('b' ~ s) in s }}{% endfor %}",
        // A small graph that is a huge tree.
        "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
        "ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
        "{{ ns.x|tojson }}",
        "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}"
        "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace(x=(1,)) %}{% for i in range(100) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}"
        "{{ {ns.x: 1} }}",
        // Nesting.
        "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x={}) %}{% for i in range(1000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
        "{{ " + repeat("(", 5000) + "1" + repeat(")", 5000) + " }}",
        "{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}", "{{ " + repeat("-", 5000) + "1 }}",
        "{{ " + repeat("not ", 5000) + "1 }}", "{{ 1" + repeat(" if 1 else 1", 5000) + " }}",
        repeat("{% if 1 %}", 5000) + repeat("{% endif %}", 5000),
        repeat("{% for x in y %}", 5000) + repeat("{% endfor %}", 5000), "{{ 1" + repeat("+1", 5000) + " }}",
        "{{ x" + repeat("|trim", 5000) + " }}", "{{ x" + repeat(".a", 5000) + " }}",
        "{{ 1" + repeat(" and 1", 5000) + " }}",
        "{{ 'a'|map(" + repeat("'map',", 5000) + "'upper')|list }}"));

TEST(JinjaLimitsTest, ATemplateThatIsTooLongIsRefused) {
  EXPECT_EQ(status_code(std::string(limits::kTemplateBytesMax + 1, 'x')), StatusCode::kResourceExhausted);
  EXPECT_EQ(status_code(std::string(limits::kTemplateBytesMax, 'x')), StatusCode::kOk);
}

TEST(JinjaLimitsTest, ACycleThroughANamespaceIsFreed) {
  // The leak checker of the sanitizer build looks at this one.
  EXPECT_EQ(render("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = [b] %}"
                   "{% macro f() %}{{ a.b|length }}{% endmacro %}{% set a.f = f %}{{ a.f() }}"),
            "1");
}

TEST(JinjaLimitsTest, AChainOfLoopObjectsIsFreed) {
  EXPECT_EQ(render("{% set ns = namespace(l=[1]) %}{% for i in range(20000) %}"
                   "{% for x in ns.l %}{% set ns.l = [loop] %}{% endfor %}{% endfor %}ok"),
            "ok");
}

TEST(JinjaLimitsTest, AChainOfNamespacesIsFreed) {
  EXPECT_EQ(render("{% set ns = namespace(x=none) %}{% for i in range(100000) %}"
                   "{% set ns.x = namespace(x=ns.x) %}{% endfor %}ok"),
            "ok");
}

TEST(JinjaLimitsTest, MessagesThatAreNestedTooDeepAreRefused) {
  ChatTemplateInput input;
  input.messages = nlohmann::ordered_json::array();
  for (int i = 0; i < 1000; ++i) input.messages = nlohmann::ordered_json::array({std::move(input.messages)});
  const auto parsed = ChatTemplate::parse("x");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ((*parsed)->render(input).status().code(), StatusCode::kResourceExhausted);
}

TEST(JinjaLimitsTest, LongConversationsFit) {
  ChatTemplateInput input;
  input.messages = nlohmann::ordered_json::array();
  for (int i = 0; i < 4096; ++i) {
    input.messages.push_back(
        {{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", std::string(2000, 'x')}});
  }
  const auto parsed = ChatTemplate::parse(
      "{% set ns = namespace(first=true, text='') %}{% for m in messages %}{% if m.role == 'user' %}"
      "{% set ns.text = m.content.split('</think>')[-1] | trim %}{{ '<|user|>' + ns.text + '\n' }}{% else %}"
      "{{ '<|assistant|>' + m['content'] | trim }}{% endif %}{% endfor %}");
  ASSERT_TRUE(parsed.ok());
  const auto text = (*parsed)->render(input);
  ASSERT_TRUE(text.ok()) << text.status().message();
  EXPECT_GT(text.value().size(), 8'000'000U);
}

TEST(JinjaLimitsTest, IntegersThatAreTooBigAreErrors) {
  EXPECT_EQ(eval("2 ** 126"), "85070591730234615865843651857942052864");
  EXPECT_EQ(eval("2 ** 127"), "error: an integer needs more than 128 bits");
  EXPECT_EQ(eval("10 ** 30 * 10 ** 30"), "error: an integer needs more than 128 bits");
  EXPECT_EQ(eval("2 ** 126 + 2 ** 126"), "error: an integer needs more than 128 bits");
}

TEST(JinjaLimitsTest, NothingOfTheHostIsReachable) {
  for (const char* expression :
       {"''.__class__.__mro__", "messages.__class__()", "{}.__init__.__globals__", "namespace.__class__.x",
        "range.__self__.x", "raise_exception.__globals__.os", "self.__init__.x", "loop.__class__.x",
        "'{0.__class__.__mro__}'.format(1)", "''|attr('__class__')|attr('x')"}) {
    EXPECT_THAT(eval(expression), ::testing::StartsWith("error: ")) << expression;
  }
}

}  // namespace
}  // namespace gantry
