// What becomes of the wheel that a build made, and how a build is reported.
#include <algorithm>

#include "clary/clary.h"
#include "wheel/core/build.h"
#include "wheel/core/digest.h"
#include "wheel/core/json.h"
#include "wheel/core/pack.h"
#include "wheel/core/repair.h"
#include "wheel/core/requirement.h"
#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

std::string line_of(const std::string& version) { return version.substr(0, version.find('.', version.find('.') + 1)); }

Result<std::string> only_wheel(Ctx& ctx, const std::string& folder) {
  const Result<Strings> names = ctx.disk.list(folder);
  Strings wheels;
  for (const std::string& name : names ? *names : Strings{}) {
    if (name.ends_with(".whl")) wheels.push_back(name);
  }
  if (wheels.size() == 1) return folder + "/" + wheels[0];
  return Error{wheels.empty() ? "the build made no wheel" : "the build made several wheels: " + join(wheels, ", "), ""};
}

// Why the wheel that was made is not the planned one; its platform is repaired and its local version added.
std::optional<Error> mismatch(const WheelName& made, const WheelName& planned) {
  if (normal_name(made.name()) != normal_name(planned.name()))
    return Error{"the build made " + made.name() + ", the recipe says " + planned.name(),
                 "correct [package] name in clary.toml"};
  if (made.version().public_str() != planned.version().public_str())
    return Error{
        "the build made version " + made.version().public_str() + ", the recipe says " + planned.version().public_str(),
        "correct [package] version in clary.toml"};
  const Tag &a = made.tags()[0], &b = planned.tags()[0];
  if (a.python != b.python || a.abi != b.abi)
    return Error{"the build made a " + a.python + "-" + a.abi + " wheel, the plan says " + b.python + "-" + b.abi,
                 "correct python-abi in clary.toml: cp, abi3 or none"};
  return std::nullopt;
}

Json patch_json(const Applied& a) {
  return {{"name", a.name}, {"sha256", a.digest}, {"already", a.already}, {"reason", a.reason}};
}

Json report_json(const BuildReport& r) {
  Json patches = Json::array(), fixes = Json::array();
  for (const Applied& a : r.patches) patches.push_back(patch_json(a));
  for (const Fix& f : r.fixes) fixes.push_back({{"error", f.code}, {"about", f.about}, {"toml", fix_toml(f)}});
  Json out = {{"cell", r.cell.id},
              {"state", r.state_name()},
              {"wheel", r.wheel},
              {"sha256", r.sha256},
              {"size", r.size},
              {"seconds", r.seconds},
              {"jobs", r.cell.jobs},
              {"archs", r.cell.archs.text()},
              {"torch", r.cell.torch},
              {"torch_sha256", r.torch_sha256},
              {"cuda", r.cuda},
              {"python", r.cell.python},
              {"log", r.log},
              {"patches", patches},
              {"fixes", fixes},
              {"errors", r.findings.count(Severity::kError)},
              {"warnings", r.findings.count(Severity::kWarning)}};
  if (r.refusal) out["message"] = r.refusal->message, out["hint"] = r.refusal->hint;
  if (r.error) {
    out["error"] = {{"line", r.error->line}, {"text", r.error->text}};
    if (r.error->known) out["error"]["code"] = r.error->known->code;
  }
  return out;
}

}  // namespace

Result<Done> finish_wheel(Ctx& ctx, const Recipe& recipe, const std::string& folder, const BuildOptions& options,
                          BuildReport& report) {
  const Cell& cell = report.cell;
  const Result<std::string> path = only_wheel(ctx, folder);
  if (!path) return path.error();
  const Result<Mapping> made = ctx.disk.map(*path);
  if (!made) return made.error();
  const Result<FileFacts> facts = read_facts(ctx, *path, {.digests = false, .threads = ctx.proc.cores()});
  if (!facts) return facts.error();
  if (!facts->wheel.name) return Error{facts->wheel.name_fault, ""};
  const Result<WheelName> planned = WheelName::parse(cell.wheel);
  if (!planned) return planned.error();
  if (std::optional<Error> why = mismatch(*facts->wheel.name, *planned)) return *why;
  for (const std::string& pattern : recipe.expect_modules) {
    const bool there = std::any_of(facts->binaries.begin(), facts->binaries.end(),
                                   [&](const BinaryFacts& b) { return matches(pattern, base_name(b.path)); });
    if (!there)
      return Error{"the wheel lacks the module " + pattern, "the build left it out for the architectures " +
                                                                cell.archs.text() +
                                                                ", or its name changed: [build] expect-modules"};
  }
  if (std::optional<Error> why = platform_fault(*facts, planned->tags()[0].platform)) return *why;

  // The name the plan promised, and the requirement that keeps pip from changing torch.
  Relabel relabel{.version = planned->version(), .tags = planned->tags(), .require = {}, .replace = {}, .notes = {}};
  // A nightly's C++ is nobody else's.
  if (!cell.torch.empty())
    relabel.require.push_back("torch==" + (is_nightly(cell.torch) ? cell.torch : line_of(cell.torch) + ".*"));
  Result<Repacked> packed = repack(*facts, made->bytes, relabel);
  if (!packed) return packed.error();
  if (packed->file_name != cell.wheel)
    return Error{"the wheel would be called " + packed->file_name + ", not " + cell.wheel, ""};
  const std::string ready = folder + "/ready/" + packed->file_name;
  if (Result<Done> done = ctx.disk.make_dirs(dir_name(ready)); !done) return done;
  if (Result<Done> done = ctx.disk.write(ready, packed->content); !done) return done;

  // Verified where it lies; it appears in the wheelhouse only when no error is found.
  const std::string policy_name = !recipe.policy.empty() ? recipe.policy
                                  : cell.torch.empty()   ? "default"
                                                         : "torch-locked";
  Result<Policy> policy = load_policy(ctx, policy_name);
  if (!policy) return policy.error();
  if (policy->require_sass.empty() && recipe.cuda_compiler != "no") {
    for (const ArchTarget& target : cell.archs.targets()) {
      if (target.sass) policy->require_sass.push_back(target.arch.sm);
    }
  }
  const Result<FileFacts> final_facts = read_facts(ctx, ready, {.digests = true, .threads = ctx.proc.cores()});
  if (!final_facts) return final_facts.error();
  report.findings = verify_facts(*final_facts, *policy, Against{});
  report.sha256 = final_facts->sha256;
  report.size = final_facts->size;
  if (report.findings.count(Severity::kError))
    return Error{"the wheel breaks its policy " + policy->name + "; it stays in " + ready,
                 "clary verify --policy " + policy_name + " " + shell(ready)};
  if (Result<Done> done = ctx.disk.make_dirs(options.out); !done) return done;
  if (Result<Done> done = ctx.disk.link_or_copy(ready, options.out + "/" + cell.wheel); !done) return done;
  report.state = BuildReport::kBuilt;
  return ctx.disk.write(
      options.out + "/" + cell.wheel + ".build.json",
      dump({{"schema", "clary-build/1"}, {"tool", "clary " CLARY_VERSION}, {"build", report_json(report)}}));
}

const char* BuildReport::state_name() const {
  static constexpr const char* kNames[] = {"built", "up to date", "failed", "out of time"};
  return kNames[state];
}

std::string report_text(const BuildReport& r) {
  std::string out = std::string(r.state_name()) + ": " + (r.wheel.empty() ? r.cell.wheel : r.wheel) + "\n";
  if (r.state == BuildReport::kBuilt || r.state == BuildReport::kReused) {
    out += "  " + human_bytes(r.size) + ", sha256 " + r.sha256 +
           (r.seconds ? ", " + count(static_cast<uint64_t>(r.seconds), "second") : "") + "\n";
    if (r.findings.count(Severity::kWarning))
      out += "  " + count(r.findings.count(Severity::kWarning), "warning") + ": clary verify " + shell(r.wheel) + "\n";
  }
  for (const Applied& a : r.patches)
    out += "  patch " + a.name + (a.already ? ": in the sources already" : ": applied") + "\n";
  if (r.error) {
    out += "\n" + r.log + ":" + std::to_string(r.error->line) + ": " + printable(r.error->text) + "\n";
    for (const std::string& line : r.error->context) out += "    " + printable(line) + "\n";
    if (r.error->known)
      out += "\n" + r.error->known->code + ": " + r.error->known->title + "\n" + r.error->known->body + "\n";
  }
  const bool failed = r.state == BuildReport::kFailed;
  if (failed && r.findings.count(Severity::kError)) out += findings_text(r.findings, "of the recipe", false);
  for (const Fix& f : r.fixes) {
    const bool proposed = failed && &f == &r.fixes.back() && r.error;
    out += std::string(proposed ? "\n`clary build --fix` would change" : "  fixed") + ": " + f.about + "\n";
    for (const Edit& e : f.edits) {
      out += "  " + e.file + (e.times == 1 ? "" : ", " + count(static_cast<uint64_t>(e.times), "time")) + "\n";
      for (std::string_view line : lines(e.find)) out += "    -" + printable(line) + "\n";
      for (std::string_view line : lines(e.replace)) out += "    +" + printable(line) + "\n";
    }
    if (!proposed && !f.edits.empty()) out += "  to keep it, in clary.toml:\n" + fix_toml(f);
  }
  return out;
}

std::string reports_json(const std::vector<BuildReport>& reports) {
  Json list = Json::array();
  for (const BuildReport& r : reports) list.push_back(report_json(r));
  return dump({{"schema", "clary-build/1"}, {"tool", "clary " CLARY_VERSION}, {"builds", list}});
}

}  // namespace clary::tool
