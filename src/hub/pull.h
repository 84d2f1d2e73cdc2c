// From the name of a repository to a folder that holds its files: `gantry pull` and `gantry serve ORG/NAME`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "hub/download.h"
#include "hub/hub_api.h"
#include "hub/repo_name.h"
#include "hub/settings.h"
#include "hub/stop_signal.h"

namespace gantry::hub {

struct PullRequest {
  RepoName repo;
  std::vector<std::string> include;  // empty: what Gantry reads
  DownloadOptions download;
};

struct PlannedFile {
  RemoteFile file;
  bool cached = false;          // its content is in the cache
  uint64_t received_bytes = 0;  // of a download that was interrupted
};

struct PullPlan {
  std::string commit;
  std::string snapshot;            // the folder that the files will lie in
  std::vector<PlannedFile> files;  // large files last
  uint64_t total_bytes = 0;
  uint64_t missing_bytes = 0;  // to fetch; a content at several paths counts once
  uint64_t disk_free_bytes = 0;
};

// Asks the hub what is there and looks at what is cached. Writes nothing. kUnavailable: the hub cannot be reached,
// or HF_HUB_OFFLINE forbids it.
Result<PullPlan> plan_pull(const Settings& settings, const PullRequest& request, const StopSignal& stop);

// Fetches what is missing and links all of it. kResourceExhausted before anything is fetched when the disk is too
// small. refs/REVISION is written last, so that offline readers never see a half of a new version. See download()
// for the rest.
Status execute_pull(const Settings& settings, const PullRequest& request, const PullPlan& plan,
                    const StopSignal& stop,
                    const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& on_progress);

// The folder of the revision as it was last pulled, by Gantry or by huggingface_hub; no network. kNotFound says
// how to get it.
Result<std::string> cached_snapshot(const Settings& settings, const RepoName& repo);

}  // namespace gantry::hub
