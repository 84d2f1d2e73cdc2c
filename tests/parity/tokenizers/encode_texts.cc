// Encodes texts for compare.py: standard input holds records of a 32-bit little-endian length and so many
// bytes, standard output gets for each a 32-bit count and so many 32-bit ids. With --repeat the texts are
// encoded so many times and the processor seconds of the fastest round go to standard error.
//
//   encode_texts TOKENIZER_JSON text|control [--repeat N]
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace gantry {
namespace {

std::string read_all(std::istream& in) { return {std::istreambuf_iterator<char>(in), {}}; }

bool split_records(const std::string& input, std::vector<std::string_view>& records) {
  for (size_t at = 0; at < input.size();) {
    uint32_t length = 0;
    if (input.size() - at < sizeof(length)) return false;
    std::memcpy(&length, input.data() + at, sizeof(length));
    at += sizeof(length);
    if (input.size() - at < length) return false;
    records.emplace_back(input.data() + at, length);
    at += length;
  }
  return true;
}

int fail(const std::string& message) {
  std::cerr << "encode_texts: " << message << "\n";
  return 1;
}

int run(int argc, char** argv) {
  if (argc < 3) return fail("usage: encode_texts TOKENIZER_JSON text|control [--repeat N]");
  const int repeat = argc > 4 && std::string_view(argv[3]) == "--repeat" ? std::atoi(argv[4]) : 0;
  std::ifstream file(argv[1], std::ios::binary);
  const nlohmann::json json = nlohmann::json::parse(read_all(file), nullptr, false);
  Result<VocabSpec> spec = vocab_from_tokenizer_json(json, nullptr);
  if (!spec.ok()) return fail(spec.status().message());
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(std::move(spec).value());
  if (!tokenizer.ok()) return fail(tokenizer.status().message());

  const std::string input = read_all(std::cin);
  std::vector<std::string_view> records;
  if (!split_records(input, records)) return fail("the input ends within a record");
  Tokenizer::EncodeOptions options;
  if (std::string_view(argv[2]) == "control") options.specials = Tokenizer::Specials::kControl;
  double seconds_min = 1e9;
  for (int round = 0; round < repeat; ++round) {
    const std::clock_t begin = std::clock();
    for (const std::string_view record : records) {
      if (!(*tokenizer)->encode(record, options).ok()) return fail("a text was refused");
    }
    seconds_min = std::min(seconds_min, static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
  }
  if (repeat > 0) {
    std::cerr << seconds_min << "\n";
    return 0;
  }
  for (const std::string_view record : records) {
    const Result<std::vector<TokenId>> ids = (*tokenizer)->encode(record, options);
    if (!ids.ok()) return fail(ids.status().message());
    const auto count = static_cast<uint32_t>((*ids).size());
    std::cout.write(reinterpret_cast<const char*>(&count), sizeof(count));
    std::cout.write(reinterpret_cast<const char*>((*ids).data()),
                    static_cast<std::streamsize>(count * sizeof(TokenId)));
  }
  return std::cout.flush() ? 0 : fail("the output could not be written");
}

}  // namespace
}  // namespace gantry

int main(int argc, char** argv) { return gantry::run(argc, argv); }
