// The CUDA compiler: the one that is installed, or one from the package index with its missing links put right.
#pragma once
#include <optional>
#include <string>

#include "wheel/core/python.h"
#include "wheel/core/version.h"
#include "wheel/ctx.h"

namespace clary::tool {

struct CudaHome {
  std::string folder;  // CUDA_HOME
  Version version;     // 13.2
  bool from_index = false;
};

// CUDA_HOME, CUDA_PATH, nvcc on PATH, /usr/local/cuda, in that order.
std::optional<CudaHome> find_cuda(Ctx& ctx);
// What `folder` holds; an error when its nvcc does not start.
Result<CudaHome> cuda_in(Ctx& ctx, const std::string& folder);

// A toolkit's folder as build tools expect it: `lib64`, and lib<name>.so beside lib<name>.so.13. Returns what was missing.
Result<Strings> repair_links(Ctx& ctx, const std::string& folder);

// The packages that together are nvcc of that version, pinned to it. The package index has them from CUDA 13 on.
Result<Strings> toolkit_packages(const Version& version);
// Installs them into the cache, once, and returns that toolkit. `pip` is a Python that has pip.
Result<CudaHome> cuda_from_index(Ctx& ctx, const Version& version, const Python& pip);

}  // namespace clary::tool
