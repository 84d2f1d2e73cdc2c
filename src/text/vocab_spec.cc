#include "text/vocab_spec.h"

namespace gantry {

std::optional<PreTokenizer> pre_tokenizer_from_gguf(std::string_view name) {
  struct Entry {
    std::string_view name;
    PreTokenizer pre_tokenizer;
  };
  // Names that llama.cpp writes for checkpoints with these very expressions.
  static constexpr Entry kEntries[] = {
      {"gpt-2", PreTokenizer::kGpt2},
      {"smollm", PreTokenizer::kSmolLm2},
      {"llama3", PreTokenizer::kLlama3},
      {"llama-v3", PreTokenizer::kLlama3},
      {"llama-bpe", PreTokenizer::kLlama3},
      {"qwen2", PreTokenizer::kQwen2},
      {"deepseek-r1-qwen", PreTokenizer::kQwen2},
      {"deepseek-v3", PreTokenizer::kDeepSeekV3},
  };
  for (const Entry& entry : kEntries) {
    if (entry.name == name) return entry.pre_tokenizer;
  }
  return std::nullopt;
}

std::string_view to_string(PreTokenizer pre_tokenizer) {
  switch (pre_tokenizer) {
    case PreTokenizer::kGpt2:
      return "gpt-2";
    case PreTokenizer::kSmolLm2:
      return "smollm2";
    case PreTokenizer::kLlama3:
      return "llama3";
    case PreTokenizer::kQwen2:
      return "qwen2";
    case PreTokenizer::kDeepSeekV3:
      return "deepseek-v3";
  }
  return "unknown";
}

}  // namespace gantry
