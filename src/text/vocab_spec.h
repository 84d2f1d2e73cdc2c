// Everything a tokenizer is built from, whatever file it was read from (tokenizer.json or GGUF metadata).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"

namespace gantry {

enum class PreTokenizer { kGpt2, kSmolLm2, kLlama3, kQwen2, kDeepSeekV3 };

// From GGUF's tokenizer.ggml.pre; nothing for a name that Gantry does not implement.
std::optional<PreTokenizer> pre_tokenizer_from_gguf(std::string_view name);
// The pre-tokenisers by name, for error messages: "gpt-2, smollm2, ...".
std::string_view to_string(PreTokenizer pre_tokenizer);

struct AddedToken {
  TokenId id = -1;
  std::string content;
  bool special = false;  // a control token: never produced from the text of a message, skipped when decoding
  bool lstrip = false;   // takes the spaces before it
  bool rstrip = false;   // takes the spaces after it
  bool normalized = false;  // matched after normalization, where the text that is left is looked at again
};

// Byte-level BPE (GPT-2's byte alphabet already undone: token strings are raw bytes).
struct VocabSpec {
  PreTokenizer pre_tokenizer = PreTokenizer::kGpt2;
  std::vector<std::string> tokens;                          // id → bytes; holes are empty
  std::vector<std::pair<std::string, std::string>> merges;  // by rank, raw bytes
  std::vector<AddedToken> added;
  bool ignore_merges = false;  // a piece that is a token is taken whole (Llama 3)
  bool normalize_nfc = false;  // Qwen2
  bool add_bos = false;        // the post-processor or tokenizer_config adds BOS to a plain prompt
  bool add_eos = false;
  std::optional<TokenId> bos;
  std::vector<TokenId> eos;  // any of them ends a generation
  std::optional<TokenId> pad;
  // Stands for each byte that has no token; without it such a byte is dropped, as Hugging Face does. It is
  // tokenizer.json's model.unk_token: byte-level vocabularies have none, whatever GGUF's unknown_token_id
  // says.
  std::optional<TokenId> unk;
  // Jinja source of the default chat template, and the named ones; empty where there is none.
  std::string chat_template;
  std::map<std::string, std::string> named_templates;
};

}  // namespace gantry
