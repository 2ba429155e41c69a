#include "wheel/core/facts.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "wheel/core/digest.h"
#include "wheel/core/leaks.h"
#include "wheel/core/pe.h"
#include "wheel/core/tables.h"

namespace clary::tool {
namespace {

void add_import(BinaryFacts& to, Import import) {
  import.owner = symbol_owner(import.name, import.library);
  to.owners[static_cast<size_t>(import.owner)]++;
  to.imports.push_back(std::move(import));
}

// "GLIBC_2.17" asked of a library raises the floor of GLIBC.
void add_version(BinaryFacts& to, std::string_view version) {
  const size_t underscore = version.find('_');
  if (underscore == version.npos) return;
  const std::string library(version.substr(0, underscore));
  const Result<Version> number = Version::parse(version.substr(underscore + 1));
  const bool counts = number && (version.back() >= '0' && version.back() <= '9');
  if (!counts) {
    to.named_versions.emplace_back(version);
    return;
  }
  const auto [floor, fresh] = to.floors.try_emplace(library, Floor{*number, ""});
  if (!fresh && floor->second.newest < *number) floor->second.newest = *number;
}

void read_elf(const Elf& elf, bool leaks, BinaryFacts& to) {
  to.format = "ELF";
  to.machine = elf.machine_name();
  to.soname = elf.soname, to.rpath = elf.rpath, to.runpath = elf.runpath, to.interpreter = elf.interpreter;
  for (std::string_view name : elf.needed) to.needed.emplace_back(name);
  for (const ElfNeed& need : elf.needs) {
    to.versions[std::string(need.library)].emplace_back(need.version);
    add_version(to, need.version);
  }
  for (const ElfSymbol& s : elf.symbols) {
    if (s.defined) {
      to.exports++;
      if (s.name.starts_with("PyInit_")) to.python_inits.emplace_back(s.name);
      if (first_namespace(s.name) == "std") to.std_exports.emplace_back(s.name);
      continue;
    }
    add_import(to, {std::string(s.name), std::string(s.version), std::string(s.library), s.bind == 2, {}});
    const size_t underscore = s.version.find('_');
    const auto floor =
        underscore == s.version.npos ? to.floors.end() : to.floors.find(std::string(s.version.substr(0, underscore)));
    if (floor != to.floors.end() && floor->second.symbol.empty() &&
        s.version.substr(underscore + 1) == floor->second.newest.str()) {
      floor->second.symbol = s.name;
    }
  }
  to.text_relocations = elf.text_relocations, to.bind_now = elf.bind_now, to.relro = elf.relro;
  to.stack_executable = elf.stack_executable;
  to.isa_level = elf.x86_isa & 8 ? 4 : elf.x86_isa & 4 ? 3 : elf.x86_isa & 2 ? 2 : 1;
  for (const Bytes id : elf.notes("GNU", 3)) {
    to.build_id.clear();
    for (uint8_t byte : id.first(std::min<size_t>(id.size(), 32))) to.build_id += format("%02x", byte);
  }
  if (const ElfSection* comment = elf.section(".comment")) {
    for (std::string_view line : split_any(text(clip(elf.bytes_of(*comment), 0, 4096)), std::string_view("\0", 1))) {
      if (std::find(to.compilers.begin(), to.compilers.end(), line) == to.compilers.end())
        to.compilers.emplace_back(line);
    }
  }
  to.gpu = gpu_code_of_elf(elf);
  to.faults = elf.faults;
  if (!leaks) return;
  for (const ElfSection& s : elf.sections) {  // where strings are; GPU code is most of a library and holds none
    const bool strings = s.name.starts_with(".rodata") || s.name.starts_with(".data") ||
                         s.name.starts_with(".strtab") || s.name.starts_with(".debug_str");
    if (!strings) continue;
    for (Leak& leak : find_leaks(elf.bytes_of(s), true)) to.leaks.push_back(std::move(leak));
  }
}

void read_pe(const Pe& pe, BinaryFacts& to) {
  to.format = "PE";
  to.machine = pe.machine;
  for (const PeImport& import : pe.imports) {
    to.needed.emplace_back(import.library);
    for (std::string_view symbol : import.symbols) add_import(to, {std::string(symbol), "", "", import.delayed, {}});
  }
  to.exports = pe.exports.size();
  for (std::string_view name : pe.exports) {
    if (name.starts_with("PyInit_")) to.python_inits.emplace_back(name);
  }
  to.gpu = pe.gpu;
  to.faults = pe.faults;
}

bool is_library_name(std::string_view name) {
  for (std::string_view suffix : {".so", ".pyd", ".dll", ".cubin", ".fatbin", ".ptx"}) {
    if (name.ends_with(suffix)) return true;
  }
  const bool program = name.substr(name.find_last_of('/') + 1).find('.') == name.npos;  // triton's ptxas
  return program || name.find(".so.") != name.npos;
}

constexpr size_t kMostDistInfos = 5;

// dist-info first: it is small and says what the rest should be.
void read_dist_info(const Zip& zip, WheelFacts& to) {
  for (const ZipMember& m : zip.members()) {
    const std::string_view top = m.name.substr(0, m.name.find('/'));
    if (!top.ends_with(".dist-info") || top.size() == m.name.size()) continue;
    if (std::find(to.dist_infos.begin(), to.dist_infos.end(), top) == to.dist_infos.end())
      to.dist_infos.emplace_back(top);
    if (to.dist_infos.size() == kMostDistInfos) break;  // one is right; a hostile archive has one for each member
  }
  if (to.dist_infos.size() != 1) return;
  to.dist_info = to.dist_infos[0];
  const auto content = [&](const char* name) -> std::optional<std::string> {
    const ZipMember* member = zip.find(to.dist_info + "/" + name);
    if (!member || member->size > (64u << 20)) return std::nullopt;
    const Result<Buffer> bytes = zip.read(*member);
    if (!bytes) return std::nullopt;
    return std::string(text(bytes->bytes()));
  };
  if (const auto metadata = content("METADATA"))
    to.has_metadata = true, to.metadata = Metadata::parse(*metadata), to.metadata_text = *metadata;
  if (const auto wheel = content("WHEEL")) to.has_wheel = true, to.wheel = Headers::parse(*wheel);
  if (const auto record = content("RECORD")) {
    to.has_record = true;
    Result<std::vector<RecordRow>> rows = parse_record(*record);
    if (rows)
      to.record = *std::move(rows);
    else
      to.record_fault = rows.error().message;
  }
}

void read_wheel(Bytes file, const ReadOptions& options, FileFacts& to) {
  const Zip zip = Zip::open(file);
  WheelFacts& wheel = to.wheel;
  wheel.zip_faults = zip.faults();
  read_dist_info(zip, wheel);
  const std::vector<ZipMember>& members = zip.members();
  wheel.members.resize(members.size());
  std::vector<std::optional<BinaryFacts>> binaries(members.size());
  std::vector<size_t> order(members.size());
  for (size_t i = 0; i < members.size(); i++) {
    order[i] = i;
    wheel.members[i].name = members[i].name;
    wheel.members[i].size = members[i].size, wheel.members[i].packed = members[i].packed;
    wheel.unpacked += members[i].size;
  }
  // A bomb is not unpacked to see how large it is.
  const bool bomb =
      std::any_of(zip.faults().begin(), zip.faults().end(), [](const Fault& f) { return f.rule == "W3.bomb"; });
  if (bomb) return;

  // Members are independent. The largest first, so that the threads end together; results go to their own slots.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return members[a].size > members[b].size; });
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < order.size(); i = next++) {
      const ZipMember& member = members[order[i]];
      MemberFacts& facts = wheel.members[order[i]];
      const bool library = is_library_name(member.name);
      if (member.is_dir() || !(options.digests || library)) continue;
      const Result<Buffer> content = zip.read(member);
      if (!content) {
        facts.fault = content.error().message;
        continue;
      }
      if (options.digests) facts.digest = base64url(sha256_of(content->bytes()));
      if (is_binary(content->bytes()))
        binaries[order[i]] = binary_facts(content->bytes(), facts.name, options.digests);
      else if (options.digests)
        facts.leaks = find_leaks(content->bytes(), false);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < options.threads && static_cast<size_t>(i) < members.size(); i++) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  for (std::optional<BinaryFacts>& binary : binaries) {
    if (binary) to.binaries.push_back(std::move(*binary));
  }
}

}  // namespace

bool is_binary(Bytes file) { return Elf::looks_like(file) || Pe::looks_like(file) || !gpu_code_of_file(file).empty(); }

bool below_origin(std::string_view search_path) {
  return search_path.starts_with("$ORIGIN") || search_path.starts_with("${ORIGIN}");
}

BinaryFacts binary_facts(Bytes file, const std::string& path, bool leaks) {
  BinaryFacts out;
  out.path = path;
  out.size = file.size();
  if (Elf::looks_like(file)) {
    const Result<Elf> elf = Elf::parse(file);
    if (elf && elf->machine != kMachineCuda) {
      read_elf(*elf, leaks, out);
      return out;
    }
    if (!elf) {
      out.format = "ELF";
      out.faults.push_back(elf.error().message);
      return out;
    }
  }
  if (Pe::looks_like(file)) {
    const Result<Pe> pe = Pe::parse(file);
    out.format = "PE";
    if (pe)
      read_pe(*pe, out);
    else
      out.faults.push_back(pe.error().message);
    if (leaks && file.size() < (64u << 20)) out.leaks = find_leaks(file, true);
    return out;
  }
  out.format = "GPU";
  out.machine = "cuda";
  out.gpu = gpu_code_of_file(file);
  return out;
}

Result<FileFacts> read_facts(Ctx& ctx, const std::string& path, const ReadOptions& options) {
  Result<Mapping> mapping = ctx.disk.map(path);
  if (!mapping) return mapping.error();
  const Bytes file = mapping->bytes;
  FileFacts out;
  out.path = path;
  out.size = file.size();
  const std::string name = base_name(path);
  const bool zip = text(clip(file, 0, 2)) == "PK";
  if (name.ends_with(".whl") || zip) {
    out.kind = FileKind::kWheel;
    Result<WheelName> parsed = WheelName::parse(name);
    if (parsed)
      out.wheel.name = *std::move(parsed);
    else
      out.wheel.name_fault = parsed.error().message;
    if (options.digests) out.sha256 = hex(sha256_of(file));
    read_wheel(file, options, out);
    return out;
  }
  if (!is_binary(file)) {
    return Error{"neither a wheel nor a library nor GPU code: " + printable(path),
                 "clary reads .whl, ELF (.so), PE (.dll, .pyd), .cubin, .fatbin and .ptx files"};
  }
  out.kind = FileKind::kBinary;
  if (options.digests) out.sha256 = hex(sha256_of(file));
  out.binaries.push_back(binary_facts(file, path, options.digests));
  return out;
}

ManylinuxFit manylinux_fit(const std::vector<BinaryFacts>& binaries, const std::string& arch) {
  ManylinuxFit fit;
  for (const BinaryFacts& b : binaries) {
    const auto musl = std::find_if(b.needed.begin(), b.needed.end(),
                                   [](const std::string& name) { return name.starts_with("libc.musl-"); });
    if (musl != b.needed.end())
      return {"", b.path + " needs " + *musl + ", whose symbols have no versions to judge by"};
  }
  for (const ManylinuxPolicy& policy : tables().manylinux) {
    const ManylinuxPolicy::Limit* limit = policy.limit(arch);
    if (!limit) continue;
    std::string refusal;
    for (const BinaryFacts& b : binaries) {
      if (b.format != "ELF") continue;
      for (const auto& [library, floor] : b.floors) {
        const auto allowed = limit->newest.find(library);
        const bool judged = library == "GLIBC" || library == "GLIBCXX" || library == "CXXABI" || library == "GCC";
        const bool known = allowed != limit->newest.end() && floor.newest <= allowed->second;
        if (judged && !known)
          refusal = b.path + " needs " + library + "_" + floor.newest.str() +
                    (floor.symbol.empty() ? "" : " (" + floor.symbol + ")");
      }
      for (const std::string& named : b.named_versions) {
        const bool judged = named.starts_with("GLIBC_") || named.starts_with("GLIBCXX_") ||
                            named.starts_with("CXXABI_") || named.starts_with("GCC_");
        if (judged && std::find(limit->also.begin(), limit->also.end(), named) == limit->also.end())
          refusal = b.path + " needs " + named;
      }
    }
    if (refusal.empty()) {
      fit.policy = policy.name + "_" + arch;
      return fit;
    }
    fit.why = refusal;
  }
  return fit;
}

}  // namespace clary::tool
