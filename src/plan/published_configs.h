// config.json of published models that can be planned for without a download.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry {

// By Hugging Face name ("deepseek-ai/DeepSeek-R1"); empty if it is not built in.
std::optional<nlohmann::json> published_config(std::string_view name);
std::vector<std::string> published_names();

}  // namespace gantry
