// "Ready" means that every model generated a token just now, not that a port is open.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/model_registry.h"

namespace gantry {

// Thread-safe. A model that has been idle is asked for one token of its own; at most one such request is
// under way per model.
class Readiness {
 public:
  explicit Readiness(const ModelRegistry& registry);
  ~Readiness();  // takes its own requests back

  struct State {
    bool ready = false;
    std::string waiting_for;  // the models that are not, for people
  };
  // What is known now.
  State state() const;
  // Asks idle models for a token; `changed` runs once, on some thread, perhaps before this returns, when all
  // that were asked have answered or failed to. False if no answer is to be waited for.
  bool probe(std::function<void()> changed);

 private:
  class Probe;
  struct Shared;
  const ModelRegistry& registry_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace gantry
