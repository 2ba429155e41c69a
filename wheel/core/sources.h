// A working copy of a source tree: taken over without touching the original, patched with proof, repaired where a fix is known.
#pragma once
#include <string>
#include <vector>

#include "wheel/core/recipe.h"
#include "wheel/ctx.h"

namespace clary::tool {

// One change that was made, or was there already.
struct Applied {
  std::string name;    // of the patch, or of the file
  std::string digest;  // SHA-256 of what was applied
  bool already = false;
  std::string reason;
  Strings diff;  // "-old line", "+new line"; of edits
};

// Files below `folder`, relative and sorted; what builds leave behind and environments are left out.
Result<Strings> source_files(Ctx& ctx, const std::string& folder);
// SHA-256 over names and contents: the same sources, the same digest.
Result<std::string> source_digest(Ctx& ctx, const std::string& folder);
// Makes `to` hold the files of `from`: only what differs is written, so that a build goes on where it stopped; what else the
// build made there stays. Files that are gone from `from` since the last time go.
Result<Done> mirror(Ctx& ctx, const std::string& from, const std::string& to);

// Both refuse, before anything is written, what does not fit exactly.
Result<Applied> apply_edit(Ctx& ctx, const std::string& folder, const Edit& edit);
Result<Applied> apply_patch(Ctx& ctx, const std::string& folder, const std::string& patch);  // a unified diff's path

// A repair for a known error (wheel/data/fixes.toml).
struct Fix {
  std::string code;                        // the error's, of docs/cli/errors.md
  std::string about;                       // what it does
  std::vector<Edit> edits;                 // of these sources, found by searching them
  std::map<std::string, std::string> env;  // for the build
  Strings require;                         // packages for its environment
  bool fewer_jobs = false;
  bool empty() const { return edits.empty() && env.empty() && require.empty() && !fewer_jobs; }
};
// What is known to repair `code` in these sources; `message` is the error's line.
Result<Fix> find_fix(Ctx& ctx, const std::string& folder, const std::string& code, const std::string& message);
// As lines of clary.toml, for keeping.
std::string fix_toml(const Fix& fix);

}  // namespace clary::tool
