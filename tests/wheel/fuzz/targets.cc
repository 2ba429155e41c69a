#include "targets.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "support.h"
#include "wheel/core/arch.h"
#include "wheel/core/catalog.h"
#include "wheel/core/facts.h"
#include "wheel/core/json.h"
#include "wheel/core/lockfile.h"
#include "wheel/core/manifest.h"
#include "wheel/core/minisign.h"
#include "wheel/core/pe.h"
#include "wheel/core/policy.h"
#include "wheel/core/recipe.h"
#include "wheel/core/report.h"
#include "wheel/core/url.h"
#include "wheel/core/verify.h"

namespace clary::tool::fuzz {
namespace {

using Seeds = std::vector<std::string>;

// What a parser promised and did not hold.
void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "invariant: %s\n", what);
  std::abort();
}

// ---- archives and wheels ------------------------------------------------------------------------------------------------

test::WheelSpec small_wheel() {
  test::ElfSpec elf = test::module_spec();
  elf.sections = {{".nv_fatbin", test::make_fatbin({{.sm = 80, .packing = 'z'}, {.kind = 'p', .sm = 80}})}};
  return {.files = {{"demo/__init__.py", "x = 1\n"}, {"demo/_C.so", test::make_elf(elf)}}};
}

void run_zip(Bytes input) {
  const Zip zip = Zip::open(input);
  uint64_t total = 0;
  for (const ZipMember& m : zip.members()) {
    if (m.size > (1 << 20) || (total += m.size) > (8 << 20)) continue;  // memory is what a bomb costs, not a fault
    const Result<Buffer> content = zip.read(m);
    if (content) require(content->size() == m.size, "a member unpacks to its size");
  }
  (void)zip.find("a/b.txt");
}
Seeds zip_seeds() {
  const std::vector<test::ZipFile> files = {{.name = "a/b.txt", .content = std::string(300, 'x')},
                                            {.name = "c.txt", .content = "hello", .method = 0, .flags = 8}};
  return {test::make_zip({.files = files}), test::make_zip({.files = files, .zip64 = true}),
          test::make_zip({.files = {}, .comment = "hi"})};
}

void judge(const std::string& name, Bytes input) {
  MemoryWorld world;
  world.disk.files[name] = std::string(text(input));
  const Result<FileFacts> facts = read_facts(world.ctx, name, {.digests = true, .threads = 1});
  if (!facts) return;
  const Policy strictest = {.torch = "stable-2.9", .driver = "525.60.13", .require_sass = {80}, .require_ptx = "plain"};
  for (const Policy& policy : {Policy{}, strictest}) {
    const FileFindings found = verify_facts(*facts, policy, Against{});
    require(is_utf8(findings_text(found, "p", false)), "findings are text");
    (void)findings_sarif({found});
  }
  require(is_utf8(text_report(*facts, {.symbols = true, .images = true})), "a report is text");
  require(parse_json(json_report({*facts}, {.symbols = true}), "").operator bool(), "a report is JSON");
}
void run_wheel(Bytes input) { judge("demo-1.0-cp312-cp312-manylinux_2_17_x86_64.whl", input); }
Seeds wheel_seeds() {
  test::WheelSpec stored = small_wheel();
  stored.metadata = {"Requires-Dist: torch==2.8.*; python_version >= '3.9'", "Requires-Python: >=3.9"};
  return {test::make_wheel(small_wheel()), test::make_wheel(stored), test::make_wheel({.tag = "py3-none-any"})};
}

// ---- machine code -------------------------------------------------------------------------------------------------------

void run_elf(Bytes input) { judge("a.so", input); }
Seeds elf_seeds() {
  test::ElfSpec rich = test::module_spec();
  rich.runpath = "$ORIGIN", rich.isa = 4, rich.soname = "liba.so.1";
  rich.symbols.push_back({.name = "_ZNSt8ios_base4InitC1Ev", .version = "GLIBCXX_3.4", .library = "libstdc++.so.6"});
  rich.sections = {{".rodata", "/home/ann/x.cu"}, {".data", test::make_cubin({.sm = 90, .feature = 'a'})}};
  test::ElfSpec stripped = rich;
  stripped.section_headers = false;
  return {test::make_elf({}), test::make_elf(rich), test::make_elf(stripped)};
}

void run_fatbin(Bytes input) {
  for (GpuCode code; const bool strict : {true, false}) {
    code = {};
    read_containers(input, 0, input.size(), strict, code);
    for (const GpuImage& i : code.images) {
      require(i.stored <= input.size() || !unpack(input, i, 1 << 20), "an image lies inside its file");
      (void)unpack(input, i, 1 << 20);
    }
  }
  judge("a.fatbin", input);
}
Seeds fatbin_seeds() {
  return {test::make_fatbin({{.sm = 80}, {.sm = 90, .feature = 'a', .packing = 'l', .padding = 500}}),
          test::make_fatbin({{.sm = 120, .feature = 'f', .packing = 'z', .toolkit = "13.0.88"}, {.kind = 'x'}}),
          test::make_fatbin({{.kind = 'p', .sm = 75, .packing = 'z'}, {.kind = 'l', .sm = 80}}),
          test::make_cubin({.sm = 100, .toolkit = "13.0.88"}), ".version 8.8\n.target sm_90a\n.address_size 64\n"};
}

void run_pe(Bytes input) { judge("a.pyd", input); }
Seeds pe_seeds() {
  return {test::make_pe({.imports = {{"python312.dll", {"PyModule_Create2"}}, {"cudart64_12.dll", {"cudaMalloc"}}},
                         .exports = {"PyInit__C"},
                         .fatbin = test::make_fatbin({{.sm = 86}})})};
}

// ---- texts --------------------------------------------------------------------------------------------------------------

void run_version(Bytes input) {
  const std::string_view whole = text(input);
  const size_t cut = whole.find('\n');
  const Result<Version> version = Version::parse(whole.substr(0, cut));
  const Result<Specifier> spec = Specifier::parse(cut == whole.npos ? whole : whole.substr(cut + 1));
  if (version) {
    const Result<Version> again = Version::parse(version->str());
    require(again && *again == *version && again->str() == version->str(), "the normal form of a version is stable");
  }
  if (!spec) return;
  if (version) (void)spec->admits(*version);
  const Result<Specifier> again = Specifier::parse(spec->str());
  require(again && again->str() == spec->str(), "the text of a specifier is stable");
}
Seeds version_seeds() {
  return {"1!2.3.0rc1.post4.dev5+cu128.torch2.8\n>=2.6,<3,!=2.7.*", "2.8.0\n~=2.8.0", "v1.0-1\n==1.0a1.*", "0\n===x"};
}

void run_requirement(Bytes input) {
  const Result<Requirement> requirement = Requirement::parse(text(input));
  if (requirement) (void)requirement->marker.holds({{"extra", "a"}, {"python_version", "3.12"}});
  const Metadata metadata = Metadata::parse(text(input));
  (void)metadata.requirement("torch");
  (void)parse_record(text(input));
}
Seeds requirement_seeds() {
  return {"torch[a,b] (>=2.0,<3) ; python_version >= '3.9' and (extra == 'a' or sys_platform in \"linux\")",
          "a @ https://x/y.whl", "a/b.py,sha256=AAAA,12\n\"c,d\",,\n",
          "Metadata-Version: 2.1\nName: a\nVersion: 1\nRequires-Dist: torch==2.8.*\n more\n\nText"};
}

void run_tag(Bytes input) {
  const Result<WheelName> name = WheelName::parse(text(input));
  if (name) {
    const Result<WheelName> again = WheelName::parse(name->str());
    require(again && again->str() == name->str(), "a wheel name parses as written");
    (void)StackLabel::of(name->version().local());
    for (const Tag& tag : name->tags()) {
      (void)Platform::of(tag.platform);
      (void)Interpreter::of(tag.python);
    }
  }
  const Result<ArchList> list = ArchList::parse(text(input), {.devices = {86}});
  if (list && !list->empty()) {
    const Result<ArchList> again = ArchList::parse(list->text(), {});
    require(again && again->text() == list->text(), "an architecture list reads what it writes");
    (void)list->check(*Version::parse("12.9"));
  }
}
Seeds tag_seeds() {
  return {"sageattention-2.2.0+cu128torch2.8.0-1a-cp312.cp313-abi3.none-manylinux_2_28_x86_64.manylinux2014_x86_64.whl",
          "8.6 9.0 12.0+PTX", "compute_80;sm_80;12.0a,120f native", "arch=compute_90a,code=sm_90a all-major Ampere"};
}

void run_manifest(Bytes input) {
  const Result<Json> json = parse_json(text(input), "m");
  if (json) {
    const Result<Json> again = parse_json(dump(*json), "m");
    require(again.operator bool(), "what is dumped parses");
    if (json->is_object()) {
      (void)number_of(*json, "size");
      (void)text_of(*json, "a");
      (void)strings_of(*json, "wheels");
      (void)check_keys(*json, {"a"}, "m");
    }
  }
  (void)LockFile::parse(text(input), "l");
  Result<Manifest> manifest = Manifest::parse(text(input), "m");
  if (manifest && manifest->serial < INT32_MAX) {
    const size_t wheels = manifest->wheels.size();
    const Result<Manifest> again = Manifest::parse(manifest->write(1'800'000'000, 0), "m");
    require(again && again->wheels.size() >= std::min<size_t>(wheels, 1), "a manifest reads what it writes");
  }
  (void)parse_policy(text(input), "p.toml");
  (void)parse_recipe(text(input), "clary.toml");
  (void)Signature::parse(text(input));
  (void)PublicKey::parse(text(input));
  (void)Url::parse(text(input));
}
Seeds manifest_seeds() {
  const std::string hash(64, 'a');
  return {
      "{\"schema_version\": 1, \"serial\": 2, \"keys\": [\"RW\"], \"wheels\": [{\"filename\": "
      "\"a-1+cu128torch2.8.0-cp312-cp312-"
      "linux_x86_64.whl\", \"size\": 12, \"sha256\": \"" +
          hash +
          "\", \"urls\": [\"a\"], \"sass\": [\"8.0\"], \"ptx\": "
          "[{\"arch\": \"8.0\", \"locked\": false}], \"yanked\": null}]}",
      "{\"torch_version\": \"2.8.0\", \"wheel\": \"a-1-py3-none-any.whl\", \"sha256\": \"sha256:" + hash + "\"}",
      "{\"schema\": \"clary-lock/1\", \"target\": {}, \"wheels\": [{\"project\": \"a\", \"wheel\": "
      "\"a-1-py3-none-any.whl\", \"sha256\": "
      "\"" +
          hash + "\"}]}",
      "untrusted comment: minisign public key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
      "https://user@[::1]:80/a?b#c",
      "[package]\nname = \"a\"\nversion = \"1\"\n[matrix]\ntorch = [\"2.8\"]\n[[exclude]]\nreason = \"x\"\n",
      "{\"schema_version\": 1, \"size\": 1e3, \"wheels\": [{\"filename\": \"a.whl\", \"size\": 12}]}",
      "torch = \"stable-2.10\"\nneeded = [\"a*\"]\nmax-size = \"300 MB\"\n[severity]\n\"F2\" = \"off\"\n",
      "require-sass = [\"8.0\"]\n[[dead]]\nmatch = \"*\"\nonly = [\"9.0a\"]\n"};
}

void run_log(Bytes input) {
  for (const Answer& a : read_log(text(input))) require(a.line > 0 && a.entry, "an answer names its line");
  (void)look_up(std::string(text(input)));
}
Seeds log_seeds() {
  return {"x\nImportError: a.so: undefined symbol: _ZN3c106detail14torchCheckFailEPKcS2_jS2_\n",
          "/lib/libc.so.6: version `GLIBC_2.32' not found (required by a.so)\r\nF3.locked"};
}

constexpr Target kTargets[] = {
    {"zip", run_zip, zip_seeds, false},
    {"wheel", run_wheel, wheel_seeds, false},
    {"elf", run_elf, elf_seeds, false},
    {"fatbin", run_fatbin, fatbin_seeds, false},
    {"pe", run_pe, pe_seeds, false},
    {"version", run_version, version_seeds, true},
    {"requirement", run_requirement, requirement_seeds, true},
    {"tag", run_tag, tag_seeds, true},
    {"manifest", run_manifest, manifest_seeds, true},
    {"log", run_log, log_seeds, true},
};

}  // namespace

std::span<const Target> targets() { return kTargets; }

const Target* find_target(const std::string& name) {
  const auto found =
      std::find_if(std::begin(kTargets), std::end(kTargets), [&](const Target& t) { return name == t.name; });
  return found == std::end(kTargets) ? nullptr : found;
}

}  // namespace clary::tool::fuzz
