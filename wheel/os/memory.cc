#include "wheel/os/memory.h"

#include <algorithm>
#include <utility>

namespace clary::tool {
namespace {

Error missing(const std::string& path) { return {"cannot open " + path + ": No such file or directory", ""}; }

}  // namespace

Result<Mapping> MemoryDisk::map(const std::string& path) {
  const auto found = files.find(path);
  if (found == files.end()) return missing(path);
  const auto copy = std::make_shared<const std::string>(found->second);
  return Mapping{bytes_of(*copy), copy};
}

Result<std::string> MemoryDisk::read(const std::string& path, uint64_t at_most) {
  const auto found = files.find(path);
  if (found == files.end()) return missing(path);
  return found->second.substr(0, at_most);
}

std::optional<FileInfo> MemoryDisk::info(const std::string& path) {
  if (const auto found = files.find(path); found != files.end()) {
    const auto time = modified.find(path);
    return FileInfo{found->second.size(), false, time == modified.end() ? 0 : time->second};
  }
  const std::string prefix = path.ends_with('/') ? path : path + "/";
  const auto first = files.lower_bound(prefix);
  if (path == "." || (first != files.end() && first->first.starts_with(prefix))) return FileInfo{0, true, 0};
  return std::nullopt;
}

Result<Strings> MemoryDisk::list(const std::string& dir) {
  const std::string prefix = dir.ends_with('/') ? dir : dir + "/";
  Strings names;
  for (auto it = files.lower_bound(prefix); it != files.end() && it->first.starts_with(prefix); ++it) {
    const std::string_view rest = std::string_view(it->first).substr(prefix.size());
    const std::string name(rest.substr(0, rest.find('/')));
    if (names.empty() || names.back() != name) names.push_back(name);
  }
  if (names.empty()) return Error{"cannot list " + dir + ": No such file or directory", ""};
  return names;
}

Result<Done> MemoryDisk::write(const std::string& path, std::string_view content) {
  if (fail_after == 0) return Error{"cannot write " + path + ": No space left on device", ""};
  if (fail_after > 0) fail_after--;
  files[path] = content;
  written.insert(path);
  return Done{};
}

Result<Done> MemoryDisk::link_or_copy(const std::string& from, const std::string& to) {
  Result<Mapping> content = map(from);
  if (!content) return content.error();
  return write(to, text(content->bytes));
}

Result<Done> MemoryDisk::symlink(const std::string& target, const std::string& path) {
  const std::string from = target.starts_with("/") ? target : dir_name(path) + "/" + target;
  links[path] = target;
  const std::string prefix = from + "/";
  std::map<std::string, std::string> more;
  for (auto it = files.lower_bound(prefix); it != files.end() && it->first.starts_with(prefix); ++it)
    more[path + "/" + it->first.substr(prefix.size())] = it->second;
  if (more.empty()) return write(path, files.contains(from) ? files[from] : "");
  for (const auto& [name, content] : more) {
    if (Result<Done> done = write(name, content); !done) return done;
  }
  return Done{};
}

Result<Done> MemoryDisk::rename(const std::string& from, const std::string& to) {
  std::map<std::string, std::string> moved;
  for (const auto& [path, content] : files) {
    if (path == from || path.starts_with(from + "/")) moved[to + path.substr(from.size())] = content;
  }
  if (moved.empty()) return missing(from);
  if (fail_after == 0) return Error{"cannot write " + to + ": No space left on device", ""};
  if (fail_after > 0) fail_after--;
  std::erase_if(files, [&](const auto& file) { return file.first == from || file.first.starts_with(from + "/"); });
  for (const auto& [path, content] : moved) {
    files[path] = content;
    written.insert(path);
  }
  return Done{};
}

Result<Done> MemoryDisk::copy(const std::string& from, const std::string& to) {
  Result<Done> done = link_or_copy(from, to);
  if (const auto time = modified.find(from); done && time != modified.end()) modified[to] = time->second;
  return done;
}

Result<Done> MemoryDisk::append(const std::string& path, std::string_view content) {
  return write(path, (files.contains(path) ? files[path] : "") + std::string(content));
}

Result<Done> MemoryDisk::remove(const std::string& path) {
  std::erase_if(files, [&](const auto& file) { return file.first == path || file.first.starts_with(path + "/"); });
  return Done{};
}

namespace {

class MemoryAppender : public Appender {
 public:
  MemoryAppender(MemoryDisk& disk, std::string path) : disk_(disk), path_(std::move(path)) {}
  Result<Done> append(std::string_view piece) override {
    return disk_.write(path_, disk_.files[path_] + std::string(piece));
  }
  Result<Done> finish() override { return Done{}; }

 private:
  MemoryDisk& disk_;
  std::string path_;
};

}  // namespace

Result<std::unique_ptr<Appender>> MemoryDisk::append_to(const std::string& path, uint64_t keep) {
  if (Result<Done> done = write(path, files[path].substr(0, keep)); !done) return done.error();
  return std::unique_ptr<Appender>(std::make_unique<MemoryAppender>(*this, path));
}

Result<Done> MemoryDisk::touch(const std::string& path) {
  modified[path] = 1795219200;
  return Done{};
}

Result<Lock> MemoryDisk::lock(const std::string& path, int, bool shared) {
  if (shared) return Lock();
  if (locked.contains(path)) return Error{"in use by another process: " + path, ""};
  locked.insert(path);
  return Lock(this, [this, path](const void*) { locked.erase(path); });
}

std::optional<std::string> MemoryProc::env(const std::string& name) {
  const auto found = environment.find(name);
  if (found == environment.end()) return std::nullopt;
  return found->second;
}

std::optional<std::string> MemoryProc::find(const std::string& program) {
  for (const auto& [line, result] : programs) {
    if (line == program || line.starts_with(program + " ")) return "/usr/bin/" + program;
  }
  return std::nullopt;
}

Result<Finished> MemoryProc::run(const Job& job) {
  const std::string line = join(job.argv, " ");
  ran.push_back(line);
  jobs.push_back(job);
  std::optional<Finished> done = act ? act(job) : std::nullopt;
  if (const auto found = programs.find(line); !done && found != programs.end()) done = found->second;
  if (!done) return Error{"cannot start " + job.argv[0] + ": No such file or directory", ""};
  if (job.hear) job.hear(done->out + done->err);
  return *done;
}

Result<Response> MemoryNet::send(const Request& request, const Sink& sink) {
  requests.push_back(request);
  requests.back().body = {};
  const auto found = pages.find(request.url);
  if (found == pages.end() && !serve) return Error{"no such host: " + request.url, ""};
  Result<Response> response = found != pages.end() ? Result<Response>(found->second) : serve(request);
  const bool streamed = response && sink && (response->status == 200 || response->status == 206);
  if (!streamed) return response;
  const std::string body = std::exchange(response->body, "");
  for (size_t at = 0; at < body.size(); at += 4096) {
    if (!sink(*response, std::string_view(body).substr(at, 4096))) return Error{"stopped: " + request.url, ""};
  }
  return response;
}

}  // namespace clary::tool
