#include "loadgen/workload.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <fstream>
#include <random>
#include <sstream>

namespace gantry::loadgen {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 64> kWords = {
    "time",     "year",    "people",   "way",    "day",        "man",    "thing",   "woman",
    "life",     "child",   "world",    "school", "state",      "family", "student", "group",
    "country",  "problem", "hand",     "part",   "place",      "case",   "week",    "company",
    "system",   "program", "question", "work",   "government", "number", "night",   "point",
    "home",     "water",   "room",     "mother", "area",       "money",  "story",   "fact",
    "month",    "lot",     "right",    "study",  "book",       "eye",    "job",     "word",
    "business", "issue",   "side",     "kind",   "head",       "house",  "service", "friend",
    "father",   "power",   "hour",     "game",   "line",       "end",    "member",  "law"};

uint64_t mix(uint64_t h) {  // splitmix64's finaliser
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
  return h ^ (h >> 31);
}

int32_t between(std::mt19937_64& random, int32_t low, int32_t high) {
  return low + static_cast<int32_t>(random() % (static_cast<uint64_t>(high - low) + 1));
}

class RandomWorkload : public Workload {
 public:
  explicit RandomWorkload(const RandomLengths& lengths) : lengths_(lengths) {
    std::mt19937_64 random(mix(lengths.seed));
    for (int32_t i = 0; i < lengths.prefix_tokens; ++i) prefix_.push_back(draw(random));
  }

  WorkloadItem item(int64_t index) const override {
    std::mt19937_64 random(mix(lengths_.seed + mix(static_cast<uint64_t>(index) + 1)));
    const int32_t input = length(random, lengths_.input_tokens);
    WorkloadItem item;
    item.output_tokens = length(random, lengths_.output_tokens);
    std::vector<TokenId> ids = prefix_;
    for (int32_t i = 0; i < input; ++i) ids.push_back(draw(random));
    if (lengths_.form == PromptForm::kIds) {
      item.prompt = ids;
      return item;
    }
    std::string text;
    for (const TokenId id : ids) {
      if (!text.empty()) text += ' ';
      text += kWords[static_cast<size_t>(id - lengths_.token_first) % kWords.size()];
    }
    item.prompt = std::move(text);
    return item;
  }
  int64_t size() const override { return 0; }

 private:
  TokenId draw(std::mt19937_64& random) const {
    return between(random, lengths_.token_first, lengths_.token_end - 1);
  }
  int32_t length(std::mt19937_64& random, int32_t mean) const {
    const double spread = lengths_.range_ratio * mean;
    return std::max(1, between(random, static_cast<int32_t>(std::ceil(mean - spread)),
                               static_cast<int32_t>(std::floor(mean + spread))));
  }

  RandomLengths lengths_;
  std::vector<TokenId> prefix_;
};

class Dataset : public Workload {
 public:
  explicit Dataset(std::vector<WorkloadItem> items) : items_(std::move(items)) {}
  WorkloadItem item(int64_t index) const override {
    return items_[static_cast<size_t>(index) % items_.size()];
  }
  int64_t size() const override { return static_cast<int64_t>(items_.size()); }

 private:
  std::vector<WorkloadItem> items_;
};

int32_t count_words(const std::string& text) {
  std::istringstream words(text);
  int32_t count = 0;
  for (std::string word; words >> word;) ++count;
  return count;
}

Result<WorkloadItem> item_of_line(const Json& line, int32_t output_tokens) {
  WorkloadItem item;
  item.output_tokens = output_tokens;
  if (!line.is_object()) return invalid_argument("is no JSON object");
  if (const auto prompt = line.find("prompt"); prompt != line.end()) {
    if (!prompt->is_string() && !prompt->is_array()) {
      return invalid_argument("\"prompt\" must be text or an array of token ids");
    }
    item.prompt = *prompt;
  } else if (const auto messages = line.find("messages"); messages != line.end() && messages->is_array()) {
    item.prompt = *messages;
    item.messages = true;
  } else {
    return invalid_argument("has neither \"prompt\" nor \"messages\"");
  }
  if (const auto tokens = line.find("output_tokens"); tokens != line.end()) {
    if (!tokens->is_number_integer() || *tokens < 1 || *tokens > kPromptTokensMax) {
      return invalid_argument(
          fmt::format("\"output_tokens\" must be a whole number from 1 to {}", kPromptTokensMax));
    }
    item.output_tokens = tokens->get<int32_t>();
  }
  return item;
}

Result<std::vector<WorkloadItem>> items_of_conversations(const Json& all) {
  std::vector<WorkloadItem> items;
  for (const Json& entry : all) {
    const auto turns = entry.is_object() ? entry.find("conversations") : entry.end();
    if (!entry.is_object() || turns == entry.end() || !turns->is_array()) {
      return invalid_argument(fmt::format("entry {} has no array \"conversations\"", items.size() + 1));
    }
    if (turns->size() < 2) continue;
    WorkloadItem item;
    for (const size_t i : {size_t{0}, size_t{1}}) {
      const Json& turn = (*turns)[i];
      if (!turn.is_object() || !turn.contains("value") || !turn["value"].is_string()) {
        return invalid_argument(
            fmt::format("entry {}: turn {} has no text \"value\"", items.size() + 1, i + 1));
      }
    }
    item.prompt = (*turns)[0]["value"];
    item.output_tokens = std::max(1, count_words((*turns)[1]["value"].get<std::string>()));
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace

Result<std::unique_ptr<Workload>> make_random_workload(const RandomLengths& l) {
  const auto check = [](const char* flag, int64_t value, int64_t low) -> Status {
    if (value >= low && value <= kPromptTokensMax) return {};
    return invalid_argument(fmt::format("{} is {}, it must be {} to {}", flag, value, low, kPromptTokensMax),
                            flag);
  };
  GANTRY_RETURN_IF_ERROR(check("--input-len", l.input_tokens, 1));
  GANTRY_RETURN_IF_ERROR(check("--output-len", l.output_tokens, 1));
  GANTRY_RETURN_IF_ERROR(check("--prefix-len", l.prefix_tokens, 0));
  if (!(l.range_ratio >= 0 && l.range_ratio < 1)) {
    return invalid_argument(
        fmt::format("--range-ratio is {}, it must be at least 0 and below 1", l.range_ratio),
        "--range-ratio");
  }
  if (l.token_first < 0 || l.token_end <= l.token_first) {
    return invalid_argument(fmt::format("--token-ids is {}:{}, it must be FIRST:END with 0 <= FIRST < END",
                                        l.token_first, l.token_end),
                            "--token-ids");
  }
  return std::unique_ptr<Workload>(std::make_unique<RandomWorkload>(l));
}

Result<std::unique_ptr<Workload>> read_dataset(const std::string& path, int32_t output_tokens) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return not_found("the dataset " + path + " cannot be opened");
  const auto bytes = static_cast<int64_t>(file.tellg());
  if (bytes < 0 || static_cast<uint64_t>(bytes) > kDatasetBytesMax) {
    return invalid_argument(
        fmt::format("the dataset {} has {} bytes, at most {} are read", path, bytes, kDatasetBytesMax));
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  file.seekg(0);
  if (!file.read(text.data(), bytes)) return data_loss("the dataset " + path + " cannot be read");

  std::vector<WorkloadItem> items;
  const size_t start = text.find_first_not_of(" \t\r\n");
  if (start != std::string::npos && text[start] == '[') {
    const Json all = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!all.is_array()) return invalid_argument(path + " is no valid JSON");
    auto read = items_of_conversations(all);
    if (!read.ok()) return read.status().with_context(path);
    items = std::move(read).value();
  } else {
    std::istringstream lines(text);
    int64_t number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      auto item = item_of_line(Json::parse(line, nullptr, /*allow_exceptions=*/false), output_tokens);
      if (!item.ok()) return item.status().with_context(fmt::format("{}:{}", path, number));
      items.push_back(std::move(item).value());
    }
  }
  if (items.empty()) return invalid_argument("the dataset " + path + " has no prompts");
  return std::unique_ptr<Workload>(std::make_unique<Dataset>(std::move(items)));
}

}  // namespace gantry::loadgen
