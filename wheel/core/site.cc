#include "wheel/core/site.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <set>

#include "wheel/core/digest.h"
#include "wheel/core/json.h"

namespace clary::tool {
namespace {

std::string page(const std::string& title, const std::string& body) {
  return "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"pypi:repository-version\" "
         "content=\"1.1\">\n<title>" +
         html(title) + "</title>\n</head>\n<body>\n" + body + "</body>\n</html>\n";
}

using Group = std::vector<const SiteWheel*>;

// Wheels lie in wheels/, or where --base-url says; metadata is offered only where it lies beside the wheel.
struct Links {
  std::string base_url;
  std::string to(const SiteWheel& w, int depth) const {
    std::string up;
    for (int i = 0; i < depth; i++) up += "../";
    return (base_url.empty() ? up + "wheels/" : base_url) + percent(w.file);
  }
  bool metadata(const SiteWheel& w) const { return base_url.empty() && !w.metadata.empty(); }
};

std::string project_html(const std::string& project, const Group& wheels, const Links& links, int depth) {
  std::string body = "<h1>" + html(project) + "</h1>\n";
  for (const SiteWheel* w : wheels) {
    body += "<a href=\"" + html(links.to(*w, depth)) + "#sha256=" + w->sha256 + "\"";
    if (!w->requires_python.empty()) body += " data-requires-python=\"" + html(w->requires_python) + "\"";
    if (links.metadata(*w)) {
      const std::string digest = "sha256=" + hex(sha256_of(bytes_of(w->metadata)));
      body += " data-core-metadata=\"" + digest + "\" data-dist-info-metadata=\"" + digest + "\"";
    }
    body += ">" + html(w->file) + "</a><br>\n";
  }
  return page(project, body);
}

std::string project_json(const std::string& project, const Group& wheels, const Links& links, int depth) {
  Json files = Json::array();
  Strings versions;
  for (const SiteWheel* w : wheels) {
    const std::string version = w->name.version().str();
    if (std::find(versions.begin(), versions.end(), version) == versions.end()) versions.push_back(version);
    Json file = {{"filename", w->file}, {"url", links.to(*w, depth)},           {"hashes", {{"sha256", w->sha256}}},
                 {"size", w->size},     {"upload-time", iso_time(w->modified)}, {"yanked", false}};
    if (!w->requires_python.empty()) file["requires-python"] = w->requires_python;
    if (links.metadata(*w)) file["core-metadata"] = {{"sha256", hex(sha256_of(bytes_of(w->metadata)))}};
    files.push_back(file);
  }
  return dump({{"meta", {{"api-version", "1.1"}}}, {"name", project}, {"versions", versions}, {"files", files}});
}

std::string root_html(const Strings& projects) {
  std::string body;
  for (const std::string& p : projects) body += "<a href=\"" + p + "/\">" + p + "</a><br>\n";
  return page("Simple index", body);
}

std::string root_json(const Strings& projects) {
  Json list = Json::array();
  for (const std::string& p : projects) list.push_back({{"name", p}});
  return dump({{"meta", {{"api-version", "1.1"}}}, {"projects", list}});
}

// Where people look: every wheel, what it fits, and the command that installs it.
std::string front_page(const std::vector<SiteWheel>& wheels, const Links& links) {
  std::string body =
      "<h1>Wheels</h1>\n<p>pip install PROJECT --index-url THIS_SITE/simple/, or THIS_SITE/cu128/torch2.8/ for one "
      "CUDA and torch.</p>\n"
      "<table>\n<tr><th>wheel</th><th>CUDA</th><th>torch</th><th>Python</th><th>platform</th><th>size</th></tr>\n";
  for (const SiteWheel& w : wheels) {
    const StackLabel label = StackLabel::of(w.name.version().local());
    const Tag& tag = w.name.tags()[0];
    body += "<tr><td><a href=\"" + html(links.to(w, 0)) + "\">" + html(w.file) + "</a></td><td>" + label.cuda +
            "</td><td>" + label.torch + "</td><td>" + html(tag.python) + "</td><td>" + html(tag.platform) +
            "</td><td>" + human_bytes(w.size) + "</td></tr>\n";
  }
  return page("Wheels", body + "</table>\n");
}

// "cu128/torch2.8" of each (CUDA, torch line), that of a torch wheel included. A wheel without a label is in every one, one
// that names CUDA alone (torchvision) in each of that CUDA.
std::map<std::string, Group> stacks(const std::vector<SiteWheel>& wheels) {
  const auto key = [](const SiteWheel& w) {
    StackLabel label = StackLabel::of(w.name.version().local());
    if (label.cuda.empty()) return std::string();
    if (normal_name(w.name.name()) == "torch") label.torch = w.name.version().without_local().str();
    const std::string cuda = "cu" + replace_all(label.cuda, ".", "") + "/";
    if (label.torch.empty()) return cuda;
    return cuda + "torch" + label.torch.substr(0, label.torch.find('.', label.torch.find('.') + 1));
  };
  std::map<std::string, Group> out;
  for (const SiteWheel& w : wheels) {
    if (const std::string k = key(w); !k.empty() && !k.ends_with('/')) out[k];
  }
  for (const SiteWheel& w : wheels) {
    const std::string k = key(w);
    for (auto& [stack, group] : out) {
      const bool fits = k.empty()          ? w.name.version().local().empty()
                        : k.ends_with('/') ? stack.starts_with(k)
                                           : k == stack;
      if (fits) group.push_back(&w);
    }
  }
  return out;
}

void add_index(std::vector<SitePage>& to, const std::string& folder, const Group& wheels, const Links& links,
               int depth) {
  std::map<std::string, Group> projects;
  for (const SiteWheel* w : wheels) projects[normal_name(w->name.name())].push_back(w);
  Strings names;
  for (const auto& [project, group] : projects) {
    names.push_back(project);
    to.push_back({folder + "/" + project + "/index.v1.json", project_json(project, group, links, depth + 1)});
    to.push_back({folder + "/" + project + "/index.html", project_html(project, group, links, depth + 1)});
  }
  to.push_back({folder + "/index.v1.json", root_json(names)});
  to.push_back({folder + "/index.html", root_html(names)});
}

}  // namespace

std::string iso_time(int64_t seconds) {
  const std::time_t time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::vector<SitePage> make_site(std::vector<SiteWheel> wheels, const std::string& base_url) {
  std::sort(wheels.begin(), wheels.end(), [](const SiteWheel& a, const SiteWheel& b) {
    const auto order = a.name.version() <=> b.name.version();
    return order != 0 ? order > 0 : a.file < b.file;  // newest first: what people look for
  });
  const Links links{base_url.empty() || base_url.ends_with('/') ? base_url : base_url + "/"};
  std::vector<SitePage> out;
  std::string sums;
  Group all;
  for (const SiteWheel& w : wheels) {
    all.push_back(&w);
    sums += w.sha256 + "  " + w.file + "\n";
    if (links.metadata(w)) out.push_back({"wheels/" + w.file + ".metadata", w.metadata});
  }
  for (const auto& [stack, group] : stacks(wheels)) add_index(out, stack, group, links, 2);
  add_index(out, "simple", all, links, 1);
  out.push_back({"SHA256SUMS", sums});
  // For hosts that read it: the type without which pip refuses the JSON form.
  out.push_back({"_headers", "/*/index.v1.json\n  Content-Type: application/vnd.pypi.simple.v1+json\n"});
  out.push_back({"index.html", front_page(wheels, links)});
  return out;
}

}  // namespace clary::tool
