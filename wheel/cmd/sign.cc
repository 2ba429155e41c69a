// clary sign: keys and signatures that minisign understands, and whose manifests are believed here.
#include "wheel/cmd/cmd.h"
#include "wheel/cmd/keys.h"
#include "wheel/core/json.h"
#include "wheel/core/places.h"
#include "wheel/core/trust.h"

namespace clary::tool {
namespace {

struct SignRun {
  Ctx& ctx;
  Cli& cli;
  Json done = Json::array();

  int end() {
    if (cli.json()) ctx.out.write(dump({{"schema", "clary-sign/1"}, {"dry_run", cli.dry_run()}, {"done", done}}));
    return kFine;
  }
  Result<Done> write(const std::string& path, const std::string& text, bool secret) {
    done.push_back({{"wrote", path}});
    ctx.err.write((cli.dry_run() ? "would write " : "wrote ") + path + "\n");
    if (cli.dry_run()) return Done{};
    return secret ? ctx.disk.write_secret(path, text) : ctx.disk.write(path, text);
  }
};

int new_key(SignRun& run, const std::string& name) {
  Ctx& ctx = run.ctx;
  const SecretKey key = SecretKey::make();
  const std::string password = ctx.proc.env("CLARY_KEY_PASSWORD").value_or("");
  for (const char* end : {".key", ".pub"}) {
    if (ctx.disk.info(name + end))
      return fail(ctx, {"already there: " + name + end, "choose another name: a key is not overwritten"}, kFinding);
  }
  if (Result<Done> done = run.write(name + ".key", key.file(password), true); !done) return fail(ctx, done.error());
  if (Result<Done> done = run.write(name + ".pub", key.public_key().file(), false); !done)
    return fail(ctx, done.error());
  if (!run.cli.json()) ctx.out.write(key.public_key().str() + "\n");
  if (password.empty())
    ctx.err.write("the secret key is not encrypted: whoever reads " + name +
                  ".key can sign; CLARY_KEY_PASSWORD encrypts it\n");
  return run.end();
}

int check(SignRun& run, const Strings& files, const std::string& key_text) {
  Ctx& ctx = run.ctx;
  const Result<PublicKey> key = public_key(ctx, key_text);
  if (!key) return fail(ctx, key.error());
  int code = kFine;
  for (const std::string& file : files) {
    const Result<Mapping> content = ctx.disk.map(file);
    const Result<std::string> text = ctx.disk.read(file + ".minisig", 20'000);
    if (!content || !text) {
      code = fail(ctx, content ? text.error() : content.error(), kFinding);
      continue;
    }
    const Result<Signature> signature = Signature::parse(*text);
    const bool good = signature && signature->covers(tool::text(content->bytes), *key);
    run.done.push_back({{"file", file}, {"good", good}, {"comment", good ? signature->trusted : ""}});
    if (!good)
      code =
          fail(ctx, {"wrong signature: " + file + " is not signed by " + key->name(), "clary explain signature-wrong"},
               kFinding);
    else if (!run.cli.json())
      ctx.out.write(file + ": signed by " + key->name() + ": " + printable(signature->trusted) + "\n");
  }
  run.end();
  return code;
}

}  // namespace

int cmd_sign(Ctx& ctx, Cli& cli) {
  Strings files;
  std::string key_path, name, trusted, forgotten, check_key;
  cli.files("FILE", files, false);
  cli.value("--key", "FILE", key_path);
  cli.value("--new-key", "NAME", name);
  cli.value("--check", "KEY", check_key);
  cli.value("--trust", "KEY", trusted);
  cli.value("--forget", "SOURCE", forgotten);
  if (!cli.parse()) return cli.exit_code();
  SignRun run{ctx, cli};
  if (!name.empty()) return new_key(run, name);
  if (!check_key.empty() && !files.empty()) return check(run, files, check_key);
  if (!trusted.empty()) {
    const Result<PublicKey> key = public_key(ctx, trusted);
    if (!key) return fail(ctx, key.error());
    const std::string dir = config_dir(ctx) + "/keys";
    Result<Done> done = cli.dry_run() ? Result<Done>(Done{}) : ctx.disk.make_dirs(dir);
    if (done) done = run.write(dir + "/" + key->name() + ".pub", key->file(), false);
    return done ? run.end() : fail(ctx, done.error());
  }
  if (!forgotten.empty()) {
    Result<Trust> trust = Trust::open(ctx, "");
    if (!trust) return fail(ctx, trust.error());
    const Result<bool> done = cli.dry_run() ? Result<bool>(true) : trust->forget(forgotten);
    if (!done) return fail(ctx, done.error());
    if (!*done) return fail(ctx, {"nothing is remembered of " + forgotten, ""}, kFinding);
    ctx.err.write((cli.dry_run() ? "would forget " : "forgot ") + forgotten +
                  ": its next manifest is believed as the first one\n");
    return run.end();
  }
  if (files.empty()) return fail(ctx, {"missing argument: FILE", "clary sign --help"});
  const Result<std::optional<SecretKey>> key = secret_key(ctx, key_path);
  if (!key) return fail(ctx, key.error());
  if (!*key)
    return fail(ctx,
                {"missing option: --key", "--key FILE, or export CLARY_KEY=FILE; clary sign --new-key NAME makes one"});
  // From here on files are signed, each by itself.

  for (const std::string& file : files) {
    const Result<Mapping> content = ctx.disk.map(file);
    if (!content) return fail(ctx, content.error(), kFinding);
    const std::string comment =
        "timestamp:" + std::to_string(ctx.clock.now()) + "\tfile:" + base_name(file) + "\thashed";
    if (comment.find_first_of("\r\n") != comment.npos)
      return fail(ctx, {"a line end in a file's name: " + printable(file), ""});
    if (Result<Done> done = run.write(file + ".minisig", (*key)->sign(text(content->bytes), comment), false); !done)
      return fail(ctx, done.error());
  }
  return run.end();
}

}  // namespace clary::tool
