#include "wheel/core/environment.h"

#include <algorithm>
#include <random>
#include <set>

#include "wheel/core/json.h"
#include "wheel/core/python.h"

namespace clary::tool {
namespace {

constexpr int kPatience = 3600;  // seconds another install may take

// "Foo_Bar-1.0.dist-info": the folder of that project.
std::optional<std::string> dist_info_in(Ctx& ctx, const std::string& site, const std::string& project) {
  const Result<Strings> names = ctx.disk.list(site);
  for (const std::string& name : names ? *names : Strings{}) {
    if (!name.ends_with(".dist-info")) continue;
    if (normal_name(name.substr(0, name.find('-'))) == project) return name;
  }
  return std::nullopt;
}

// What RECORD lists, relative to site-packages.
std::set<std::string> recorded(Ctx& ctx, const std::string& site, const std::string& dist_info) {
  std::set<std::string> out;
  const Result<std::string> text = ctx.disk.read(site + "/" + dist_info + "/RECORD", 256 << 20);
  const Result<std::vector<RecordRow>> rows = text ? parse_record(*text) : Result<std::vector<RecordRow>>(Error{});
  for (const RecordRow& row : rows ? *rows : std::vector<RecordRow>{}) out.insert(row.path);
  out.insert(dist_info + "/RECORD");
  return out;
}

bool is_cache(const std::string& name) { return name == "__pycache__" || name.ends_with(".pyc"); }

// Whether every file below `dir` belongs to the package, compiled files aside.
bool owned(Ctx& ctx, const std::string& site, const std::string& dir, const std::set<std::string>& files) {
  const Result<Strings> names = ctx.disk.list(site + "/" + dir);
  for (const std::string& name : names ? *names : Strings{}) {
    const std::string path = dir + "/" + name;
    if (is_cache(name)) continue;
    const std::optional<FileInfo> info = ctx.disk.info(site + "/" + path);
    if (info && info->is_dir ? !owned(ctx, site, path, files) : !files.contains(path)) return false;
  }
  return true;
}

}  // namespace

Result<Environment> Environment::open(Ctx& ctx, const Target& target, Installer installer) {
  Environment out(ctx, target);
  if (Result<Done> done = out.choose(installer); !done) return done.error();
  const std::string dir = target.site + "/.clary";
  if (Result<Done> done = ctx.disk.make_dirs(dir); !done)
    return Error{done.error().message,
                 "make an environment of your own: python3 -m venv .venv, then --python .venv/bin/python"};
  Result<Lock> lock = ctx.disk.lock(dir + "/lock", kPatience);
  if (!lock) return lock.error();
  out.lock_ = *std::move(lock);
  // From here on this command alone changes the environment.
  const Result<Strings> projects = ctx.disk.list(dir);
  for (const std::string& project : projects ? *projects : Strings{}) {
    const std::optional<FileInfo> info = ctx.disk.info(dir + "/" + project);
    if (!info || !info->is_dir) continue;
    if (Result<Done> done = out.recover(project); !done) return done.error();
  }
  return out;
}

Result<Done> Environment::choose(Installer installer) {
  const std::optional<std::string> uv = ctx_.proc.find("uv");
  if (installer == Installer::kUv && !uv) return Error{"no uv on PATH", "--installer pip, or install uv"};
  if (uv && installer != Installer::kPip) {
    command_ = {*uv, "pip"}, installer_name_ = "uv";
    return Done{};
  }
  command_ = {target_.python, "-I", "-m", "pip"}, installer_name_ = "pip";
  const Result<Finished> said = ctx_.proc.run({target_.python, "-I", "-m", "pip", "--version"}, 60);
  if (!said || said->exit_code != 0)
    return Error{"neither uv nor pip for " + target_.python, shell(target_.python) + " -m ensurepip"};
  return Done{};
}

Result<Done> Environment::run(Strings arguments, const std::string& what, int seconds) {
  Strings argv = command_;
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  Job job{argv, seconds};
  // What would change where things come from or go to: the command line alone says that.
  for (const char* name : {"PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_TARGET", "PIP_PREFIX",
                           "PIP_USER", "PIP_CONSTRAINT", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_INDEX_URL",
                           "UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_CONSTRAINT", "UV_PYTHON"})
    job.env[name] = "";
  const Result<Finished> done = ctx_.proc.run(job);
  if (!done) return done.error();
  if (done->exit_code == 0) return Done{};
  const std::vector<std::string_view> said = lines(std::string_view(done->err));
  std::string reason;
  for (std::string_view line : said) {
    if (line.starts_with("ERROR:") || line.starts_with("error:") || line.find("\xc3\x97") != line.npos)
      reason = std::string(trim(line));
    if (!reason.empty()) break;
  }
  if (reason.empty() && !said.empty()) reason = said.back();
  return Error{installer_name_ + " failed: " + what + ": " + printable(reason),
               "clary explain " + shell(reason.substr(0, 100))};
}

std::optional<Installed> Environment::find(const std::string& project) const {
  const std::optional<std::string> dir = dist_info_in(ctx_, target_.site, project);
  if (!dir) return std::nullopt;
  const std::string stem = dir->substr(0, dir->size() - 10);
  Installed out{stem.substr(0, stem.find('-')), stem.substr(stem.find('-') + 1), *dir, ""};
  const Result<std::string> text = ctx_.disk.read(target_.site + "/" + *dir + "/direct_url.json", 100'000);
  const Result<Json> json = text ? parse_json(*text, "direct_url.json") : Result<Json>(Error{});
  if (!json || !json->is_object() || !json->contains("archive_info")) return out;
  const Json& archive = (*json)["archive_info"];
  if (!archive.is_object()) return out;
  if (archive.contains("hashes") && archive["hashes"].is_object()) out.sha256 = text_of(archive["hashes"], "sha256");
  if (!out.sha256.empty()) return out;
  // uv writes no hash: the receipt has it, if this is still what it is about.
  const Result<Json> ours = parse_json(receipt(project), "receipt.json");
  const bool same = ours && ours->is_object() && text_of(*ours, "version") == out.version &&
                    text_of(*json, "url").ends_with("/" + percent(text_of(*ours, "wheel")));
  if (same) out.sha256 = text_of(*ours, "sha256");
  return out;
}

Result<Done> Environment::install_stack(const Stack& stack) {
  Strings wanted;
  const std::pair<const char*, const std::string*> parts[] = {{"torch", &stack.torch},
                                                              {"torchvision", &stack.torchvision},
                                                              {"torchaudio", &stack.torchaudio},
                                                              {"triton", &stack.triton}};
  for (const auto& [name, version] : parts) {
    if (version->empty()) continue;
    const std::optional<Installed> have = find(name);
    const Result<Version> v = Version::parse(have ? have->version : ""), want = Version::parse(*version);
    const bool there = v && want && (*v == *want || (want->local().empty() && v->without_local() == *want));
    if (!there) wanted.push_back(std::string(name) + "==" + *version);
  }
  if (wanted.empty()) return Done{};
  Strings arguments = {"install"};
  if (installer_name_ == "uv") arguments.insert(arguments.end(), {"--python", target_.python});
  arguments.insert(arguments.end(), wanted.begin(), wanted.end());
  if (!stack.index_url.empty()) arguments.insert(arguments.end(), {"--index-url", stack.index_url});
  ctx_.err.write("installing " + join(wanted, " ") + (stack.index_url.empty() ? "" : " from " + stack.index_url) +
                 "\n");
  return run(arguments, join(wanted, " "), 3600);
}

Result<Done> Environment::install(const std::string& project, const std::string& wheel, const std::string& sha256,
                                  const std::string& receipt) {
  // A name of its own: the installer of a command that was killed may still write to the old one.
  std::random_device random;
  const std::string dir = own(project), staging = dir + format("/staging-%08x%08x", random(), random()),
                    list = dir + "/requirement.txt";
  if (Result<Done> done = ctx_.disk.make_dirs(staging); !done) return done;
  const std::string whole = absolute(ctx_, wheel);
  std::string path;  // as a file: address
  for (std::string_view part : split(whole, '/')) path += (path.empty() && part.empty() ? "" : "/") + percent(part);
  const std::string line = project + " @ file://" + path + " --hash=sha256:" + sha256 + "\n";
  if (Result<Done> done = ctx_.disk.write(list, line); !done) return done;
  Strings arguments = {"install", "--prefix", staging, "--no-deps", "--no-index", "--require-hashes", "-r", list};
  if (installer_name_ == "pip")
    arguments.insert(arguments.end(), {"--ignore-installed", "--no-compile", "--no-warn-script-location",
                                       "--disable-pip-version-check", "--no-cache-dir"});
  else
    arguments.insert(arguments.end(), {"--python", target_.python, "--no-cache", "--link-mode", "copy"});
  if (Result<Done> done = run(arguments, base_name(wheel), 1800); !done) return done;

  // Where site-packages is below the prefix: as in the environment, or wherever the dist-info came to lie.
  const std::string below =
      target_.site.starts_with(target_.prefix + "/") ? target_.site.substr(target_.prefix.size()) : "";
  if (below.empty() || !dist_info_in(ctx_, staging + below, project))
    return Error{"this Python keeps packages elsewhere than its prefix: " + target_.python,
                 "use an environment: python3 -m venv .venv"};
  Result<std::vector<Move>> moves = plan_moves(project, staging + below);
  if (!moves) return moves.error();
  Json list_of_moves = Json::array();
  for (const Move& move : *moves) list_of_moves.push_back({move.from, move.to});
  // From here on everything is staged. The journal decides: without it the old state holds, with it the new one.
  const std::string journal = dump({{"moves", list_of_moves}, {"receipt", receipt}});
  if (Result<Done> done = ctx_.disk.write(dir + "/journal.json", journal); !done) return done;
  return recover(project);
}

// For each piece of the new package: its old one away, then it in. A folder that others share is entered, not moved.
Result<std::vector<Environment::Move>> Environment::plan_moves(const std::string& project,
                                                               const std::string& staged) const {
  const std::string& site = target_.site;
  const std::optional<std::string> old_info = dist_info_in(ctx_, site, project);
  const std::set<std::string> old = old_info ? recorded(ctx_, site, *old_info) : std::set<std::string>{};
  const std::string away = own(project) + "/old";
  const auto mine = [&](const std::string& dir) { return dir == old_info || owned(ctx_, site, dir, old); };
  std::vector<Move> moves;
  std::set<std::string> handled;
  const std::function<void(const std::string&, const std::string&)> walk = [&](const std::string& from_root,
                                                                               const std::string& dir) {
    const Result<Strings> names = ctx_.disk.list(from_root + dir);
    for (const std::string& name : names ? *names : Strings{}) {
      const std::string path = dir + "/" + name;
      const std::optional<FileInfo> here = ctx_.disk.info(site + path), fresh = ctx_.disk.info(from_root + path);
      const bool shared = here && here->is_dir && fresh && fresh->is_dir && !mine(path.substr(1));
      if (shared) {
        walk(from_root, path);
        continue;
      }
      if (here) moves.push_back({site + path, away + path});
      moves.push_back({from_root + path, site + path});
      handled.insert(path.substr(1));
    }
  };
  walk(staged, "");
  // Pieces of the old package that the new one has no more.
  for (const std::string& path : old) {
    std::string piece = path;
    bool gone = path.starts_with("../") || path.starts_with("/");
    for (std::string up = path; !up.empty() && up != "."; up = dir_name(up)) {
      gone |= handled.contains(up);
      if (up != path && mine(up) && ctx_.disk.info(site + "/" + up)) piece = up;
    }
    if (gone || handled.contains(piece) || !ctx_.disk.info(site + "/" + piece)) continue;
    moves.push_back({site + "/" + piece, away + "/" + piece});
    handled.insert(piece);
  }
  // Scripts and data lie beside site-packages, at the same place below both prefixes.
  const std::string below = site.substr(target_.prefix.size()), root = staged.substr(0, staged.size() - below.size());
  const std::set<std::string> fresh = recorded(ctx_, staged, *dist_info_in(ctx_, staged, project));
  std::string up = "..";
  for (char c : below.substr(1)) up += c == '/' ? "/.." : "";
  for (const std::string& path : fresh) {
    if (!path.starts_with(up + "/")) continue;
    const std::string place = path.substr(up.size());
    if (place.find("/../") != place.npos) return Error{"a file outside the environment: " + printable(path), ""};
    if (ctx_.disk.info(target_.prefix + place)) moves.push_back({target_.prefix + place, away + "/.prefix" + place});
    moves.push_back({root + place, target_.prefix + place});
  }
  for (const std::string& path : old) {
    if (!path.starts_with(up + "/") || fresh.contains(path) || path.find("/../", up.size()) != path.npos) continue;
    const std::string place = path.substr(up.size());
    if (ctx_.disk.info(target_.prefix + place)) moves.push_back({target_.prefix + place, away + "/.prefix" + place});
  }
  return moves;
}

Result<Done> Environment::recover(const std::string& project) {
  const std::string dir = own(project);
  const Result<std::string> text = ctx_.disk.read(dir + "/journal.json", 64 << 20);
  if (!text) {  // stopped before the journal: only the staging is left
    const Result<Strings> names = ctx_.disk.list(dir);
    for (const std::string& name : names ? *names : Strings{}) {
      if (name == "receipt.json" || name == "previous.json") continue;
      if (Result<Done> done = ctx_.disk.remove(dir + "/" + name); !done) return done;
    }
    return Done{};
  }
  const Result<Json> json = parse_json(*text, dir + "/journal.json");
  if (!json || !json->is_object())
    return Error{"unreadable: " + dir + "/journal.json", "remove it, then install again with --replace"};
  std::vector<Move> moves;
  for (const Json& move : list_of(*json, "moves")) {
    if (move.is_array() && move.size() == 2 && move[0].is_string() && move[1].is_string())
      moves.push_back({move[0].get<std::string>(), move[1].get<std::string>()});
  }
  if (Result<Done> done = finish(project, moves); !done) return done;
  const std::string now = receipt(project), next = text_of(*json, "receipt");
  if (now != next) {
    if (!now.empty()) {
      if (Result<Done> done = ctx_.disk.write(dir + "/previous.json", now); !done) return done;
    }
    if (Result<Done> done = ctx_.disk.write(dir + "/receipt.json", next); !done) return done;
  }
  // First the journal: without it what is left is rubbish, with it the renames would be done again.
  if (Result<Done> done = ctx_.disk.remove(dir + "/journal.json"); !done) return done;
  return recover(project);
}

// A move is done when its goal exists: an old piece goes away before the new one takes its place. All folders are made
// first, so that nothing but a rename lies between the two.
Result<Done> Environment::finish(const std::string& project, const std::vector<Move>& moves) {
  const std::string inside = own(project) + "/";
  std::set<std::string> folders;
  for (const Move& move : moves) {
    const bool mine = move.from.starts_with(target_.prefix + "/") && move.to.starts_with(target_.prefix + "/");
    if (!mine) return Error{"a journal that leaves its environment: " + inside + "journal.json", "remove it"};
    if (ctx_.disk.info(move.from)) folders.insert(dir_name(move.to));
  }
  for (const std::string& folder : folders) {
    if (Result<Done> done = ctx_.disk.make_dirs(folder); !done) return done;
  }
  for (const Move& move : moves) {
    const bool brings = move.from.starts_with(inside + "staging-");
    const bool here = ctx_.disk.info(move.from).has_value();
    if (!here || (!brings && ctx_.disk.info(move.to))) continue;
    if (Result<Done> done = ctx_.disk.rename(move.from, move.to); !done) return done;
  }
  return Done{};
}

std::string Environment::receipt(const std::string& project) const {
  const Result<std::string> text = ctx_.disk.read(own(project) + "/receipt.json", 1 << 20);
  return text ? *text : "";
}

std::string Environment::previous_receipt(const std::string& project) const {
  const Result<std::string> text = ctx_.disk.read(own(project) + "/previous.json", 1 << 20);
  return text ? *text : "";
}

}  // namespace clary::tool
