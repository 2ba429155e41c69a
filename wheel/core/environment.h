// A Python environment as a place to install into, so that a wheel is there whole, or the old one is.
//
// pip or uv unpacks the verified file into a staging prefix inside the environment; nothing that Python sees has changed yet.
// Then the pieces (a package folder, its dist-info) are renamed: the old one away, the new one in. The renames are written
// down first, in site-packages/.clary/<project>/journal.json: a command that is stopped between two of them is completed by
// the next one. A lock on the environment makes installers wait for each other.
#pragma once
#include "wheel/core/manifest.h"
#include "wheel/core/target.h"

namespace clary::tool {

struct Installed {
  std::string name, version, dist_info;  // dist_info: folder below site-packages
  std::string sha256;                    // of the wheel it came from; empty: not known
};

enum class Installer { kAuto, kPip, kUv };

class Environment {
 public:
  // REQUIRES: target.python is an interpreter. Waits for others, then completes what a stopped command left.
  static Result<Environment> open(Ctx& ctx, const Target& target, Installer installer);

  // To read only: waits for nobody, changes nothing.
  static Environment look(Ctx& ctx, const Target& target) { return {ctx, target}; }

  std::optional<Installed> find(const std::string& project) const;
  // Exact versions from one index, through pip or uv. Nothing is written where they are there already.
  Result<Done> install_stack(const Stack& stack);
  // REQUIRES: `wheel` is a verified file whose SHA-256 is `sha256`. `receipt`: JSON that is kept beside it.
  Result<Done> install(const std::string& project, const std::string& wheel, const std::string& sha256,
                       const std::string& receipt);
  std::string receipt(const std::string& project) const;           // of what is installed; empty: none
  std::string previous_receipt(const std::string& project) const;  // of what it replaced
  const std::string& installer() const { return installer_name_; }

 private:
  Environment(Ctx& ctx, Target target) : ctx_(ctx), target_(std::move(target)) {}
  struct Move {
    std::string from, to;
  };
  std::string own(const std::string& project) const { return target_.site + "/.clary/" + project; }
  Result<Done> choose(Installer installer);
  Result<Done> run(Strings arguments, const std::string& what, int seconds);
  Result<Done> recover(const std::string& project);
  Result<Done> finish(const std::string& project, const std::vector<Move>& moves);
  Result<std::vector<Move>> plan_moves(const std::string& project, const std::string& staged_site) const;

  Ctx& ctx_;
  Target target_;
  Lock lock_;
  Strings command_;  // ["/usr/bin/uv", "pip"] or [python, "-I", "-m", "pip"]
  std::string installer_name_;
};

}  // namespace clary::tool
