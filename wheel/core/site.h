// A static package index of a folder of wheels: PEP 503 HTML first (any host can serve it), PEP 691 JSON beside it, PEP 658
// metadata, one sub-index for each (CUDA, torch), and SHA256SUMS. Pure: wheels in, pages out.
#pragma once
#include <string>
#include <vector>

#include "wheel/core/facts.h"

namespace clary::tool {

struct SiteWheel {
  WheelName name;
  std::string file, sha256, requires_python, metadata;
  uint64_t size = 0;
  int64_t modified = 0;
};

struct SitePage {
  std::string path, content;
};

std::string iso_time(int64_t seconds);  // 2026-11-21T00:00:00Z

// In the order they must be written: what is pointed at before what points.
std::vector<SitePage> make_site(std::vector<SiteWheel> wheels, const std::string& base_url);

}  // namespace clary::tool
