// Renders chat templates for the comparison with jinja2 (compare.py). Reads JSON lines
// {"template": text, "inputs": [{"messages", "tools", "kwargs", ...}]} and answers each with a line
// {"results": [{"output": text} | {"error": message, "code": name}]}, or {"error", "code"} if it does not
// parse.
#include <iostream>
#include <string>

#include "tests/parity/templates/template_cases.h"

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto job = nlohmann::ordered_json::parse(line, nullptr, false);
    if (!job.is_object()) {
      std::cerr << "render_templates: a line is no JSON object\n";
      return 1;
    }
    nlohmann::ordered_json answer;
    auto parsed = gantry::ChatTemplate::parse(job.value("template", ""));
    if (!parsed.ok()) {
      answer = gantry::error_json(parsed.status());
    } else {
      answer["results"] = nlohmann::ordered_json::array();
      for (const auto& input : job["inputs"]) {
        const auto text = (*parsed)->render(gantry::template_input(input));
        answer["results"].push_back(text.ok() ? nlohmann::ordered_json{{"output", *text}}
                                              : gantry::error_json(text.status()));
      }
    }
    std::cout << answer.dump() << "\n" << std::flush;
  }
  return 0;
}
