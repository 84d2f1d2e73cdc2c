#include "hub/pull.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "formats/quote_name.h"
#include "formats/regular_file.h"
#include "hub/cache_layout.h"
#include "hub/partial_file.h"
#include "hub/select_files.h"

namespace gantry::hub {
namespace {

double gib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

// Free for this user, of the file system that `path` will lie on.
Result<uint64_t> free_bytes(const std::string& path) {
  std::error_code error;
  std::filesystem::path at = std::filesystem::absolute(path, error);
  while (!path_exists(at.string()) && at.has_relative_path()) at = at.parent_path();
  struct statvfs info;
  if (::statvfs(at.c_str(), &info) != 0) return file_error("cannot use", at.string(), errno);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

// One entry per content. kDataLoss when one hash has two sizes.
Result<std::vector<Blob>> blobs_of(const std::vector<PlannedFile>& files) {
  std::vector<Blob> blobs;
  std::map<std::string_view, size_t> known;
  for (const PlannedFile& planned : files) {
    const RemoteFile& file = planned.file;
    const auto [entry, is_new] = known.try_emplace(file.etag, blobs.size());
    if (is_new) blobs.push_back({.etag = file.etag, .is_lfs = file.is_lfs, .size = file.size, .paths = {}});
    Blob& blob = blobs[entry->second];
    if (blob.size != file.size) {
      return data_loss(fmt::format("the hub lists {} and {} with one hash and two sizes",
                                   quote_name(blob.paths[0]), quote_name(file.path)));
    }
    blob.paths.push_back(file.path);
  }
  return blobs;
}

}  // namespace

Result<PullPlan> plan_pull(const Settings& settings, const PullRequest& request, const StopSignal& stop) {
  if (settings.offline) {
    return unavailable("HF_HUB_OFFLINE is set, so the hub is not asked for " + request.repo.id());
  }
  Fetcher fetcher(settings, request.repo, stop);
  Retrier retrier(request.download.retries, stop);
  PullPlan plan;
  GANTRY_ASSIGN_OR_RETURN(plan.commit, resolve_commit(fetcher, retrier));
  GANTRY_ASSIGN_OR_RETURN(const auto all, list_files(fetcher, retrier, plan.commit));
  auto chosen = select_files(all, request.include);
  if (!chosen.ok()) return chosen.status().with_context(request.repo.id());
  const CacheLayout cache(settings.cache_dir, request.repo);
  plan.snapshot = cache.snapshot(plan.commit);
  GANTRY_ASSIGN_OR_RETURN(plan.disk_free_bytes, free_bytes(settings.cache_dir));
  for (RemoteFile& file : *chosen) {
    PlannedFile planned{.file = std::move(file)};
    planned.cached = cache.has_blob(planned.file.etag, planned.file.size);
    if (!planned.cached) {
      planned.received_bytes = resumable_bytes(cache.partial(planned.file.etag),
                                               cache.foreign_partial(planned.file.etag), planned.file.size);
    }
    plan.files.push_back(std::move(planned));
  }
  // Small files first: they say at once whether the model can be served at all.
  std::stable_sort(plan.files.begin(), plan.files.end(), [](const PlannedFile& a, const PlannedFile& b) {
    return std::pair(a.file.is_lfs, std::string_view(a.file.path)) <
           std::pair(b.file.is_lfs, std::string_view(b.file.path));
  });
  GANTRY_ASSIGN_OR_RETURN(const auto blobs, blobs_of(plan.files));
  std::map<std::string_view, const PlannedFile*> by_etag;
  for (const PlannedFile& planned : plan.files) by_etag.emplace(planned.file.etag, &planned);
  for (const Blob& blob : blobs) {  // at most kHubFilesMax x kHubFileBytesMax: fits 64 bits
    const PlannedFile& planned = *by_etag.at(blob.etag);
    plan.total_bytes += blob.size;
    if (!planned.cached) plan.missing_bytes += blob.size - planned.received_bytes;
  }
  return plan;
}

Status execute_pull(const Settings& settings, const PullRequest& request, const PullPlan& plan,
                    const StopSignal& stop, const std::function<void(uint64_t, uint64_t)>& on_progress) {
  if (plan.missing_bytes > plan.disk_free_bytes) {
    return resource_exhausted(fmt::format(
        "{} needs {:.1f} GiB more, {} has {:.1f} GiB free: free some, or set HF_HUB_CACHE to a larger disk",
        request.repo.id(), gib(plan.missing_bytes), settings.cache_dir, gib(plan.disk_free_bytes)));
  }
  const CacheLayout cache(settings.cache_dir, request.repo);
  DownloadJob job{
      .settings = &settings, .cache = &cache, .repo = request.repo, .commit = plan.commit, .blobs = {}};
  // What is cached and linked is left alone, so that a cache that cannot be written still serves it.
  std::vector<PlannedFile> to_do;
  for (const PlannedFile& planned : plan.files) {
    // Another program finished what a process before this one began.
    if (planned.cached) ::unlink(cache.partial(planned.file.etag).c_str());
    if (!planned.cached || !cache.is_linked(plan.commit, planned.file.path, planned.file.etag))
      to_do.push_back(planned);
  }
  GANTRY_ASSIGN_OR_RETURN(job.blobs, blobs_of(to_do));
  if (!job.blobs.empty()) {
    GANTRY_RETURN_IF_ERROR(cache.create(plan.commit));
    GANTRY_RETURN_IF_ERROR(download(job, request.download, stop, on_progress));
  }
  return cache.write_ref(request.repo.revision, plan.commit);
}

Result<std::string> cached_snapshot(const Settings& settings, const RepoName& repo) {
  const CacheLayout cache(settings.cache_dir, repo);
  const auto commit = cache.read_ref(repo.revision);
  if (commit.status().code() == StatusCode::kDataLoss) return commit.status();
  if (!commit.ok() || !path_exists(cache.snapshot(*commit))) {
    return not_found(fmt::format("{} at revision {} is not in {}: `gantry pull {}` fetches it", repo.id(),
                                 quote_name(repo.revision), settings.cache_dir, repo.id()));
  }
  return cache.snapshot(*commit);
}

}  // namespace gantry::hub
