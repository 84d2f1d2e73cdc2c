#include "text/stop_strings.h"

namespace gantry {

StopStrings::StopStrings(const std::vector<std::string>& stops)
    : set_(std::make_shared<const PatternSet>(stops, PatternSet::Tie::kFirst)), search_(*set_) {}

int StopStrings::push(std::string_view text, std::string& out, bool include_stop) {
  if (found_) return -1;
  for (size_t i = 0; i < text.size(); ++i) {
    if (search_.step(static_cast<uint8_t>(text[i]))) {
      held_.append(text.substr(0, i + 1));
      return cut(out, include_stop);
    }
  }
  held_.append(text);
  const size_t safe = search_.earliest() - emitted_;
  out.append(held_, 0, safe);
  held_.erase(0, safe);
  emitted_ += safe;
  return -1;
}

int StopStrings::finish(std::string& out, bool include_stop) {
  if (found_) return -1;
  if (search_.match()) return cut(out, include_stop);
  out += held_;
  emitted_ += held_.size();
  held_.clear();
  return -1;
}

int StopStrings::cut(std::string& out, bool include_stop) {
  const PatternSet::Match match = *search_.match();
  out.append(held_, 0, (include_stop ? match.end : match.begin) - emitted_);
  held_.clear();
  found_ = true;
  return match.pattern;
}

}  // namespace gantry
