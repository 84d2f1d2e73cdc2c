// What ranks exchange in a step. A group's calls are collective: every rank makes the same calls in the same
// order with the same sizes. An all-reduce is an all-gather and a sum in rank order, so that a row's sum does
// not depend on its batch (DESIGN invariant 5).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/status.h"

namespace gantry {

// One rank's end of a group; one thread at a time uses it, but abort() may come from any.
//
// Errors of every call: kDeadlineExceeded names the rank that did not come within the group's deadline,
// kUnavailable the rank that ended or why the group was aborted. After an error the group is of no further
// use: every later call of every rank gives kUnavailable.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // out holds size() x in.size() bytes: rank 0's, rank 1's, ...
  virtual Status all_gather(std::span<const std::byte> in, std::span<std::byte> out) = 0;
  // values[i] = ((rank 0's values[i] + rank 1's) + rank 2's) + ..., the same bits on every rank.
  virtual Status all_reduce_sum(std::span<float> values) = 0;
  // data becomes the root's on every rank.
  virtual Status broadcast(std::span<std::byte> data, int root) = 0;
  virtual Status barrier() = 0;

  // Point to point, in order for each pair of ranks; the sizes of both ends agree. send() may return before
  // the peer has taken everything.
  virtual Status send(std::span<const std::byte> data, int to) = 0;
  virtual Status receive(std::span<std::byte> data, int from) = 0;

  // Ends the pending and all later calls of every rank with kUnavailable and this reason (its first 200
  // bytes). The first reason stands. Thread-safe.
  virtual void abort(std::string_view reason) = 0;
};

}  // namespace gantry
