#include "hub/hub_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/quote_name.h"
#include "formats/strict_json.h"
#include "hub/hub_limits.h"

namespace gantry::hub {
namespace {

using nlohmann::json;

Result<json> get_json(Fetcher& fetcher, Retrier& retrier, const std::string& url, std::string* link) {
  Fetcher::Document document;
  GANTRY_RETURN_IF_ERROR(retrier.run([&] { return Retrier::Try{fetcher.get_document(url, document)}; }));
  if (link != nullptr) *link = document.link;
  return parse_strict_json(document.body, url_for_messages(url));
}

std::string string_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<uint64_t> size_at(const json& object, const std::string& path) {
  const auto found = object.find("size");
  if (found != object.end() && found->is_number_unsigned() &&
      found->get<uint64_t>() <= limits::kHubFileBytesMax) {
    return found->get<uint64_t>();
  }
  return data_loss(fmt::format("the hub lists {} without a size of 0 to {} bytes", quote_name(path),
                               limits::kHubFileBytesMax));
}

Result<RemoteFile> parse_file(const json& entry) {
  RemoteFile file;
  file.path = string_at(entry, "path");
  GANTRY_RETURN_IF_ERROR(check_file_name(file.path));
  GANTRY_ASSIGN_OR_RETURN(file.size, size_at(entry, file.path));
  file.etag = string_at(entry, "oid");
  if (const auto lfs = entry.find("lfs"); lfs != entry.end() && lfs->is_object()) {
    file.is_lfs = true;
    file.etag = string_at(*lfs, "oid");
    if (file.etag.starts_with("sha256:")) file.etag.erase(0, 7);
    GANTRY_ASSIGN_OR_RETURN(file.size, size_at(*lfs, file.path));
  }
  if (!(file.is_lfs ? is_sha256(file.etag) : is_sha1(file.etag))) {
    return data_loss(fmt::format("the hub lists {} without a {} hash", quote_name(file.path),
                                 file.is_lfs ? "SHA-256" : "git SHA-1"));
  }
  return file;
}

// One content has one size, one path one entry, and no file is also a folder.
Status check_list(const std::vector<RemoteFile>& files) {
  std::set<std::string_view> paths;
  for (const RemoteFile& file : files) {
    if (!paths.insert(file.path).second) {
      return data_loss("the hub lists " + quote_name(file.path) + " twice");
    }
  }
  for (const RemoteFile& file : files) {
    for (size_t slash = file.path.find('/'); slash != std::string::npos;
         slash = file.path.find('/', slash + 1)) {
      if (paths.contains(std::string_view(file.path).substr(0, slash))) {
        return data_loss("the hub lists " + quote_name(file.path.substr(0, slash)) +
                         " as a file and as a folder");
      }
    }
  }
  return {};
}

std::string api_url(const Fetcher& fetcher) {
  return fetcher.settings().endpoint + "/api/models/" + fetcher.repo().id();
}

}  // namespace

Result<std::string> resolve_commit(Fetcher& fetcher, Retrier& retrier) {
  const std::string& revision = fetcher.repo().revision;
  if (is_commit(revision)) return revision;
  const std::string url = api_url(fetcher) + "/revision/" + percent_encode(revision, /*keep_slash=*/false);
  GANTRY_ASSIGN_OR_RETURN(const json info, get_json(fetcher, retrier, url, nullptr));
  const std::string commit = info.is_object() ? string_at(info, "sha") : std::string();
  if (!is_commit(commit)) {
    return data_loss(url + " names no commit: is HF_ENDPOINT the address of a Hugging Face hub?");
  }
  return commit;
}

Status add_tree_page(const json& page, std::vector<RemoteFile>& files) {
  if (!page.is_array()) return data_loss("the hub's file list is not a list");
  for (const json& entry : page) {
    if (!entry.is_object()) return data_loss("the hub's file list has an entry that is no object");
    if (string_at(entry, "type") != "file") continue;
    if (files.size() >= limits::kHubFilesMax) {
      return resource_exhausted(fmt::format("the repository has more than {} files", limits::kHubFilesMax));
    }
    GANTRY_ASSIGN_OR_RETURN(RemoteFile file, parse_file(entry));
    files.push_back(std::move(file));
  }
  return {};
}

Result<std::vector<RemoteFile>> list_files(Fetcher& fetcher, Retrier& retrier, const std::string& commit) {
  std::string url = api_url(fetcher) + "/tree/" + commit + "?recursive=true&expand=false";
  std::vector<RemoteFile> files;
  for (int page = 0; page < limits::kHubPagesMax; ++page) {
    std::string link;
    GANTRY_ASSIGN_OR_RETURN(const json entries, get_json(fetcher, retrier, url, &link));
    GANTRY_RETURN_IF_ERROR(add_tree_page(entries, files));
    const std::string next = next_link(link);
    if (next.empty()) {
      GANTRY_RETURN_IF_ERROR(check_list(files));
      return files;
    }
    GANTRY_ASSIGN_OR_RETURN(url, join_url(url, next));
    GANTRY_ASSIGN_OR_RETURN(const UrlParts parts, parse_url(url));
    if (!parts.same_origin(fetcher.settings().origin)) {
      return data_loss("the hub's file list goes on at " + quote_name(url_for_messages(url)) +
                       ", another server");
    }
  }
  return resource_exhausted(fmt::format("the hub's file list has more than {} pages", limits::kHubPagesMax));
}

std::string file_url(const Settings& settings, const RepoName& repo, const std::string& commit,
                     const std::string& path) {
  return settings.endpoint + "/" + repo.id() + "/resolve/" + commit + "/" +
         percent_encode(path, /*keep_slash=*/true);
}

std::string next_link(std::string_view header) {
  while (!header.empty()) {
    const size_t open = header.find('<');
    const size_t close = header.find('>', open == std::string_view::npos ? 0 : open);
    if (open == std::string_view::npos || close == std::string_view::npos) return {};
    const std::string_view target = header.substr(open + 1, close - open - 1);
    const std::string_view rest = header.substr(close + 1);
    const size_t next_entry = rest.find('<');
    const std::string_view parameters = rest.substr(0, next_entry);
    if (parameters.find("rel=\"next\"") != std::string_view::npos ||
        parameters.find("rel=next") != std::string_view::npos) {
      return std::string(target);
    }
    if (next_entry == std::string_view::npos) return {};
    header = rest.substr(next_entry);
  }
  return {};
}

}  // namespace gantry::hub
