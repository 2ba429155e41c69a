#include "wheel/core/trial.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "wheel/core/embed.h"
#include "wheel/core/json.h"

namespace clary::tool {
namespace {

constexpr int kSeconds = 900;

std::string question(const FileFacts& facts, const TrialOptions& o) {
  Strings libraries;
  for (const BinaryFacts& b : facts.binaries) {
    const bool data = b.path.find(".data/") != b.path.npos;
    if (b.format == "ELF" && !data && b.interpreter.empty()) libraries.push_back(b.path);
  }
  return dump_line({{"modules", wheel_modules(facts)},
                    {"libraries", libraries},
                    {"call", o.call},
                    {"gpu", o.gpu},
                    {"tolerance", o.tolerance}});
}

// The probe's last line.
Result<std::vector<Check>> answers(const Finished& done) {
  const std::vector<std::string_view> said = lines(done.out);
  for (auto line = said.rbegin(); line != said.rend(); ++line) {
    if (!line->starts_with("[")) continue;
    const Result<Json> json = parse_json(*line, "the probe");
    if (!json || !json->is_array()) break;
    std::vector<Check> out;
    for (const Json& row : *json) {
      if (row.is_array() && row.size() == 4 && row[0].is_string() && row[1].is_string() && row[2].is_string() &&
          row[3].is_string())
        out.push_back({row[0], row[1], row[2], row[3]});
    }
    return out;
  }
  const std::string last(said.empty() ? "" : said.back());
  const std::string why = !trim(done.err).empty() ? std::string(trim(done.err)).substr(0, 2000) : last;
  return std::vector<Check>{{"process", "", "failed", format("it ended with code %d: ", done.exit_code) + why}};
}

// Runs a step that must pass before the trial counts.
Result<Done> must(Ctx& ctx, const Job& job, const char* what) {
  const Result<Finished> done = ctx.proc.run(job);
  if (!done) return done.error();
  if (done->exit_code != 0)
    return Error{std::string(what) + ": " + std::string(trim(done->err.empty() ? done->out : done->err)), ""};
  return Done{};
}

}  // namespace

bool Trial::failed() const {
  return std::any_of(checks.begin(), checks.end(), [](const Check& c) { return c.state == "failed"; });
}

Strings wheel_modules(const FileFacts& facts) {
  std::set<std::string> out;
  for (const MemberFacts& m : facts.wheel.members) {
    const std::vector<std::string_view> parts = split(m.name, '/');
    const std::string_view first = parts[0];
    const bool python = parts.size() == 1 ? first.ends_with(".py") || first.ends_with(".so")
                                          : parts.size() == 2 && parts[1] == "__init__.py";
    const bool special = first.ends_with(".dist-info") || first.ends_with(".data");
    if (python && !special) out.emplace(first.substr(0, first.find('.')));
  }
  return {out.begin(), out.end()};
}

bool wheel_fits(const FileFacts& facts, const Python& python) {
  const Result<Specifier> spec = Specifier::parse(facts.wheel.metadata.requires_python);
  const Result<Version> version = Version::parse(python.version);
  if (!facts.wheel.name || !version || (spec && !spec->admits(*version, true))) return false;
  const int minor = static_cast<int>(version->release(1));
  for (const Tag& tag : facts.wheel.name->tags()) {
    const std::optional<Interpreter> i = Interpreter::of(tag.python);
    if (!i || i->major != 3) continue;
    const bool same = i->minor == minor && tag.abi == "cp3" + std::to_string(minor) + (python.threaded ? "t" : "");
    const bool stable = tag.abi == "abi3" && !python.threaded && i->minor <= minor;
    if (same || stable || (tag.abi == "none" && i->minor <= minor)) return true;
  }
  return false;
}

Result<Trial> try_wheel(Ctx& ctx, const FileFacts& facts, const Python& python, const TrialOptions& o) {
  Trial out{"Python " + python.version + (python.threaded ? "t" : ""), {}};
  if (!wheel_fits(facts, python)) {
    out.checks.push_back({"install", base_name(facts.path), "failed", "the wheel is not for this Python"});
    return out;
  }
  const std::string root = cache_folder(ctx) + "/test",
                    folder = root + "/" + facts.sha256.substr(0, 12) + "-" + python.minor();
  if (auto done = ctx.disk.make_dirs(root); !done) return done.error();
  const Result<Lock> lock = ctx.disk.lock(folder + ".lock", 600);
  if (!lock) return lock.error();
  if (auto done = ctx.disk.remove(folder); !done) return done.error();
  if (auto done = must(ctx, make_environment(ctx, python, folder), "no environment"); !done) return done.error();
  const Result<Python> inside = ask_python(ctx, folder + "/bin/python");
  if (!inside) return inside.error();
  const Strings pip = {inside->program, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"};
  if (!o.install.empty()) {
    Strings argv = pip;
    argv.insert(argv.end(), o.install.begin(), o.install.end());
    if (auto done = must(ctx, {.argv = argv, .seconds = 3600}, "requirements"); !done) return done.error();
  }
  if (!o.with.empty()) {  // its packages after ours
    const Result<Python> other = ask_python(ctx, o.with + "/bin/python");
    if (!other) return other.error();
    if (other->minor() == python.minor()) {
      if (auto done = ctx.disk.write(inside->site + "/with.pth", other->site + "\n"); !done) return done.error();
    }
  }
  Strings argv = pip;
  argv.insert(argv.end(), {"--no-deps", "--no-index", facts.path});
  if (auto done = must(ctx, {.argv = argv, .seconds = 600}, ""); !done) {
    out.checks.push_back({"install", base_name(facts.path), "failed", done.error().message});
    return out;
  }
  out.checks.push_back({"install", base_name(facts.path), "ok", ""});
  const std::string probe = folder + "/probe.py";
  if (auto done = ctx.disk.write(probe, embedded("wheel/data/probe.py")); !done) return done.error();
  // Away from the sources, which would be imported instead.
  const Result<Finished> ran =
      ctx.proc.run({.argv = {inside->program, "-I", probe, question(facts, o)}, .seconds = kSeconds, .folder = folder});
  if (!ran) return ran.error();
  const Result<std::vector<Check>> checks = answers(*ran);
  out.checks.insert(out.checks.end(), checks->begin(), checks->end());
  if (!o.keep) {
    if (auto done = ctx.disk.remove(folder); !done) return done.error();
  }
  return out;
}

Result<Trial> try_in_container(Ctx& ctx, const FileFacts& facts, const TrialOptions& o) {
  const char* engine = ctx.proc.find("docker") ? "docker" : ctx.proc.find("podman") ? "podman" : nullptr;
  if (!engine) return Error{"neither docker nor podman is on this machine", "clary test without --image needs neither"};
  const std::string folder = cache_folder(ctx) + "/test/" + facts.sha256.substr(0, 12) + "-image",
                    name = base_name(facts.path);
  if (auto done = ctx.disk.make_dirs(folder); !done) return done.error();
  if (auto done = ctx.disk.write(folder + "/probe.py", embedded("wheel/data/probe.py")); !done) return done.error();
  if (auto done = ctx.disk.link_or_copy(facts.path, folder + "/" + name); !done) return done.error();
  // The image's own packages are seen: it is there that torch is.
  const std::string inside =
      "python3 -m venv --system-site-packages /tmp/env && /tmp/env/bin/python -m pip install -q --no-deps --no-index "
      "/wheel/" +
      shell(name) + " && exec /tmp/env/bin/python -I /wheel/probe.py " + shell(question(facts, o));
  Strings argv = {engine, "run", "--rm", "--network", "none", "--volume", folder + ":/wheel:ro"};
  if (o.gpu) argv.insert(argv.end(), {"--gpus", "all"});
  argv.insert(argv.end(), {o.image, "sh", "-c", inside});
  const Result<Finished> ran = ctx.proc.run(argv, kSeconds);
  if (!ran) return ran.error();
  Trial out{o.image, *answers(*ran)};
  if (auto done = ctx.disk.remove(folder); !done) return done.error();
  return out;
}

}  // namespace clary::tool
