// Receives one range of a blob into its partial file, with every check on what the servers say.
#pragma once

#include <mutex>
#include <string>

#include "hub/download.h"
#include "hub/fetcher.h"
#include "hub/partial_file.h"
#include "hub/retrier.h"

namespace gantry::hub {

// A blob and where its content lies: the hub's URL, or the one that it redirected to (a signed link that
// expires), so that not every range asks the hub.
struct BlobSource {
  const Blob* blob = nullptr;
  std::string hub_url;
  std::string commit;
  std::mutex mutex;         // of content_url
  std::string content_url;  // empty: ask the hub
};

enum class Received {
  kComplete,
  kNoRanges,  // the server sends the whole content whatever is asked: restart(whole) the file
};

// whole: no range is asked for, and the bytes that the file has already are skipped.
Result<Received> receive_range(Fetcher& fetcher, Retrier& retrier, BlobSource& source, PartialFile& file,
                               size_t chunk, bool whole);

}  // namespace gantry::hub
