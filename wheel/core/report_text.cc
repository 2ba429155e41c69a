#include <algorithm>
#include <map>
#include <tuple>

#include "wheel/core/report.h"
#include "wheel/core/table.h"
#include "wheel/core/tables.h"

namespace clary::tool {
namespace {

constexpr size_t kMostNamed = 16;  // versions of one kind of image

void add_once(Strings& to, const std::string& item) {
  if (to.size() < kMostNamed && !item.empty() && std::find(to.begin(), to.end(), item) == to.end()) to.push_back(item);
}

std::string needed_by_owner(const BinaryFacts& b) {
  std::map<Owner, Strings> groups;
  for (const std::string& name : b.needed) groups[tables().owner_of(name)].push_back(printable(name));
  Strings parts;
  for (const auto& [owner, names] : groups) {
    const bool plain = owner == Owner::kSystem || b.format == "PE";
    parts.push_back(join(names, " ") + (plain ? "" : std::string(" [") + owner_name(owner) + "]"));
  }
  return join(parts, "; ");
}

std::string floors(const BinaryFacts& b) {
  Strings parts;
  for (const auto& [library, floor] : b.floors) {
    parts.push_back(library + " " + floor.newest.str() +
                    (library == "GLIBC" && !floor.symbol.empty() ? " (" + floor.symbol + ")" : ""));
  }
  if (b.isa_level > 1) parts.push_back("x86-64-v" + std::to_string(b.isa_level));
  return join(parts, ", ");
}

std::string owners(const BinaryFacts& b) {
  Strings parts;
  for (int i = 0; i < kSymbolOwners; i++) {
    const size_t n = b.owners[static_cast<size_t>(i)];
    if (n) parts.push_back(thousands(n) + " " + symbol_owner_name(static_cast<SymbolOwner>(i)));
  }
  std::string out = parts.empty() ? "asks for none" : "asks for " + join(parts, ", ");
  out += "; offers " + thousands(b.exports);
  if (!b.python_inits.empty()) out += " (" + printable(b.python_inits[0]) + ")";
  return out;
}

std::string gpu_table(const GpuCode& gpu) {
  Table table({"", "kind", ">images", ">stored", ">unpacked", "packing", "toolkit"});
  for (const ImageSum& s : sum_images(gpu)) {
    std::string toolkit = join(s.toolkits, ", ");
    if (!s.isas.empty()) toolkit += (toolkit.empty() ? "" : ", ") + std::string("ISA ") + join(s.isas, ", ");
    table.row({s.kind == ImageKind::kSass ? s.arch.sass() : s.arch.ptx(),
               std::string(kind_name(s.kind)) + (s.bare ? " bare" : ""), thousands(s.images), human_bytes(s.stored),
               human_bytes(s.size), packing_name(s.packing), toolkit});
  }
  return table.str("      ");
}

std::string image_table(const GpuCode& gpu) {
  Table table({">module", "image", "kind", ">stored", ">unpacked", "packing", "toolkit", "ISA"});
  for (const GpuImage& i : gpu.images) {
    table.row({std::to_string(i.container + 1), i.name(), kind_name(i.kind), thousands(i.stored), thousands(i.size),
               packing_name(i.packing), i.toolkit, i.isa});
  }
  return table.str("      ");
}

std::string symbol_table(const BinaryFacts& b) {
  Table table({"owner", "symbol", "version"});
  for (const Import& import : b.imports) {
    table.row({symbol_owner_name(import.owner), printable(import.name),
               printable(import.version) + (import.library.empty() ? "" : " of " + printable(import.library))});
  }
  return table.str("      ");
}

void line(std::string& out, const char* indent, const char* label, const std::string& value) {
  if (!value.empty()) out += format("%s%-9s ", indent, label) + printable(value) + "\n";
}

std::string binary_report(const BinaryFacts& b, const char* indent, const ReportOptions& options) {
  std::string out;
  line(out, indent, "needs", needed_by_owner(b));
  line(out, indent, "soname", b.soname == base_name(b.path) ? "" : printable(b.soname));
  line(out, indent, "finds by",
       b.runpath.empty() ? (b.rpath.empty() ? "" : "RPATH " + printable(b.rpath)) : "RUNPATH " + printable(b.runpath));
  line(out, indent, "floor", floors(b));
  if (b.format != "GPU") line(out, indent, "symbols", owners(b));
  Strings odd;
  if (b.format == "ELF") {
    if (b.text_relocations) odd.push_back("text relocations");
    if (b.stack_executable) odd.push_back("executable stack");
    if (!b.relro) odd.push_back("no RELRO");
  }
  line(out, indent, "hygiene", join(odd, ", "));
  if (!b.gpu.images.empty()) {
    line(out, indent, "GPU code",
         count(b.gpu.images.size(), "image") + " in " + count(b.gpu.containers, "module") + ", " +
             human_bytes(b.gpu.area));
    out += options.images ? image_table(b.gpu) : gpu_table(b.gpu);
  }
  if (options.symbols && !b.imports.empty()) out += symbol_table(b);
  for (const Strings& faults : {b.faults, b.gpu.faults}) {
    for (const std::string& fault : faults) line(out, indent, "fault", printable(fault));
  }
  return out;
}

std::string wheel_report(const FileFacts& facts) {
  const WheelFacts& w = facts.wheel;
  std::string out;
  if (w.name) {
    line(
        out, "  ", "project",
        w.name->name() + " " + w.name->version().str() + (w.name->build().empty() ? "" : ", build " + w.name->build()));
    line(out, "  ", "tags", w.name->tag_text());
    const StackLabel label = StackLabel::of(w.name->version().local());
    line(out, "  ", "stack",
         (label.cuda.empty() ? "" : "CUDA " + label.cuda) +
             (label.torch.empty() ? "" : (label.cuda.empty() ? "" : ", ") + std::string("torch ") + label.torch));
  } else {
    line(out, "  ", "fault", printable(w.name_fault));
  }
  if (w.has_metadata) {
    line(out, "  ", "summary", printable(w.metadata.summary.substr(0, 100)));
    line(out, "  ", "python", printable(w.metadata.requires_python));
    Strings required;
    for (const std::string& text : w.metadata.requirement_texts) {
      if (text.find("extra ==") == text.npos) required.push_back(printable(text));
    }
    for (const std::string& text : required) line(out, "  ", &text == &required[0] ? "requires" : "", text);
  }
  size_t files = 0;
  for (const MemberFacts& m : w.members) files += !m.name.ends_with('/');
  line(out, "  ", "content",
       count(files, "file") + ", " + human_bytes(w.unpacked) + " unpacked" +
           (w.has_record ? ", RECORD has " + count(w.record.size(), "row") : ", no RECORD"));
  const bool elf =
      std::any_of(facts.binaries.begin(), facts.binaries.end(), [](const BinaryFacts& b) { return b.format == "ELF"; });
  if (elf) {
    std::string arch;
    for (const BinaryFacts& b : facts.binaries) {
      if (b.format == "ELF") arch = b.machine;
    }
    const ManylinuxFit fit = manylinux_fit(facts.binaries, arch);
    line(out, "  ", "fits",
         fit.policy.empty() ? "no manylinux tag: " + printable(fit.why)
                            : fit.policy + (fit.why.empty() ? "" : "; not older: " + printable(fit.why)));
  }
  for (const Fault& fault : w.zip_faults)
    line(out, "  ", "fault",
         fault.rule + " " + printable(fault.where) + (fault.where.empty() ? "" : ": ") + fault.text);
  return out;
}

}  // namespace

std::vector<ImageSum> sum_images(const GpuCode& gpu) {
  std::map<std::tuple<ImageKind, Arch, bool, Packing>, ImageSum> sums;
  for (const GpuImage& i : gpu.images) {
    ImageSum fresh{i.kind, i.arch, i.packing, i.bare, 0, 0, 0, {}, {}};
    ImageSum& sum = sums.try_emplace({i.kind, i.arch, i.bare, i.packing}, std::move(fresh)).first->second;
    sum.images++, sum.stored += i.stored, sum.size += i.size;
    add_once(sum.toolkits, i.toolkit);
    add_once(sum.isas, i.isa);
  }
  std::vector<ImageSum> out;
  for (auto& [key, sum] : sums) out.push_back(std::move(sum));
  return out;
}

std::string text_report(const FileFacts& facts, const ReportOptions& options) {
  std::string out = printable(facts.path) + "  " + human_bytes(facts.size);
  if (facts.kind == FileKind::kBinary) {
    const BinaryFacts& b = facts.binaries[0];
    return out + ", " + (b.format == "GPU" ? "GPU code" : b.format + " " + b.machine) + "\n" +
           binary_report(b, "  ", options);
  }
  out += "\n" + wheel_report(facts);
  for (const BinaryFacts& b : facts.binaries) {
    out += "\n  " + printable(b.path) + "  " + human_bytes(b.size) + ", " +
           (b.format == "GPU" ? "GPU code" : b.format + " " + b.machine) + "\n";
    out += binary_report(b, "    ", options);
  }
  return out;
}

}  // namespace clary::tool
