// The machine and the Python that a wheel goes to: probed, or described on the command line for another machine.
#pragma once
#include "wheel/core/host.h"

namespace clary::tool {

struct Target {
  std::string python;          // the interpreter; empty: none probed
  std::string python_version;  // "3.12.3"
  std::string abi;             // "cp312", "cp313t"; of other implementations "pp311-pypy311_pp73"
  std::string site;            // site-packages; prefix: of the environment
  std::string prefix;
  std::string machine;  // "x86_64"
  std::string system = "linux";
  std::string glibc;        // "2.36"; empty: not glibc
  int isa_level = 1;        // x86-64-v<n>
  std::string torch, cuda;  // installed or asked for: "2.8.0+cu128", "12.8"; empty: none
  std::optional<bool> cxx11abi;
  std::string driver;     // empty: none
  std::vector<int> gpus;  // compute capabilities: 90, 120
  bool torch_asked = false;
};

// What the command line says instead of what is here; empty: what is here.
struct TargetChoice {
  std::string python;                    // an interpreter, or a version: 3.12
  std::string platform;                  // linux_x86_64, manylinux_2_28_aarch64, win_amd64
  std::string torch, cuda, driver, gpu;  // gpu: "12.0", "8.0 9.0", "none"
};
Result<Target> probe_target(Ctx& ctx, const TargetChoice& choice);

std::string target_text(const Target& target);  // one line

}  // namespace clary::tool
