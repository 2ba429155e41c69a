#include "wheel/core/toolchain.h"

#include <algorithm>
#include <set>

namespace clary::tool {
namespace {

constexpr int kInstallSeconds = 1800;

}  // namespace

Result<CudaHome> cuda_in(Ctx& ctx, const std::string& folder) {
  const std::string nvcc = folder + "/bin/nvcc";
  const Result<Finished> said = ctx.proc.run({nvcc, "--version"}, 20);
  const std::string text = said && said->exit_code == 0 ? said->out : "";
  const size_t release = text.find("release ");
  if (release == text.npos)
    return Error{"no CUDA compiler that starts: " + nvcc, said ? said->err.substr(0, 200) : said.error().message};
  const Result<Version> version = Version::parse(text.substr(release + 8, text.find(',', release) - release - 8));
  if (!version) return version.error();
  return CudaHome{folder, *version, false};
}

std::optional<CudaHome> find_cuda(Ctx& ctx) {
  Strings folders;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) folders.push_back(ctx.proc.env(name).value_or(""));
  if (const std::optional<std::string> nvcc = ctx.proc.find("nvcc")) folders.push_back(dir_name(dir_name(*nvcc)));
  folders.emplace_back("/usr/local/cuda");
  for (const std::string& folder : folders) {
    if (folder.empty()) continue;
    if (const Result<CudaHome> home = cuda_in(ctx, folder)) return *home;
  }
  return std::nullopt;
}

Result<Strings> repair_links(Ctx& ctx, const std::string& folder) {
  Strings made;
  const std::string lib = folder + "/lib";
  const Result<Strings> names = ctx.disk.list(lib);
  if (!names) return made;
  std::set<std::string> there(names->begin(), names->end());
  for (const std::string& name : *names) {
    const size_t so = name.find(".so.");
    if (so == name.npos || !name.starts_with("lib")) continue;
    const std::string link = name.substr(0, so + 3);
    if (!there.insert(link).second) continue;
    if (Result<Done> done = ctx.disk.symlink(name, lib + "/" + link); !done) return done.error();
    made.push_back("lib/" + link);
  }
  if (!ctx.disk.info(folder + "/lib64")) {
    if (Result<Done> done = ctx.disk.symlink("lib", folder + "/lib64"); !done) return done.error();
    made.emplace_back("lib64");
  }
  return made;
}

Result<Strings> toolkit_packages(const Version& version) {
  const uint64_t major = version.release(0), minor = version.release(1);
  const std::string line = format("%d.%d", static_cast<int>(major), static_cast<int>(minor));
  if (major < 13) {
    return Error{"the package index has no nvcc of CUDA " + line + ": it begins with 13.0",
                 "install that toolkit and set CUDA_HOME, use --engine docker, or plan the cells of CUDA 13"};
  }
  const std::string exact = "==" + line + ".*";
  // The headers-only package left the toolkit's numbering after 13.2: the newest that is not newer.
  const std::string cccl =
      format(">=%d.0,<%d.%d", static_cast<int>(major), static_cast<int>(major), static_cast<int>(minor) + 1);
  return Strings{"nvidia-cuda-nvcc" + exact, "nvidia-nvvm" + exact, "nvidia-cuda-crt" + exact,
                 "nvidia-cuda-runtime" + exact, "nvidia-cuda-cccl" + cccl};
}

Result<CudaHome> cuda_from_index(Ctx& ctx, const Version& version, const Python& pip) {
  const Result<Strings> packages = toolkit_packages(version);
  if (!packages) return packages.error();
  const std::string root = cache_folder(ctx) + "/toolkit";
  const std::string name = "cuda-" + std::to_string(version.release(0)) + "." + std::to_string(version.release(1));
  const std::string folder = root + "/" + name, home = folder + "/nvidia/cu" + std::to_string(version.release(0));
  if (Result<Done> done = ctx.disk.make_dirs(root); !done) return done.error();
  const Result<Lock> lock = ctx.disk.lock(root + "/" + name + ".lock", kInstallSeconds);
  if (!lock) return lock.error();
  if (!ctx.disk.info(folder)) {  // it appears whole, or not at all
    const std::string part = folder + ".part";
    if (Result<Done> done = ctx.disk.remove(part); !done) return done.error();
    ctx.err.write("== CUDA " + name.substr(5) + " from the package index\n");
    Strings argv = {pip.program,     "-I",    "-m",       "pip", "install", "--quiet", "--no-deps",
                    "--only-binary", ":all:", "--target", part};
    argv.insert(argv.end(), packages->begin(), packages->end());
    const Result<Finished> done = ctx.proc.run(argv, kInstallSeconds);
    if (!done) return done.error();
    if (done->exit_code != 0)
      return Error{"the CUDA toolkit cannot be installed: " + std::string(trim(done->err.substr(0, 400))),
                   "is the package index reachable? " + pip.program + " -m pip download nvidia-cuda-nvcc"};
    if (Result<Strings> made = repair_links(ctx, part + home.substr(folder.size())); !made) return made.error();
    if (Result<Done> moved = ctx.disk.rename(part, folder); !moved) return moved.error();
  }
  Result<CudaHome> found = cuda_in(ctx, home);
  if (found) found->from_index = true;
  return found;
}

}  // namespace clary::tool
