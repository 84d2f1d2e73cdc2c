// Splits text into the pieces that BPE merges never cross, by hand-written scanners of the published
// expressions. Each piece is found by looking at each character a bounded number of times: no backtracking.
#pragma once

#include <string_view>

#include "text/vocab_spec.h"

namespace gantry {

class PreTokenizerScan {
 public:
  // text: well-formed UTF-8 that outlives the scan.
  PreTokenizerScan(PreTokenizer kind, std::string_view text);

  // The next piece; the pieces in order are the text. False at its end.
  bool next(std::string_view& piece) {
    if (p_ == end_) return false;
    const char* const begin = p_;
    p_ = (this->*scan_)();
    piece = {begin, static_cast<size_t>(p_ - begin)};
    return true;
  }

 private:
  using Scan = const char* (PreTokenizerScan::*)();
  const char* scan_gpt2();
  const char* scan_smollm2();
  const char* scan_llama3();
  const char* scan_qwen2();
  const char* scan_deepseek_v3();

  const char* p_;
  const char* end_;
  const char* kana_han_end_;  // DeepSeek: end of the run of kana and Han that p_ is in, if it is in one
  Scan scan_;
};

}  // namespace gantry
