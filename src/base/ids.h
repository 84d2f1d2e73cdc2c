// Strong integer ids: an index is not a count is not a byte size, and a BlockId is not a SeqId.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace gantry {

template <typename Tag, typename Int>
struct Id {
  Int value{};
  friend constexpr auto operator<=>(const Id&, const Id&) = default;
};

using BlockId = Id<struct BlockTag, int32_t>;       // a KV block; the same 64 tokens on every rank and layer
using SeqId = Id<struct SeqTag, uint64_t>;          // one choice of one request inside an engine
using RequestId = Id<struct RequestTag, uint64_t>;  // one request of the front, unique per process
using Ticket = Id<struct TicketTag, uint64_t>;      // one micro-batch in flight
using TokenId = int32_t;                            // an entry of the vocabulary; plain, as tensors hold it

}  // namespace gantry

template <typename Tag, typename Int>
struct std::hash<gantry::Id<Tag, Int>> {
  size_t operator()(const gantry::Id<Tag, Int>& id) const { return std::hash<Int>{}(id.value); }
};
