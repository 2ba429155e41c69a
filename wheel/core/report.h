// Facts about files as people read them and as programs do.
#pragma once
#include <string>

#include "wheel/core/facts.h"

namespace clary::tool {

struct ReportOptions {
  bool symbols = false;  // every import, with its owner
  bool images = false;   // every GPU image, not only their sums
};

std::string text_report(const FileFacts& facts, const ReportOptions& options);

// One object: {"schema": "clary-inspect/1", "files": [...]}. Images are always complete, imports with `symbols`.
std::string json_report(const std::vector<FileFacts>& files, const ReportOptions& options);

// Images of one kind, architecture and packing.
struct ImageSum {
  ImageKind kind;
  Arch arch;
  Packing packing;
  bool bare = false;
  uint64_t images = 0, stored = 0, size = 0;
  Strings toolkits, isas;
};
std::vector<ImageSum> sum_images(const GpuCode& gpu);

}  // namespace clary::tool
