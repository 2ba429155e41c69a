// clary_tool_fuzz TARGET [--runs N] [--seconds S] [--seed N] [--keep FILE] [FILE...]
// clary_tool_fuzz TARGET --seeds FOLDER: writes the target's seeds there, for libFuzzer to begin with
//
// Runs the files (of folders: all of them, sorted), then mutations of them and of the target's seeds. Any compiler, no
// instrumentation needed; an input that crashes, hangs for 20 s or takes 1 GB is written to FILE (./finding otherwise).
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "targets.h"
#include "wheel/core/text.h"

namespace clary::tool::fuzz {
namespace {

constexpr int kMostSeconds = 20;
constexpr long kMostGrowth = 1 << 20;  // kB of memory over what the seeds took
constexpr size_t kMostBytes = 64 << 10;

std::string current;
std::string keep = "finding";

void on_death(int signal) {
  const int file = open(keep.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const bool kept = file >= 0 && write(file, current.data(), current.size()) == static_cast<ssize_t>(current.size());
  std::fprintf(stderr, "signal %d; the input is %s %s\n", signal, kept ? "in" : "lost, cannot write", keep.c_str());
  _exit(1);
}

long memory_kb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

class Mutator {
 public:
  Mutator(uint64_t seed, bool text) : random_(seed), text_(text) {}

  std::string make(const std::vector<std::string>& corpus) {
    std::string out = corpus[below(corpus.size())];
    for (size_t n = 1 + below(6); n > 0; n--) change(out, corpus);
    if (out.size() > kMostBytes) out.resize(kMostBytes);
    return out;
  }

 private:
  size_t below(size_t n) { return n ? random_() % n : 0; }

  void change(std::string& s, const std::vector<std::string>& corpus) {
    const size_t at = below(s.size() + 1), length = 1 + below(std::min<size_t>(s.size() - at, below(8) ? 16 : 4096));
    switch (below(8)) {
      case 0:
        return void(s.erase(at, length));
      case 1:
        return void(s.insert(at, s.substr(below(s.size() + 1), length)));  // a piece again
      case 2: {
        const std::string& other = corpus[below(corpus.size())];
        return void(s.replace(at, length, other, below(other.size() + 1), 1 + below(256)));
      }
      case 3:
        return void(s.insert(at, text_ ? std::string(kWords[below(std::size(kWords))]) : std::string(length, '\0')));
      case 4:
        if (at < s.size()) s[at] = static_cast<char>(random_());
        return;
      case 5:
        if (at < s.size()) s[at] = static_cast<char>(s[at] ^ 1 << below(8));
        return;
      default: {  // an integer at its limits, of 1 to 8 bytes
        static constexpr uint64_t kValues[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, ~0ull};
        uint64_t value = below(2) ? kValues[below(std::size(kValues))] : below(s.size() + 8);
        for (size_t i = 0, n = size_t{1} << below(4); i < n && at + i < s.size(); i++, value >>= 8)
          s[at + i] = static_cast<char>(value);
      }
    }
  }

  static constexpr std::string_view kWords[] = {"\"",
                                                "'",
                                                "[",
                                                "]",
                                                "{",
                                                "}",
                                                "(",
                                                ")",
                                                ",",
                                                ";",
                                                "-",
                                                "_",
                                                ".",
                                                "*",
                                                "+",
                                                "!",
                                                "==",
                                                "===",
                                                "~=",
                                                " and ",
                                                " or ",
                                                " not in ",
                                                "999999999999",
                                                "\xff",
                                                "\xe2\x80\xae",
                                                "rc1",
                                                ".dev0",
                                                ".whl",
                                                "any",
                                                "\n",
                                                "\r\n",
                                                "a"};
  std::mt19937_64 random_;
  bool text_;
};

void see(const Target& target, const std::string& input) {
  current = input;
  alarm(kMostSeconds);
  target.run(bytes_of(current));
}

std::vector<std::string> read_all(const Strings& paths) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : paths) {
    if (std::filesystem::is_directory(path))
      for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
    else
      files.emplace_back(path);
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> out;
  for (const std::filesystem::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    out.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return out;
}

int run(const Strings& args) {
  uint64_t runs = UINT64_MAX, seed = 1;
  double seconds = 1e9;
  Strings paths;
  std::string seed_folder;
  const Target* target = args.empty() ? nullptr : find_target(args[0]);
  for (size_t i = 1; i < args.size(); i++) {
    const bool option = args[i].starts_with("--") && i + 1 < args.size();
    if (option && args[i] == "--runs")
      runs = std::strtoull(args[++i].c_str(), nullptr, 10);
    else if (option && args[i] == "--seconds")
      seconds = std::strtod(args[++i].c_str(), nullptr);
    else if (option && args[i] == "--seed")
      seed = std::strtoull(args[++i].c_str(), nullptr, 10);
    else if (option && args[i] == "--keep")
      keep = args[++i];
    else if (option && args[i] == "--seeds")
      seed_folder = args[++i];
    else
      paths.push_back(args[i]);
  }
  if (!target) {
    std::fprintf(stderr, "usage: clary_tool_fuzz TARGET [--runs N] [--seconds S] [--seed N] [--keep FILE] [FILE...]\n");
    for (const Target& t : targets()) std::fprintf(stderr, "  %s\n", t.name);
    return 2;
  }
  if (!seed_folder.empty()) {
    std::filesystem::create_directories(seed_folder);
    int n = 0;
    for (const std::string& content : target->seeds())
      std::ofstream(seed_folder + "/seed-" + std::to_string(n++), std::ios::binary) << content;
    return 0;
  }
  for (int signal : {SIGABRT, SIGALRM, SIGFPE, SIGILL}) std::signal(signal, on_death);
#ifndef __SANITIZE_ADDRESS__
  std::signal(SIGSEGV, on_death), std::signal(SIGBUS, on_death);
#endif

  std::vector<std::string> corpus = read_all(paths);
  const size_t files = corpus.size();
  for (std::string& s : target->seeds()) corpus.push_back(std::move(s));
  for (const std::string& input : corpus) see(*target, input);
  const long most = memory_kb() + kMostGrowth;

  Mutator mutator(seed, target->text);
  const auto begin = std::chrono::steady_clock::now();
  const auto spent = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  uint64_t done = 0;
  for (; done < runs && (done % 64 || spent() < seconds); done++) {
    see(*target, mutator.make(corpus));
    if (memory_kb() > most) {
      std::fprintf(stderr, "memory: %ld kB\n", memory_kb());
      std::abort();
    }
  }
  alarm(0);
  std::printf("%s: %zu files, %llu mutations, %.1f s, %ld MB at most\n", target->name, files,
              static_cast<unsigned long long>(done), spent(), memory_kb() >> 10);
  return 0;
}

}  // namespace
}  // namespace clary::tool::fuzz

int main(int argc, char** argv) { return clary::tool::fuzz::run(clary::tool::Strings(argv + 1, argv + argc)); }
