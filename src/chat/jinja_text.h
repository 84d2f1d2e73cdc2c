// A string of the template language: UTF-8 bytes, and for each byte whether the template or the caller wrote
// it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::jinja {

class Text {
 public:
  struct Run {
    size_t end;  // one past the run's last byte; a run starts where the one before it ends
    bool from_template;
  };

  Text() = default;
  Text(std::string bytes, bool from_template);

  const std::string& bytes() const { return bytes_; }
  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // Neighbouring runs differ in origin; the last one ends at size(). Empty for an empty text.
  const std::vector<Run>& runs() const { return runs_; }
  // What a copy costs in fuel: 32 bytes or two runs count one.
  size_t cost() const { return bytes_.size() / 32 + runs_.size() / 2; }
  // True if no byte comes from the caller's data.
  bool from_template() const { return runs_.empty() || (runs_.size() == 1 && runs_[0].from_template); }

  void append(std::string_view bytes, bool from_template);
  void append(const Text& other) { append_slice(other, 0, other.size()); }
  // Bytes [begin, end) of `other`, begin <= end <= other.size().
  void append_slice(const Text& other, size_t begin, size_t end);
  Text slice(size_t begin, size_t end) const;

 private:
  std::string bytes_;
  std::vector<Run> runs_;
};

}  // namespace gantry::jinja
