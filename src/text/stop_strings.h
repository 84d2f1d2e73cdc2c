// Finds stop strings in streamed text, also where one lies across two pieces.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/pattern_set.h"

namespace gantry {

class StopStrings {
 public:
  // stops: none empty.
  explicit StopStrings(const std::vector<std::string>& stops);
  // Appends to `out` the text that can no longer be part of a stop string. Returns the index of the stop
  // string that was found, or -1; after a hit all further text is swallowed. The earliest match in the text
  // wins, and of two that start there the first in the list: where a longer one may still win, the hit waits
  // for the text that decides. The stop string itself is emitted only with include_stop. Time is linear in
  // the text, however it is cut into pieces.
  int push(std::string_view text, std::string& out, bool include_stop = false);
  // Ends the stream: emits what was held back. Returns the stop string that was found and waited, or -1.
  int finish(std::string& out, bool include_stop = false);

 private:
  int cut(std::string& out, bool include_stop);

  std::shared_ptr<const PatternSet> set_;
  PatternSet::Search search_;
  std::string held_;    // text not yet emitted
  size_t emitted_ = 0;  // bytes before it
  bool found_ = false;
};

}  // namespace gantry
