// Ranks that are processes which this one starts, and the memory that they share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/child_process.h"
#include "comm/shm/segment.h"
#include "model/parallel_layout.h"
#include "runtime/rank_host.h"

namespace gantry {

class LocalHost final : public RankHost {
 public:
  struct Options {
    ParallelSizes sizes;
    std::vector<std::string> command;  // absolute path and arguments of a process that calls run_follower()
  };
  static Result<std::unique_ptr<LocalHost>> create(Options options);

  // Memory of every rank (null with one stage), and of a stage's (null where it is one rank).
  shm::Segment* all_segment() const { return all_segment_.get(); }
  shm::Segment* tensor_segment(int32_t stage) const {
    return tensor_segments_.empty() ? nullptr : tensor_segments_[static_cast<size_t>(stage)].get();
  }

  Status start(const RankSetup& setup) override;
  Status send(int32_t rank, RankMessage message, std::string_view payload) override;
  bool try_send(int32_t rank, RankMessage message) override;
  std::string place(int32_t rank) const override;
  bool is_stopped(int32_t rank) const override;
  void watch(std::vector<pollfd>& looks) const override;
  Status take(std::span<const pollfd> looks, RankEvents& events) override;
  void abort(std::string_view reason) override;
  void end(bool at_once) override;

 private:
  struct Child {
    int32_t rank = 0;
    std::unique_ptr<ChildProcess> process;
    std::unique_ptr<RankLink> link;
    bool ended = false;  // and reported
  };

  explicit LocalHost(Options options) : options_(std::move(options)) {}
  Child& child(int32_t rank) const;
  // What has come from the child, its end too. False once the socket has been read to its end.
  static Result<bool> read(Child& child, RankEvents& events);
  static Status take_end(Child& child, RankEvents& events);

  const Options options_;
  std::unique_ptr<shm::Segment> all_segment_;
  std::vector<std::unique_ptr<shm::Segment>> tensor_segments_;  // by stage
  std::vector<std::unique_ptr<Child>> children_;
};

}  // namespace gantry
