#include "wheel/core/build.h"

#include <algorithm>
#include <set>

#include "wheel/core/digest.h"
#include "wheel/core/emit.h"
#include "wheel/core/host.h"
#include "wheel/core/json.h"
#include "wheel/core/requirement.h"
#include "wheel/core/scan.h"
#include "wheel/core/tag.h"

namespace clary::tool {
namespace {

constexpr int kMostFixes = 5;
constexpr uint64_t kMostLog = uint64_t{256} << 20, kMostPipReport = uint64_t{64} << 20;

// Of the caller's environment, what builds listen to.
constexpr const char* kListened[] = {
    "MAX_JOBS", "EXT_PARALLEL", "NVCC_THREADS", "NVCC_CCBIN", "NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS", "CC",
    "CXX",      "CFLAGS",       "CXXFLAGS",     "LDFLAGS",    "CMAKE_ARGS",        "LDSHARED",           "LDCXXSHARED"};

// What is remembered of a cell between runs, in its work folder.
class State {
 public:
  State(Ctx& ctx, std::string path) : ctx_(ctx), path_(std::move(path)) {
    const Result<std::string> text = ctx_.disk.read(path_);
    const Result<Json> json = text ? parse_json(*text, path_) : Result<Json>(Error{});
    if (json && json->is_object()) json_ = *json;
  }
  std::string get(const std::string& key) const { return text_of(json_, key.c_str()); }
  Result<Done> set(const std::string& key, const std::string& value) {
    json_[key] = value;
    return ctx_.disk.write(path_, dump(json_));
  }

 private:
  Ctx& ctx_;
  std::string path_;
  Json json_ = Json::object();
};

// The hash of torch's wheel by pip's installation report.
std::string installed_torch(Ctx& ctx, const std::string& path) {
  const Result<std::string> text = ctx.disk.read(path, kMostPipReport);
  const Result<Json> json = text ? parse_json(*text, path) : Result<Json>(Error{});
  if (!json || !json->is_object()) return "";
  const auto text_at = [](const Json* at, std::initializer_list<const char*> keys) {
    for (const char* key : keys) at = at && at->is_object() && at->contains(key) ? &(*at)[key] : nullptr;
    return at && at->is_string() ? at->get<std::string>() : "";
  };
  for (const Json& row : list_of(*json, "install")) {
    if (text_at(&row, {"metadata", "name"}) == "torch")
      return text_at(&row, {"download_info", "archive_info", "hashes", "sha256"});
  }
  return "";
}

class Builder {
 public:
  Builder(Ctx& ctx, const Recipe& recipe, const Cell& cell, const BuildOptions& options)
      : ctx_(ctx), recipe_(recipe), options_(options) {
    report_.cell = cell;
    if (options.jobs) report_.cell.jobs = options.jobs;
  }
  BuildReport run();

 private:
  Result<Done> prepare();
  Result<Done> take_sources();
  Result<Done> choose_python();
  Result<Done> choose_compiler();
  std::string fill(std::string text) const;
  void set_environment();
  Result<Done> run_steps();
  Result<Done> run_step(const Step& step);
  std::string options_digest() const;
  bool repair();
  void hear(std::string_view text);
  int seconds_left() const { return options_.seconds - static_cast<int>(ctx_.clock.now() - begin_); }

  Ctx& ctx_;
  const Recipe& recipe_;
  const BuildOptions& options_;
  BuildReport report_;
  BuildSite site_;
  std::optional<State> state_;
  int64_t begin_ = 0;
  std::string progress_;
};

// ---- before anything is compiled ------------------------------------------------------------------------------------------

Result<Done> Builder::take_sources() {
  const std::string stage = site_.work + "/stage";
  if (auto done = ctx_.disk.remove(stage); !done) return done;
  if (auto done = mirror(ctx_, options_.source, stage); !done) return done;
  for (const std::string& patch : recipe_.patches) {
    const std::string path = patch.starts_with("/") ? patch : options_.recipe_folder + "/" + patch;
    Result<Applied> applied = apply_patch(ctx_, stage, path);
    if (!applied) return applied.error();
    report_.patches.push_back(*std::move(applied));
  }
  for (const Edit& edit : recipe_.edits) {
    Result<Applied> applied = apply_edit(ctx_, stage, edit);
    if (!applied) return applied.error();
    report_.patches.push_back(*std::move(applied));
  }
  site_.source = site_.work + "/source";
  return mirror(ctx_, stage, site_.source);
}

Result<Done> Builder::choose_python() {
  if (!options_.environment.empty()) {
    Result<Python> python = ask_python(ctx_, options_.environment + "/bin/python");
    if (!python) return python.error();
    site_.prefix = options_.environment;
    site_.python = *std::move(python);
    const std::optional<InstalledTorch> torch = torch_in(ctx_, site_.python.site);
    const std::string has = torch ? torch->version.substr(0, torch->version.find('+')) : "none";
    if (!report_.cell.torch.empty() && has != report_.cell.torch)
      return Error{"the environment has torch " + has + ", the cell is of " + report_.cell.torch,
                   "plan for it: --torch " + has + (torch ? " --cuda " + torch->cuda : "")};
  } else {
    Result<Python> python =
        options_.python.empty() ? python_for(ctx_, report_.cell.python) : ask_python(ctx_, options_.python);
    if (!python) return python.error();
    site_.python = *std::move(python);
  }
  if (!report_.cell.python.empty() && site_.python.minor() != report_.cell.python)
    return Error{
        "the cell is of Python " + report_.cell.python + ", " + site_.python.program + " is " + site_.python.version,
        "leave out --python and --environment, or plan for it: --python " + site_.python.minor()};
  return Done{};
}

Result<Done> Builder::choose_compiler() {
  if (recipe_.cuda_compiler == "no") return Done{};
  const std::string wanted = recipe_.cuda_compiler != "auto" ? recipe_.cuda_compiler : report_.cell.cuda;
  const Version version = *Version::parse(wanted.empty() ? tables().toolkits.back().version.str() : wanted);
  std::string unfit;
  if (options_.toolkit != "index") {
    const std::optional<CudaHome> found =
        options_.toolkit == "auto" ? find_cuda(ctx_) : [&]() -> std::optional<CudaHome> {
      const Result<CudaHome> given = cuda_in(ctx_, options_.toolkit);
      if (!given) unfit = given.error().message;
      return given ? std::optional(*given) : std::nullopt;
    }();
    if (found) {
      const std::optional<Error> archs = report_.cell.archs.check(found->version);
      const bool major = wanted.empty() || found->version.release(0) == version.release(0);
      if (major && !archs) site_.cuda = *found;
      if (!major) unfit = "CUDA " + found->version.str() + " is installed, the cell needs " + version.str();
      if (archs) unfit = archs->message;
    }
    if (options_.toolkit != "auto" && !site_.cuda)
      return Error{unfit, "--toolkit index takes one from the package index"};
  }
  if (!site_.cuda) {
    if (!unfit.empty()) ctx_.err.write(unfit + "\n");
    const Result<CudaHome> made = cuda_from_index(ctx_, version, site_.python);
    if (!made) return made.error();
    site_.cuda = *made;
  }
  report_.cuda =
      site_.cuda->version.str() + (site_.cuda->from_index ? " from the package index" : " in " + site_.cuda->folder);
  if (Result<Strings> made = repair_links(ctx_, site_.cuda->from_index ? site_.cuda->folder : "/nonexistent"); !made)
    return made.error();
  return Done{};
}

// {source}, {environment} and {machine} in the recipe's variables and settings, as the build will see them.
std::string Builder::fill(std::string text) const {
  const std::string inside = find_engine(options_.engine)->source;
  const std::string environment = !inside.empty()         ? "/opt/python/" + opt_python(report_.cell)
                                  : !site_.prefix.empty() ? site_.prefix
                                                          : site_.work + "/env";
  text = replace_all(std::move(text), "{source}", inside.empty() ? site_.source : inside);
  text = replace_all(std::move(text), "{environment}", environment);
  return replace_all(std::move(text), "{machine}", Platform::of(report_.cell.platform).arch);
}

void Builder::set_environment() {
  const Cell& cell = report_.cell;
  std::map<std::string, std::string>& env = site_.env;
  for (const auto& [name, value] : recipe_.env) env[name] = fill(value);
  for (const char* name : kListened) {
    if (const std::optional<std::string> value = ctx_.proc.env(name)) env.insert({name, *value});
  }
  if (options_.jobs) env["MAX_JOBS"] = std::to_string(options_.jobs);
  const std::string jobs = std::to_string(cell.jobs), map = fill(" -ffile-prefix-map={source}=.");
  // The wheel's bytes depend on nothing but sources, compiler and options; the environment's own choices win.
  env.insert({{"MAX_JOBS", jobs},
              {"EXT_PARALLEL", "1"},  // packages that build modules side by side multiply it with MAX_JOBS
              {"CMAKE_BUILD_PARALLEL_LEVEL", jobs},
              {"SOURCE_DATE_EPOCH", "315532800"},
              {"PYTHONHASHSEED", "0"}});
  env["CFLAGS"] += map, env["CXXFLAGS"] += map;
  // Rule E5: libtorch exports parts of libstdc++ too, without versions; what comes first is what the linker binds to.
  if (!cell.torch.empty()) env["LDFLAGS"] += " -Wl,--push-state,--no-as-needed,-lstdc++,--pop-state";
  if (!cell.archs.empty() && recipe_.cuda_compiler != "no") {
    env.insert({{"TORCH_CUDA_ARCH_LIST", cell.archs.torch()}, {"CUDAARCHS", cell.archs.cmake()}});
  }
  for (const auto& [key, value] : recipe_.settings) site_.settings[key] = fill(value);
  site_.packages = recipe_.packages;
  if (site_.packages.empty()) {
    const Result<SourceFacts> facts = scan_source(ctx_, site_.source);
    if (facts) site_.packages = facts->build_requires;
    std::erase_if(site_.packages, [](const std::string& text) {
      const Result<Requirement> r = Requirement::parse(text);
      return r && normal_name(r->name) == "torch";
    });
    for (const char* usual : {"setuptools", "wheel", "ninja", "packaging"}) site_.packages.emplace_back(usual);
  }
}

Result<Done> Builder::prepare() {
  const Cell& cell = report_.cell;
  const std::string place = hex(sha256_of(bytes_of(options_.source))).substr(0, 8);
  site_.work = cache_folder(ctx_) + "/build/" + recipe_.name + "-" + cell.id + "-" + place;
  site_.out = site_.work + "/out";
  site_.cell = cell;
  report_.log = site_.work + "/build.log";
  if (auto done = ctx_.disk.make_dirs(site_.work); !done) return done;
  state_.emplace(ctx_, site_.work + "/state.json");
  if (auto done = take_sources(); !done) return done;
  if (options_.engine == "local") {
    if (auto done = choose_python(); !done) return done;
    if (auto done = choose_compiler(); !done) return done;
  }
  set_environment();
  if (auto done = ctx_.disk.remove(report_.log); !done) return done;
  return Done{};
}

// ---- running --------------------------------------------------------------------------------------------------------------

void Builder::hear(std::string_view text) {
  (void)ctx_.disk.append(report_.log, text);
  if (!ctx_.err.terminal) return;
  progress_ += text;  // ninja's "[3/40]", the latest
  const size_t close = progress_.rfind(']'), open = close == progress_.npos ? close : progress_.rfind('[', close);
  if (open != progress_.npos && progress_.find('/', open) < close)
    ctx_.err.write("\r  " + printable(progress_.substr(open, close - open + 1)) + "  \r");
  if (progress_.size() > 4096) progress_.erase(0, progress_.size() - 1024);
}

Result<Done> Builder::run_step(const Step& step) {
  const std::string line = join(step.job.argv, " ");
  if (step.once && state_->get(step.title) == line) return Done{};
  ctx_.err.write("== " + step.title + "\n");
  hear("\n== " + step.title + "\n$ " + line + "\n");
  Job job = step.job;
  job.seconds = std::max(1, std::min(step.once ? step.job.seconds : options_.seconds, seconds_left()));
  job.hear = [this](std::string_view text) { hear(text); };
  const Result<Finished> done = ctx_.proc.run(job);
  if (!done) {
    if (seconds_left() <= 1) {
      report_.state = BuildReport::kOutOfTime;
      return Error{"the time cap is reached; what is compiled is kept", "the same command goes on from here"};
    }
    return done.error();
  }
  if (done->exit_code != 0) return Error{"failed: " + step.title, ""};
  return step.once ? state_->set(step.title, line) : Done{};
}

Result<Done> Builder::run_steps() {
  const Engine& engine = *find_engine(options_.engine);
  const Result<std::vector<Step>> steps = engine.steps(ctx_, site_);
  if (!steps) return steps.error();
  // Each attempt has its own log; the last one is build.log.
  if (!report_.fixes.empty()) {
    const std::string before = site_.work + "/build." + std::to_string(report_.fixes.size()) + ".log";
    if (auto done = ctx_.disk.rename(report_.log, before); !done) return done;
  }
  if (auto done = ctx_.disk.remove(site_.out); !done) return done;
  if (auto done = ctx_.disk.make_dirs(site_.out); !done) return done;
  for (const Step& step : *steps) {
    if (auto done = run_step(step); !done) return done;
  }
  return Done{};
}

// Of all that decides the wheel besides the sources; how many compilers run at once does not.
std::string Builder::options_digest() const {
  static const std::set<std::string> kPace = {"MAX_JOBS", "EXT_PARALLEL", "NVCC_THREADS", "CMAKE_BUILD_PARALLEL_LEVEL"};
  std::string text = report_.cell.wheel + report_.cuda + options_.engine + join(site_.packages, " ") + site_.prefix;
  for (const auto& [name, value] : site_.env) {
    if (!kPace.contains(name)) text += "\n" + name + "=" + value;
  }
  for (const auto& [name, value] : site_.settings) text += "\n" + name + "=" + value;
  return hex(sha256_of(bytes_of(text)));
}

// True: something was changed that may let the build pass.
bool Builder::repair() {
  const Result<std::string> log = ctx_.disk.read(report_.log, kMostLog);
  report_.error = log ? first_error(*log) : std::nullopt;
  if (!report_.error || !report_.error->known) return false;
  Result<Fix> fix = find_fix(ctx_, site_.source, report_.error->known->code, report_.error->text);
  if (!fix || fix->empty()) return false;
  const bool tried = std::any_of(report_.fixes.begin(), report_.fixes.end(),
                                 [&](const Fix& f) { return fix_toml(f) == fix_toml(*fix) && f.code == fix->code; });
  if (tried && !fix->fewer_jobs) return false;
  report_.fixes.push_back(*fix);
  if (!options_.fix || static_cast<int>(report_.fixes.size()) > kMostFixes) return false;
  // From here on the copy of the sources is changed; the original never is.
  for (const Edit& edit : fix->edits) {
    if (const Result<Applied> applied = apply_edit(ctx_, site_.source, edit); !applied) {
      report_.refusal = applied.error();
      return false;
    }
  }
  for (const auto& [name, value] : fix->env) site_.env[name] = value;
  site_.packages.insert(site_.packages.end(), fix->require.begin(), fix->require.end());
  if (fix->fewer_jobs) {
    if (report_.cell.jobs <= 1) return false;
    report_.cell.jobs /= 2;
    site_.env["MAX_JOBS"] = site_.env["CMAKE_BUILD_PARALLEL_LEVEL"] = std::to_string(report_.cell.jobs);
  }
  ctx_.err.write("fixed: " + fix->code + ": " + fix->about + "\n");
  report_.error.reset();
  return true;
}

BuildReport Builder::run() {
  begin_ = ctx_.clock.now();
  const auto stop = [&](const Error& error) {
    report_.refusal = error;
    report_.seconds = ctx_.clock.now() - begin_;
    return report_;
  };
  const std::string locks = cache_folder(ctx_) + "/build";
  if (auto done = ctx_.disk.make_dirs(locks); !done) return stop(done.error());
  const Result<Lock> lock = ctx_.disk.lock(locks + "/" + recipe_.name + "-" + report_.cell.id + ".lock", 5);
  if (!lock) return stop(lock.error());
  if (auto done = prepare(); !done) return stop(done.error());
  // From here on everything that decides the wheel is known.

  const Result<std::string> sources = source_digest(ctx_, site_.source);
  if (!sources) return stop(sources.error());
  const std::string how = options_digest(), inputs = hex(sha256_of(bytes_of(*sources + how)));
  report_.wheel = options_.out + "/" + report_.cell.wheel;
  if (options_.reuse && state_->get("inputs") == inputs && ctx_.disk.info(report_.wheel)) {
    const Result<Mapping> there = ctx_.disk.map(report_.wheel);
    report_.sha256 = there ? hex(sha256_of(there->bytes)) : "";
    report_.size = there ? there->bytes.size() : 0;
    if (state_->get("sha256") == report_.sha256) {
      report_.state = BuildReport::kReused;
      return report_;
    }
  }

  // Build tools compare times of sources, not options: what others compiled is not taken.
  Result<Done> done = Done{};
  if (const std::string before = state_->get("options"); !before.empty() && before != how) {
    done = ctx_.disk.remove(site_.source);
    if (done) done = mirror(ctx_, site_.work + "/stage", site_.source);
  }
  if (done) done = state_->set("options", how);
  if (!done) return stop(done.error());

  done = run_steps();
  while (!done && report_.state != BuildReport::kOutOfTime && repair()) done = run_steps();
  if (!done) return stop(report_.refusal.value_or(done.error()));
  report_.torch_sha256 = installed_torch(ctx_, site_.work + "/torch.json");
  if (Result<Done> finished = finish_wheel(ctx_, recipe_, site_.out, options_, report_); !finished)
    return stop(finished.error());
  // From here on the wheel is in its place, under its name, and has passed its policy.

  report_.state = BuildReport::kBuilt;
  report_.seconds = ctx_.clock.now() - begin_;
  if (auto kept = state_->set("inputs", inputs); !kept) return stop(kept.error());
  if (auto kept = state_->set("sha256", report_.sha256); !kept) return stop(kept.error());
  return report_;
}

}  // namespace

BuildReport build_cell(Ctx& ctx, const Recipe& recipe, const Cell& cell, const BuildOptions& options) {
  return Builder(ctx, recipe, cell, options).run();
}

}  // namespace clary::tool
