// Finds stop strings in streamed text, also where one lies across two pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gantry {

class StopStrings {
 public:
  // stops: none empty.
  explicit StopStrings(std::vector<std::string> stops);
  // Appends to `out` the text that can no longer be part of a stop string. Returns the index of the stop
  // string that was found, or -1; after a hit all further text is swallowed. The earliest match in the text
  // wins, and of two that start there the first in the list. The stop string itself is emitted only with
  // include_stop.
  int push(std::string_view text, std::string& out, bool include_stop = false);
  // Ends the stream: emits what was held back.
  void finish(std::string& out);

 private:
  std::vector<std::string> stops_;
  std::string held_;
  size_t longest_ = 0;
  bool found_ = false;
};

}  // namespace gantry
