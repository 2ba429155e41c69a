#include <algorithm>

#include "wheel/core/json.h"
#include "wheel/core/report.h"

namespace clary::tool {
namespace {

Json image_json(const GpuImage& i) {
  Json out = {
      {"kind", kind_name(i.kind)},          {"arch", i.arch.str()}, {"name", i.name()},   {"module", i.container + 1},
      {"packing", packing_name(i.packing)}, {"stored", i.stored},   {"unpacked", i.size}, {"offset", i.offset}};
  if (i.bare) out["bare"] = true;
  if (!i.toolkit.empty()) out["toolkit"] = i.toolkit;
  if (!i.isa.empty()) out["isa"] = i.isa;
  return out;
}

Json binary_json(const BinaryFacts& b, const ReportOptions& options) {
  Json out = {{"path", b.path}, {"format", b.format}, {"machine", b.machine}, {"size", b.size}};
  if (b.format != "GPU") {
    out["needed"] = b.needed;
    Json owners = Json::object();
    for (int i = 0; i < kSymbolOwners; i++) {
      if (const size_t n = b.owners[static_cast<size_t>(i)]) owners[symbol_owner_name(static_cast<SymbolOwner>(i))] = n;
    }
    out["imports"] = {{"count", b.imports.size()}, {"owners", owners}};
    out["exports"] = b.exports;
    out["python_inits"] = b.python_inits;
  }
  if (b.format == "ELF") {
    out["soname"] = b.soname, out["rpath"] = b.rpath, out["runpath"] = b.runpath;
    Json floors = Json::object();
    for (const auto& [library, floor] : b.floors)
      floors[library] = {{"version", floor.newest.str()}, {"symbol", floor.symbol}};
    out["floors"] = floors;
    out["versions"] = b.versions;
    out["named_versions"] = b.named_versions;
    out["isa"] = "x86-64-v" + std::to_string(b.isa_level);
    if (b.machine != "x86_64") out.erase("isa");
    out["text_relocations"] = b.text_relocations, out["bind_now"] = b.bind_now, out["relro"] = b.relro;
    out["executable_stack"] = b.stack_executable;
    out["build_id"] = b.build_id;
    out["compilers"] = b.compilers;
  }
  if (options.symbols) {
    Json symbols = Json::array();
    for (const Import& s : b.imports) {
      symbols.push_back({{"name", s.name},
                         {"version", s.version},
                         {"library", s.library},
                         {"weak", s.weak},
                         {"owner", symbol_owner_name(s.owner)}});
    }
    out["symbols"] = symbols;
  }
  Json sass = Json::array(), ptx = Json::array(), images = Json::array();
  for (const ImageSum& s : sum_images(b.gpu)) {
    Json& list = s.kind == ImageKind::kSass ? sass : ptx;
    const bool listed = s.kind == ImageKind::kSass || s.kind == ImageKind::kPtx;
    if (listed && std::find(list.begin(), list.end(), s.arch.dotted()) == list.end()) list.push_back(s.arch.dotted());
  }
  for (const GpuImage& i : b.gpu.images) images.push_back(image_json(i));
  out["gpu"] = {{"modules", b.gpu.containers}, {"bytes", b.gpu.area}, {"sass", sass}, {"ptx", ptx}, {"images", images}};
  Strings faults = b.faults;
  faults.insert(faults.end(), b.gpu.faults.begin(), b.gpu.faults.end());
  out["faults"] = faults;
  return out;
}

Json wheel_json(const FileFacts& facts) {
  const WheelFacts& w = facts.wheel;
  Json out = Json::object();
  if (w.name) {
    Json tags = Json::array();
    for (const Tag& tag : w.name->tags()) tags.push_back(tag.str());
    const StackLabel label = StackLabel::of(w.name->version().local());
    out["name"] = w.name->name(), out["version"] = w.name->version().str(), out["build"] = w.name->build(),
    out["tags"] = tags;
    out["stack"] = {{"cuda", label.cuda}, {"torch", label.torch}};
  }
  out["metadata"] = {{"name", w.metadata.name},
                     {"version", w.metadata.version},
                     {"summary", w.metadata.summary},
                     {"license", w.metadata.license},
                     {"requires_python", w.metadata.requires_python},
                     {"requires_dist", w.metadata.requirement_texts}};
  out["unpacked"] = w.unpacked;
  Json members = Json::array();
  for (const MemberFacts& m : w.members) members.push_back({{"name", m.name}, {"size", m.size}, {"packed", m.packed}});
  out["members"] = members;
  out["record_rows"] = w.record.size();
  std::string arch;
  for (const BinaryFacts& b : facts.binaries) {
    if (b.format == "ELF") arch = b.machine;
  }
  if (!arch.empty()) {
    const ManylinuxFit fit = manylinux_fit(facts.binaries, arch);
    out["fits"] = {{"policy", fit.policy}, {"why_not_older", fit.why}};
  }
  Json faults = Json::array();
  for (const Fault& f : w.zip_faults) faults.push_back({{"rule", f.rule}, {"member", f.where}, {"text", f.text}});
  out["faults"] = faults;
  return out;
}

}  // namespace

std::string json_report(const std::vector<FileFacts>& files, const ReportOptions& options) {
  Json list = Json::array();
  for (const FileFacts& f : files) {
    Json item = {{"path", f.path}, {"kind", f.kind == FileKind::kWheel ? "wheel" : "binary"}, {"size", f.size}};
    if (f.kind == FileKind::kWheel) item["wheel"] = wheel_json(f);
    Json binaries = Json::array();
    for (const BinaryFacts& b : f.binaries) binaries.push_back(binary_json(b, options));
    item["binaries"] = binaries;
    list.push_back(item);
  }
  return dump({{"schema", "clary-inspect/1"}, {"files", list}});
}

}  // namespace clary::tool
