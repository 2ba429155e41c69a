#include "wheel/core/sources.h"

#include <algorithm>
#include <regex>
#include <set>

#include "wheel/core/digest.h"
#include "wheel/core/embed.h"
#include "wheel/core/json.h"

namespace clary::tool {
namespace {

constexpr uint64_t kMostText = 4 << 20;  // of a file that edits look into
constexpr int kDeepest = 40;
constexpr const char* kList = ".clary-files";  // in a working copy: what it was made of

// What builds and environments leave in source trees. Folders' names, and endings of files' names.
constexpr std::string_view kSkipped[] = {"build",       "dist",         "wheelhouse", "__pycache__", ".venv",
                                         "venv",        ".tox",         ".nox",       ".mypy_cache", ".pytest_cache",
                                         ".ruff_cache", "node_modules", ".idea",      ".vscode"};

bool skipped(const std::string& name, bool top) {
  const bool listed = std::find(std::begin(kSkipped), std::end(kSkipped), name) != std::end(kSkipped);
  return (listed && (top || name.starts_with("__") || name.starts_with("."))) || name.ends_with(".egg-info") ||
         name.ends_with(".pyc") || name == kList;
}

Result<Done> walk(Ctx& ctx, const std::string& folder, const std::string& prefix, int depth, Strings& to) {
  if (depth > kDeepest) return Error{"folders too deep: " + folder, "a link that leads back to its own parent?"};
  const Result<Strings> names = ctx.disk.list(folder);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    if (skipped(name, depth == 0)) continue;
    const std::optional<FileInfo> info = ctx.disk.info(folder + "/" + name);
    if (!info) continue;  // a link to nowhere
    if (info->is_dir && !info->is_link) {
      if (Result<Done> done = walk(ctx, folder + "/" + name, prefix + name + "/", depth + 1, to); !done) return done;
    } else {
      to.push_back(prefix + name);
    }
  }
  return Done{};
}

bool same(Ctx& ctx, const std::string& a, const std::string& b) {
  const std::optional<FileInfo> x = ctx.disk.info(a), y = ctx.disk.info(b);
  if (!x || !y || x->is_link != y->is_link || x->size != y->size) return false;
  if (x->is_link) return true;
  const Result<Mapping> p = ctx.disk.map(a), q = ctx.disk.map(b);
  return p && q && text(p->bytes) == text(q->bytes);
}

size_t occurrences(std::string_view in, std::string_view what) {
  size_t n = 0;
  for (size_t at = in.find(what); at != in.npos; at = in.find(what, at + what.size())) n++;
  return n;
}

// Where lines may be put into a Python file: after a shebang, comments, a docstring and __future__ imports.
size_t python_head(std::string_view source) {
  size_t at = 0, head = 0;
  bool in_doc = false;
  std::string_view quote;
  for (std::string_view line : lines(source)) {
    const std::string_view t = trim(line);
    at = static_cast<size_t>(line.data() - source.data()) + line.size();
    at = std::min(source.find('\n', at), source.size() - 1) + 1;
    if (in_doc) {
      if (t.ends_with(quote)) in_doc = false, head = at;
    } else if (t.starts_with("\"\"\"") || t.starts_with("'''")) {
      quote = t.substr(0, 3);
      const bool whole = t.size() >= 6 && t.ends_with(quote);
      if (whole) head = at;
      in_doc = !whole;
    } else if (t.starts_with("from __future__")) {
      head = at;
    } else if (!t.empty() && !t.starts_with("#")) {
      break;
    } else if (t.starts_with("#!") || t.starts_with("# -*-")) {
      head = at;
    }
  }
  return head;
}

std::string group_of(const std::string& message, const char* pattern) {
  std::smatch found;
  return std::regex_search(message, found, std::regex(pattern)) ? found[1].str() : "";
}

// The edit that puts `lines_` at the head of a Python file: its first statement's line, with them before it.
std::optional<Edit> prepend_edit(const std::string& source, const std::string& file, const std::string& more,
                                 const std::string& about) {
  if (source.find(trim(more)) != source.npos) return std::nullopt;
  const size_t head = python_head(source);
  // The shortest run of whole lines from there that occurs once.
  for (size_t end = head; end < source.size();) {
    end = std::min(source.find('\n', end), source.size() - 1) + 1;
    const std::string anchor = source.substr(head, end - head);
    if (!trim(anchor).empty() && occurrences(source, anchor) == 1)
      return Edit{file, anchor, std::string(trim(more)) + "\n\n" + anchor, about, 1};
  }
  return std::nullopt;
}

// The edits that a regular expression means in one file: each different match is one.
std::vector<Edit> search(const std::string& source, const std::string& file, const std::regex& find,
                         const std::string& replace, const std::string& about) {
  std::map<std::string, std::string> found;
  for (std::sregex_iterator it(source.begin(), source.end(), find), end; it != end; ++it)
    found[it->str()] = it->format(replace_all(replace, "${1}", "$01"));
  std::vector<Edit> out;
  for (const auto& [old, now] : found) {
    if (old != now) out.push_back({file, old, now, about, static_cast<int>(occurrences(source, old))});
  }
  return out;
}

}  // namespace

Result<Strings> source_files(Ctx& ctx, const std::string& folder) {
  Strings out;
  if (Result<Done> done = walk(ctx, folder, "", 0, out); !done) return done.error();
  std::sort(out.begin(), out.end());
  return out;
}

Result<std::string> source_digest(Ctx& ctx, const std::string& folder) {
  const Result<Strings> files = source_files(ctx, folder);
  if (!files) return files.error();
  std::string all;
  for (const std::string& name : *files) {
    if (name.starts_with(".git/")) continue;
    const Result<Mapping> content = ctx.disk.map(folder + "/" + name);
    all += name + " " + (content ? hex(sha256_of(content->bytes)) : "link") + "\n";
  }
  return hex(sha256_of(bytes_of(all)));
}

Result<Done> mirror(Ctx& ctx, const std::string& from, const std::string& to) {
  const Result<Strings> files = source_files(ctx, from);
  if (!files) return files.error();
  if (Result<Done> done = ctx.disk.make_dirs(to); !done) return done;
  if (const Result<std::string> before = ctx.disk.read(to + "/" + kList, kMostText * 16)) {
    const std::set<std::string_view> now(files->begin(), files->end());
    for (std::string_view name : lines(*before)) {
      if (name.empty() || now.contains(name)) continue;
      if (Result<Done> done = ctx.disk.remove(to + "/" + std::string(name)); !done) return done;
    }
  }
  if (Result<Done> done = ctx.disk.write(to + "/" + kList, join(*files, "\n") + "\n"); !done) return done;
  for (const std::string& name : *files) {
    const std::string target = to + "/" + name;
    if (same(ctx, from + "/" + name, target)) continue;
    if (Result<Done> done = ctx.disk.make_dirs(dir_name(target)); !done) return done;
    if (Result<Done> done = ctx.disk.copy(from + "/" + name, target); !done) return done;
  }
  return Done{};
}

Result<Applied> apply_edit(Ctx& ctx, const std::string& folder, const Edit& edit) {
  const std::string path = folder + "/" + edit.file;
  const Result<std::string> source = ctx.disk.read(path, kMostText);
  if (!source) return Error{"the patch's file is not in these sources: " + edit.file, source.error().message};
  Applied out{
      edit.file, hex(sha256_of(bytes_of(edit.file + "\n" + edit.find + "\n" + edit.replace))), false, edit.reason, {}};
  for (std::string_view line : lines(edit.find)) out.diff.push_back("-" + std::string(line));
  for (std::string_view line : lines(edit.replace)) out.diff.push_back("+" + std::string(line));
  const size_t inside = occurrences(edit.replace, edit.find);  // where the new text holds the old one
  const size_t done_before = edit.replace.empty() ? 0 : occurrences(*source, edit.replace);
  const size_t found =
      occurrences(*source, edit.find) - std::min(occurrences(*source, edit.find), done_before * inside);
  if (found == 0 && done_before) {
    out.already = true;
    return out;
  }
  if (found == 0 || (edit.times && static_cast<int>(found) != edit.times)) {
    return Error{"the patch of " + edit.file + " does not fit: its text is there " + count(found, "time") +
                     (edit.times ? ", not " + std::to_string(edit.times) : ", not once") + ": `" +
                     printable(edit.find.substr(0, 80)) + "`",
                 "the sources are another version than the patch was made for: correct [[patch]] in clary.toml"};
  }
  const std::string now = replace_all(*source, edit.find, edit.replace);
  // The modes of the file stay: it is copied over itself first.
  if (Result<Done> done = ctx.disk.write(path, now); !done) return done.error();
  return out;
}

Result<Applied> apply_patch(Ctx& ctx, const std::string& folder, const std::string& patch) {
  const Result<std::string> content = ctx.disk.read(patch, kMostText * 4);
  if (!content) return content.error();
  Applied out{base_name(patch), hex(sha256_of(bytes_of(*content))), false, "", {}};
  if (!ctx.proc.find("git"))
    return Error{"git is not here, and applies " + patch,
                 "install git, or write the change as a [[patch]] of clary.toml"};
  // No repository, not even the one that the sources are part of: paths count from `folder`, and none may leave it.
  const auto git = [&](const Strings& options) {
    Strings argv = {"git", "apply"};
    argv.insert(argv.end(), options.begin(), options.end());
    argv.push_back(patch);
    return ctx.proc.run({.argv = argv, .seconds = 120, .folder = folder, .env = {{"GIT_DIR", "/nonexistent"}}});
  };
  const Result<Finished> fits = git({"--check"});
  if (!fits) return fits.error();
  if (fits->exit_code != 0) {
    const Result<Finished> reversed = git({"--check", "--reverse"});
    if (reversed && reversed->exit_code == 0) {
      out.already = true;
      return out;
    }
    return Error{"the patch does not fit: " + patch, std::string(trim(fits->err.substr(0, fits->err.find('\n'))))};
  }
  const Result<Finished> done = git({});
  if (!done) return done.error();
  if (done->exit_code != 0) return Error{"git cannot apply " + patch, std::string(trim(done->err))};
  return out;
}

Result<Fix> find_fix(Ctx& ctx, const std::string& folder, const std::string& code, const std::string& message) {
  static const Result<Json> table = parse_toml(embedded("wheel/data/fixes.toml"), "fixes.toml");
  Fix out;
  out.code = code;
  if (!table) return table.error();
  const std::string arch = group_of(message, "(?:compute|sm)_([0-9]+[af]?)");
  const std::string module = group_of(message, "No module named '([A-Za-z0-9_]+)");
  Strings files;
  for (const Json& row : list_of(*table, "fix")) {
    if (text_of(row, "code") != code) continue;
    out.about = text_of(row, "about");
    for (const std::string& package : strings_of(row, "require")) {
      if (!module.empty()) out.require.push_back(replace_all(package, "{module}", module));
    }
    if (row.contains("env")) {
      for (const auto& [name, value] : row["env"].items()) out.env[name] = value.get<std::string>();
    }
    out.fewer_jobs = out.fewer_jobs || bool_of(row, "fewer-jobs");
    const Strings wanted = strings_of(row, "file");
    if (wanted.empty()) continue;
    if (files.empty()) {
      Result<Strings> all = source_files(ctx, folder);
      if (!all) return all.error();
      files = *std::move(all);
    }
    for (const std::string& file : files) {
      const bool chosen =
          std::any_of(wanted.begin(), wanted.end(), [&](const std::string& w) { return matches(w, base_name(file)); });
      const bool seen = std::any_of(out.edits.begin(), out.edits.end(), [&](const Edit& e) { return e.file == file; });
      const Result<std::string> source = chosen && !seen && !file.starts_with(".git/")
                                             ? ctx.disk.read(folder + "/" + file, kMostText)
                                             : Result<std::string>(Error{});
      if (!source) continue;
      if (const std::string more = text_of(row, "prepend"); !more.empty()) {
        if (std::optional<Edit> edit = prepend_edit(*source, file, more, out.about)) out.edits.push_back(*edit);
        continue;
      }
      const std::string pattern = text_of(row, "find");
      if (pattern.find("{arch}") != pattern.npos && arch.empty()) continue;
      const std::regex find(replace_all(pattern, "{arch}", arch));
      for (Edit& edit : search(*source, file, find, text_of(row, "replace"), out.about))
        out.edits.push_back(std::move(edit));
    }
  }
  return out;
}

std::string fix_toml(const Fix& fix) {
  std::string out;
  for (const Edit& e : fix.edits) {
    out += "[[patch]]\nfile = " + yaml(e.file) + "\nfind = " + yaml(e.find) + "\nreplace = " + yaml(e.replace) +
           "\ntimes = " + std::to_string(e.times) + "\nreason = " + yaml(fix.about) + "\n";
  }
  Strings env, require;
  for (const auto& [name, value] : fix.env) env.push_back(name + " = " + yaml(value));
  for (const std::string& package : fix.require) require.push_back(yaml(package));
  if (!env.empty()) out += "# in [build]: env = { " + join(env, ", ") + " }\n";
  if (!require.empty()) out += "# in [build]: requires = [" + join(require, ", ") + "]\n";
  return out;
}

}  // namespace clary::tool
