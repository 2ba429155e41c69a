"""Runs the libFuzzer program (CMakeLists.txt says how it is built) until each target has had its CPU-seconds, and prints a table.

    python3 tests/wheel/fuzz/run.py build/fuzz/tests/wheel/fuzz --seconds 600 --corpus build/fuzz/corpus [TARGET...]

CPU-seconds, not those of the clock: a run on a busy machine counts what it got. Each target runs in slices; CORPUS/TARGET is where libFuzzer
keeps what it finds, CORPUS/TARGET.json the sum, so a run that was stopped goes on. Stops at the first finding, which CORPUS/TARGET.finding-*
then holds. A finding is a crash, a sanitizer's report, an input of over 20 s, 1 GB of memory, or a broken promise of targets.cc.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = ["zip", "wheel", "elf", "fatbin", "pe", "version", "requirement", "tag", "manifest", "log"]
FIGURES = ["seconds", "runs", "edges", "inputs", "rss_mb"]
SLICE = 150  # seconds of the clock
LIMITS = ["-max_len=65536", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1"]


def slice_of(folder: Path, target: str, corpus: Path) -> tuple[int, float, str]:
    """One slice: its exit status, CPU-seconds and log."""
    kept = HERE / "corpus" / target
    command = [str(folder / "clary_tool_libfuzzer"), *LIMITS, f"-max_total_time={SLICE}"]
    command += [
        f"-artifact_prefix={corpus / target}.finding-",
        str(corpus / target),
        *([str(kept)] if kept.is_dir() else []),
    ]
    log = corpus / f"{target}.log"
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"CLARY_FUZZ_TARGET": target})
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_utime + usage.ru_stime, log.read_text(errors="replace")


def number(log: str, pattern: str) -> int:
    found = re.findall(pattern, log)
    return int(found[-1]) if found else 0


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folder", type=Path, help="of clary_tool_libfuzzer and clary_tool_fuzz")
    ask.add_argument("targets", nargs="*", default=TARGETS)
    ask.add_argument("--seconds", type=float, default=600)
    ask.add_argument("--corpus", type=Path, required=True)
    args = ask.parse_intermixed_args()
    for target in args.targets:
        book = args.corpus / f"{target}.json"
        if not (args.corpus / target).is_dir():
            subprocess.run([args.folder / "clary_tool_fuzz", target, "--seeds", args.corpus / target], check=True)
        while True:
            row = json.loads(book.read_text()) if book.exists() else dict.fromkeys(FIGURES, 0)
            if row["seconds"] >= args.seconds:
                break
            status, seconds, log = slice_of(args.folder, target, args.corpus)
            if status:
                print(
                    log[-4000:], f"{target}: a finding, see {args.corpus / target}.finding-*", sep="\n", file=sys.stderr
                )
                return 1
            row["seconds"] = round(row["seconds"] + seconds, 1)
            row["runs"] += number(log, r"stat::number_of_executed_units:\s*(\d+)")
            row["edges"] = max(row["edges"], number(log, r"cov: (\d+)"))
            row["inputs"] = len(list((args.corpus / target).iterdir()))
            row["rss_mb"] = max(row["rss_mb"], number(log, r"stat::peak_rss_mb:\s*(\d+)"))
            book.write_text(json.dumps(row) + "\n")
    print("| target | CPU-seconds | inputs run | edges | corpus | peak MB |", "|---|---|---|---|---|---|", sep="\n")
    for target in args.targets:
        row = json.loads((args.corpus / f"{target}.json").read_text())
        print(
            f"| {target} | {row['seconds']:.0f} | {row['runs']:,} | {row['edges']} | {row['inputs']} | {row['rss_mb']} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
