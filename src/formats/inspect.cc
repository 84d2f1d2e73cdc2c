#include "formats/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "formats/quote_name.h"

namespace gantry {
namespace {

using nlohmann::json;

struct Total {
  uint64_t tensors = 0;
  uint64_t parameters = 0;
  uint64_t bytes = 0;

  void add(const TensorView& view) {
    ++tensors;
    parameters += static_cast<uint64_t>(view.shape.elements());
    bytes += view.bytes();
  }
};

struct Totals {
  Total all;
  std::map<std::string_view, Total> by_dtype;
};

Totals totals_of(const WeightSource& source) {
  Totals totals;
  for (const WeightInfo& info : source.weights()) {
    totals.all.add(info.view);
    totals.by_dtype[to_string(info.view.dtype)].add(info.view);
  }
  return totals;
}

// "1.20 GB", in powers of 1000 as files are sold.
std::string human_bytes(uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  for (const char* unit : {"kB", "MB", "GB"}) {
    value /= 1000;
    if (value < 999.995) return fmt::format("{:.2f} {}", value, unit);
  }
  return fmt::format("{:.2f} TB", value / 1000);
}

// A name without its quotes where it needs no escape.
std::string printable(std::string_view name) {
  const std::string text = quote_name(name);
  return text.size() == name.size() + 2 ? std::string(name) : text;
}

std::string line_of(std::string_view label, const Total& total) {
  return fmt::format("  {:<8} {:>7} tensors  {:>15} parameters  {:>15} bytes  {}\n", label, total.tensors,
                     total.parameters, total.bytes, human_bytes(total.bytes));
}

json json_of(const Total& total) {
  return {{"tensors", total.tensors}, {"parameters", total.parameters}, {"bytes", total.bytes}};
}

std::vector<int64_t> dims_of(const Shape& shape) {
  std::vector<int64_t> dims;
  for (int i = 0; i < shape.rank(); ++i) dims.push_back(shape[i]);
  return dims;
}

json tokenizer_of(const VocabSpec* vocab) {
  if (vocab == nullptr) return nullptr;
  return {{"tokens", vocab->tokens.size()},
          {"merges", vocab->merges.size()},
          {"added_tokens", vocab->added.size()},
          {"pre_tokenizer", to_string(vocab->pre_tokenizer)},
          {"bos", vocab->bos ? json(*vocab->bos) : json(nullptr)},
          {"eos", vocab->eos},
          {"chat_template", !vocab->chat_template.empty()}};
}

}  // namespace

std::string describe(const WeightSource& source) {
  std::string text = printable(source.path()) + "\n\nconfiguration\n";
  const auto add_entries = [&](const json& object) {
    size_t width = 0;
    for (const auto& [key, value] : object.items()) width = std::max(width, printable(key).size());
    for (const auto& [key, value] : object.items()) {
      text += fmt::format("  {:<{}}  {}\n", printable(key), width,
                          value.dump(-1, ' ', true, json::error_handler_t::replace));
    }
  };
  add_entries(source.config());
  if (!source.generation_config().empty()) {
    text += "\ngeneration\n";
    add_entries(source.generation_config());
  }
  text += "\ntokenizer\n";
  if (source.vocab() == nullptr) {
    text += "  none: token ids are served\n";
  } else {
    add_entries(tokenizer_of(source.vocab()));
  }

  text += "\ntensors\n";
  size_t width = 0;
  for (const WeightInfo& info : source.weights()) width = std::max(width, printable(info.name).size());
  for (const WeightInfo& info : source.weights()) {
    text += fmt::format("  {:<{}}  {:<7}  {:<20} {:>13}\n", printable(info.name), width,
                        to_string(info.view.dtype), info.view.shape.to_string(), info.view.bytes());
  }

  const Totals totals = totals_of(source);
  text += "\ntotals\n";
  for (const auto& [dtype, total] : totals.by_dtype) text += line_of(dtype, total);
  text += line_of("all", totals.all);
  return text;
}

json describe_json(const WeightSource& source) {
  json tensors = json::array();
  for (const WeightInfo& info : source.weights()) {
    tensors.push_back({{"name", printable(info.name)},
                       {"dtype", to_string(info.view.dtype)},
                       {"shape", dims_of(info.view.shape)},
                       {"bytes", info.view.bytes()},
                       {"file", info.file}});
  }
  const Totals totals = totals_of(source);
  json all = json_of(totals.all);
  all["by_dtype"] = json::object();
  for (const auto& [dtype, total] : totals.by_dtype) all["by_dtype"][std::string(dtype)] = json_of(total);
  return {{"path", source.path()},
          {"config", source.config()},
          {"generation_config", source.generation_config()},
          {"tokenizer", tokenizer_of(source.vocab())},
          {"tensors", std::move(tensors)},
          {"totals", std::move(all)}};
}

}  // namespace gantry
