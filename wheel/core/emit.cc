#include "wheel/core/emit.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "wheel/core/json.h"
#include "wheel/core/table.h"
#include "wheel/core/tag.h"

namespace clary::tool {
namespace {

constexpr int kGithubMinutes = 350;  // of the 360 a hosted job may take

std::string runner(const Cell& c) {
  return c.platform.starts_with("win")     ? "windows-2022"
         : c.platform.ends_with("aarch64") ? "ubuntu-24.04-arm"
                                           : "ubuntu-24.04";
}

Json cell_json(const Cell& c) {
  return {{"id", c.id},
          {"wheel", c.wheel},
          {"torch", c.torch},
          {"cuda", c.cuda},
          {"python", c.python},
          {"platform", c.platform},
          {"archs", c.archs.text()},
          {"torch_cuda_arch_list", c.archs.torch()},
          {"cmake_cuda_architectures", c.archs.cmake()},
          {"nvcc_flags", c.archs.nvcc()},
          {"torch_index", c.index_url},
          {"image", c.image},
          {"cxx11abi", c.cxx11abi},
          {"cxx", c.cxx},
          {"jobs", c.jobs},
          {"memory_mb", c.memory_mb},
          {"minutes", c.minutes},
          {"note", c.note}};
}

// What a workflow's job needs, and no more: a matrix may hold 1 MB.
Json github_json(const Cell& c) {
  return {{"id", c.id},
          {"runner", runner(c)},
          {"container", c.image},
          {"torch", c.torch},
          {"torch_index", c.index_url},
          {"cuda", c.cuda},
          {"python", c.python},
          {"opt_python", opt_python(c)},
          {"platform", c.platform},
          {"arch_list", c.archs.torch()},
          {"max_jobs", c.jobs},
          {"timeout", std::min(kGithubMinutes, c.minutes * 3 + 10)},
          {"wheel", c.wheel}};
}

// Refusals with one reason are one line.
std::string refused_table(const std::vector<Refused>& refused) {
  std::vector<std::pair<std::string, std::vector<std::string>>> reasons;
  for (const Refused& r : refused) {
    auto found =
        std::find_if(reasons.begin(), reasons.end(), [&](const auto& entry) { return entry.first == r.reason; });
    if (found == reasons.end()) found = reasons.insert(reasons.end(), {r.reason, {}});
    found->second.push_back(r.what);
  }
  Table table({"", ""});
  for (const auto& [reason, cells] : reasons)
    table.row({cells[0] + (cells.size() > 1 ? " and " + thousands(cells.size() - 1) + " more" : ""), reason});
  return table.str("  ");
}

std::string hours(int minutes) {
  return minutes < 120 ? count(static_cast<uint64_t>(minutes), "minute") : format("%.1f hours", minutes / 60.0);
}

// Cells that a Linux container builds.
Result<std::vector<const Cell*>> linux_cells(const Matrix& matrix) {
  std::vector<const Cell*> out;
  for (const Cell& c : matrix.cells) {
    if (!c.platform.starts_with("win") && !c.image.empty()) out.push_back(&c);
  }
  if (out.empty())
    return Error{"no Linux cell with a builder image", "name one with --base-image, or plan a Linux platform"};
  return out;
}

std::string dockerfile(const Cell& c, bool named) {
  const std::string torch = c.torch.empty() ? "" : "torch==" + c.torch;
  std::string out =
      "# syntax=docker/dockerfile:1\n# Builds one wheel without a GPU; the source tree is the build context.\n#   "
      "docker build --target wheel --output wheelhouse .    (podman from 4.5 on: before, RUN knows no --network)\n";
  out += "ARG BASE_IMAGE=" + c.image + "\nFROM ${BASE_IMAGE} AS environment\n";
  out += "ARG PYTHON=" + opt_python(c) + "\nARG TORCH=" + torch + "\nARG TORCH_INDEX=" + c.index_url + "\n";
  out += "ARG ARCH_LIST=" + yaml(c.archs.torch()) + "\nARG CMAKE_ARCHS=" + yaml(c.archs.cmake()) +
         "\nARG JOBS=" + std::to_string(c.jobs) + "\n";
  out += "ENV PATH=/opt/python/${PYTHON}/bin:/usr/local/cuda/bin:${PATH} CUDA_HOME=/usr/local/cuda\n";
  out +=
      "ENV TORCH_CUDA_ARCH_LIST=\"${ARCH_LIST}\" CUDAARCHS=\"${CMAKE_ARCHS}\" MAX_JOBS=${JOBS} "
      "SOURCE_DATE_EPOCH=315532800\n";
  out +=
      "RUN if [ -n \"${TORCH}\" ]; then python -m pip install --no-cache-dir \"${TORCH}\" --index-url "
      "\"${TORCH_INDEX}\"; fi && \\\n";
  out += "    python -m pip install --no-cache-dir setuptools wheel ninja packaging\n";
  out +=
      "FROM environment AS build\nWORKDIR /src\nCOPY . .\n# The sources are here; nothing is fetched while they "
      "compile.\n";
  out += "RUN --network=none python -m pip wheel . --no-deps --no-build-isolation --wheel-dir /out\n";
  out += "FROM scratch AS wheel\nCOPY --from=build /out /\n";
  if (named) out += "# planned: " + c.wheel + "\n";
  return out;
}

}  // namespace

std::string opt_python(const Cell& c) {
  const std::string python = c.python.empty() ? "3.10" : c.python;
  const bool threaded = python.ends_with('t');
  const std::string digits = replace_all(threaded ? python.substr(0, python.size() - 1) : python, ".", "");
  return "cp" + digits + "-cp" + digits + (threaded ? "t" : "");
}

Result<Shard> parse_shard(const std::string& text) {
  const size_t slash = text.find('/');
  const Error bad{"not a shard: `" + printable(text) + "`", "such as --shard 2/3"};
  if (slash == text.npos || !is_digits(text.substr(0, slash)) || !is_digits(text.substr(slash + 1)) || text.size() > 12)
    return bad;
  const Shard shard{static_cast<size_t>(std::atoi(text.c_str())),
                    static_cast<size_t>(std::atoi(text.c_str() + slash + 1))};
  if (shard.index < 1 || shard.index > shard.count) return bad;
  return shard;
}

void take_shard(Matrix& matrix, const Shard& shard) {
  const size_t n = matrix.cells.size(), begin = n * (shard.index - 1) / shard.count,
               end = n * shard.index / shard.count;
  matrix.cells = {std::make_move_iterator(matrix.cells.begin() + static_cast<long>(begin)),
                  std::make_move_iterator(matrix.cells.begin() + static_cast<long>(end))};
}

std::string plan_table(const Matrix& matrix, const Recipe& recipe) {
  Table table({"cell", "wheel", "architectures", ">jobs", ">memory", ">minutes"});
  int total = 0;
  Strings notes;
  const auto note = [&](const std::string& text) {
    if (!text.empty() && std::find(notes.begin(), notes.end(), text) == notes.end()) notes.push_back(text);
  };
  for (const Cell& c : matrix.cells) {
    table.row({c.id, c.wheel, c.archs.text(), std::to_string(c.jobs), format("%.1f GB", c.memory_mb / 1000.0),
               std::to_string(c.minutes)});
    total += c.minutes;
    note(c.note);
    for (const std::string& remark : c.archs.remarks()) note(remark);
    if (!c.cxx11abi)
      note("torch " + c.torch + " with CUDA " + c.cuda +
           " has the old C++ ABI: compile with _GLIBCXX_USE_CXX11_ABI=0 (torch's own build helper does)");
    if (c.cxx > 17)
      note("torch " + c.torch + " needs C++" + std::to_string(c.cxx) + " in every source that includes its headers");
  }
  std::string out = matrix.cells.empty() ? "" : table.str();
  out += count(matrix.cells.size(), "wheel") + " of " + recipe.name + " " + recipe.version.str() +
         (matrix.cells.empty() ? "" : ", " + hours(total) + " one after another") + "\n";
  if (!matrix.refused.empty())
    out += "\n" + count(matrix.refused.size(), "cell") + " refused:\n" + refused_table(matrix.refused);
  for (const std::string& text : notes) out += (&text == &notes[0] ? "\n" : "") + std::string("note: ") + text + "\n";
  return out;
}

std::string plan_json(const Matrix& matrix, const Recipe& recipe, const Machine& machine) {
  Json cells = Json::array(), refused = Json::array();
  for (const Cell& c : matrix.cells) cells.push_back(cell_json(c));
  for (const Refused& r : matrix.refused) refused.push_back({{"cell", r.what}, {"reason", r.reason}});
  return dump({{"schema", "clary-plan/1"},
               {"package", recipe.name},
               {"version", recipe.version.str()},
               {"machine", {{"cores", machine.cores}, {"memory_mb", machine.memory_mb}}},
               {"cells", cells},
               {"refused", refused}});
}

std::string plan_github(const Matrix& matrix) {
  const size_t n = matrix.cells.size(), shards = (n + kGithubJobs - 1) / kGithubJobs;
  Json numbers = Json::array();
  std::string out;
  for (size_t s = 1; s <= shards; s++) {
    Json include = Json::array();
    for (size_t i = n * (s - 1) / shards; i < n * s / shards; i++) include.push_back(github_json(matrix.cells[i]));
    numbers.push_back(s);
    out += (shards == 1 ? "matrix=" : "matrix_" + std::to_string(s) + "=") + dump_line({{"include", include}}) + "\n";
  }
  return "count=" + std::to_string(n) + "\nempty=" + (n ? "false" : "true") + "\nshards=" + dump_line(numbers) + "\n" +
         out;
}

Result<std::string> plan_cibuildwheel(const Matrix& matrix) {
  Strings groups, builds;
  for (const Cell& c : matrix.cells) {
    const std::string group =
        c.id.substr(0, c.id.find("-cp") == std::string::npos ? c.id.find("-py") : c.id.find("-cp"));
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
    const bool windows = c.platform.starts_with("win");
    const std::string python = opt_python(c);
    const std::string threaded = python.ends_with('t') ? "t" : "";
    const std::string build = python.substr(0, python.find('-')) + threaded +
                              (windows                           ? "-win_amd64"
                               : c.platform.ends_with("aarch64") ? "-manylinux_aarch64"
                                                                 : "-manylinux_x86_64");
    if (std::find(builds.begin(), builds.end(), build) == builds.end()) builds.push_back(build);
  }
  if (matrix.cells.empty()) return Error{"no cell to configure", ""};
  if (groups.size() > 1) {
    return Error{"cibuildwheel builds for one torch and CUDA at a time; this plan has " + count(groups.size(), "pair"),
                 "choose one with --only '" + groups[0] + "-*'; there are: " + join(groups, " ")};
  }
  const Cell& first = matrix.cells[0];
  Strings quoted;
  for (const std::string& build : builds) quoted.push_back(yaml(build));
  std::string out = "# cibuildwheel --config-file <this file>\n# planned:\n";
  for (const Cell& c : matrix.cells) out += "#   " + c.wheel + "\n";
  out += "[tool.cibuildwheel]\nbuild = [" + join(quoted, ", ") + "]\n";
  out += "build-frontend = { name = \"pip\", args = [\"--no-build-isolation\"] }\n";
  const std::string torch =
      first.torch.empty() ? "" : "pip install torch==" + first.torch + " --index-url " + first.index_url + " && ";
  out += "before-build = " + yaml(torch + "pip install setuptools wheel ninja packaging") + "\n";
  out += "environment = { TORCH_CUDA_ARCH_LIST = " + yaml(first.archs.torch()) +
         ", CUDAARCHS = " + yaml(first.archs.cmake()) + ", MAX_JOBS = \"" + std::to_string(first.jobs) + "\" }\n";
  bool linux = false;
  std::map<std::string, std::string> images;
  for (const Cell& c : matrix.cells) {
    if (c.platform.starts_with("win")) continue;
    linux = true;
    if (!c.image.empty())
      images[c.platform.ends_with("aarch64") ? "manylinux-aarch64-image" : "manylinux-x86_64-image"] = c.image;
  }
  for (const auto& [key, image] : images) out += key + " = " + yaml(image) + "\n";
  if (linux) {  // what torch and CUDA packages bring is left to them
    out +=
        "\n[tool.cibuildwheel.linux]\nrepair-wheel-command = \"auditwheel repair --exclude libtorch*.so --exclude "
        "libc10*.so --exclude 'libcu*.so*' --exclude 'libnv*.so*' --exclude 'libnccl.so*' -w {dest_dir} {wheel}\"\n";
  }
  return out;
}

Result<std::string> plan_dockerfile(const Matrix& matrix) {
  const Result<std::vector<const Cell*>> cells = linux_cells(matrix);
  if (!cells) return cells.error();
  return dockerfile(*cells->front(), cells->size() == 1);
}

Result<std::string> plan_compose(const Matrix& matrix) {
  const Result<std::vector<const Cell*>> cells = linux_cells(matrix);
  if (!cells) return cells.error();
  std::string out =
      "# docker compose build && docker compose up    (podman compose does too; no GPU is needed)\n# Dockerfile: clary "
      "plan --format dockerfile > Dockerfile\nservices:\n";
  for (const Cell* c : *cells) {
    out += "  " + c->id + ":  # " + c->wheel + "\n    build:\n      context: .\n      target: build\n      args:\n";
    out += "        BASE_IMAGE: " + yaml(c->image) + "\n        PYTHON: " + yaml(opt_python(*c)) + "\n";
    out += "        TORCH: " + yaml(c->torch.empty() ? "" : "torch==" + c->torch) +
           "\n        TORCH_INDEX: " + yaml(c->index_url) + "\n";
    out += "        ARCH_LIST: " + yaml(c->archs.torch()) + "\n        CMAKE_ARCHS: " + yaml(c->archs.cmake()) +
           "\n        JOBS: \"" + std::to_string(c->jobs) + "\"\n";
    if (c->platform.ends_with("aarch64")) out += "    platform: linux/arm64\n";
    out +=
        "    volumes: [\"./wheelhouse:/wheelhouse\"]\n    command: [\"sh\", \"-c\", \"cp /out/*.whl /wheelhouse/\"]\n";
  }
  return out;
}

}  // namespace clary::tool
