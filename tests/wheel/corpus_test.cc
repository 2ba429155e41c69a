// Every broken wheel in the hands of every verb that takes wheels: refused by its own rule, and nothing is written.
#include <algorithm>
#include <chrono>

#include "broken.h"
#include "wheel/core/json.h"

namespace clary::tool::test {
namespace {

MemoryWorld& with(MemoryWorld& world, const Broken& c) {
  world.disk.files["w/" + c.file_name] = c.bytes;
  world.disk.files["policy.toml"] = c.policy;
  for (const auto& [path, content] : c.disk) world.disk.files[path] = content;
  return world;
}

// The findings of `clary verify --json`.
Json verify(const Broken& c, int* code) {
  MemoryWorld world;
  Strings args = {"verify", "--json", "--strict", "w/" + c.file_name};
  if (!c.policy.empty()) args.insert(args.end(), {"--policy", "policy.toml"});
  if (!c.disk.empty()) args.insert(args.end(), {"--torch", "torch"});
  *code = run_clary(with(world, c).ctx, args);
  EXPECT_TRUE(world.disk.written.empty()) << c.rule;
  const Result<Json> said = parse_json(world.out.text, "verify");
  EXPECT_TRUE(said) << c.rule << ": " << world.err.text;
  return said ? (*said)["files"][0]["findings"] : Json::array();
}

TEST(Corpus, VerifyRefusesEachByItsOwnRule) {
  size_t rows = 0;
  for (const Broken& c : broken_wheels()) {
    SCOPED_TRACE(std::string(c.rule) + ", row " + std::to_string(rows++));
    int code = -1;
    const Json findings = verify(c, &code);
    const auto own = std::find_if(findings.begin(), findings.end(), [&](const Json& f) { return f["rule"] == c.rule; });
    ASSERT_NE(own, findings.end()) << findings.dump(1);
    const bool only_notes =
        std::all_of(findings.begin(), findings.end(), [](const Json& f) { return f["severity"] == "note"; });
    EXPECT_EQ(code, only_notes ? kFine : kFinding);
    EXPECT_TRUE(is_utf8((*own)["text"].get<std::string>()));
  }
  EXPECT_GE(rows, 100u);
}

// What verify calls an error of name, RECORD or archive, no verb serves, installs or changes.
TEST(Corpus, NoVerbWritesAnythingOfABrokenArchive) {
  size_t refused = 0;
  for (const Broken& c : broken_wheels()) {
    const std::string_view rule = c.rule;
    if (!rule.starts_with("W1.") && !rule.starts_with("W2.") && !rule.starts_with("W3.")) continue;
    if (find_rule(rule)->severity != Severity::kError) continue;
    for (const Strings& args :
         {Strings{"index", "w", "--out", "site"}, Strings{"publish", "w/" + c.file_name, "--to", "site"}}) {
      SCOPED_TRACE(std::string(c.rule) + ": clary " + join(args, " "));
      MemoryWorld world;
      EXPECT_EQ(run_clary(with(world, c).ctx, args), kFinding) << world.out.text << world.err.text;
      EXPECT_TRUE(world.disk.written.empty()) << *world.disk.written.begin();
      EXPECT_TRUE(world.proc.ran.empty() && world.net.requests.empty());
      const bool named = world.err.text.find(rule.substr(0, 3)) != std::string::npos;
      EXPECT_TRUE(named || args[0] == "publish") << world.err.text;
      refused++;
    }
  }
  EXPECT_GE(refused, 40u);
}

// A hostile file is no slower than its size: what cost minutes or gigabytes before it was bounded.
TEST(Corpus, CostIsBoundedBySize) {
  using Clock = std::chrono::steady_clock;
  for (const Broken& c : broken_wheels()) {
    const auto begin = Clock::now();
    int code = -1;
    verify(c, &code);
    EXPECT_LT(std::chrono::duration<double>(Clock::now() - begin).count(), 10.0) << c.rule;
  }
}

}  // namespace
}  // namespace clary::tool::test
