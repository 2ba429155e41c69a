"""Dependency, symbol and instruction-set rules, read from what was built.

    check_objects.py BUILD_DIR [--glibc 2.28]

The idea: baseline code that holds one AVX instruction crashes on an old machine, and the usual way in is an inline
function that the linker merges from a translation unit compiled with wider -m flags. So every target_*.o may define
exactly one global symbol and no weak one, and every object is disassembled. Needs readelf and objdump. Exit 1 on a
finding.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "libstdc++.so.6", "libgcc_s.so.1"}
LIBRARIES |= {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
SIZE_LIMIT = 3 << 20  # bytes of libclary.so but its GPU images, which tools/build_images.py limits
IMAGES = "engine/cuda/images.bin"

# The library never prints, aborts or exits.
FORBIDDEN = {"abort", "exit", "_exit", "_Exit", "quick_exit", "__assert_fail", "__assert"}
FORBIDDEN |= {"printf", "vprintf", "puts", "putchar", "fprintf", "vfprintf", "fputs", "fputc", "fwrite", "perror"}
FORBIDDEN |= {f"__{name}_chk" for name in ("printf", "vprintf", "fprintf", "vfprintf")}

# A pointer to the exception personality, identical in every object that has one.
WEAK_ALLOWED = {"DW.ref.__gxx_personality_v0"}

# What an object may not contain, as a pattern over objdump's AT&T text. Everything not named here is baseline code.
EVEX = r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b"
BASELINE = EVEX + r"|%ymm|\tv[a-z0-9]+ .*%[xy]mm|%tmm"
TOO_WIDE = {"avx2": EVEX + r"|%tmm", "avxvnni": EVEX + r"|%tmm"}
TOO_WIDE |= {name: r"%tmm" for name in ("avx512", "avx512vnni", "avx512vbmi", "avx512bf16")}
TOO_WIDE |= {"amx": r"(?!)"}


def tool(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def symbols(file: Path, dynamic: bool = False) -> Iterator[tuple[str, str, str]]:
    """(name, binding, section index) of each named symbol; the index is UND for one used but not defined here."""
    for line in tool("readelf", "--wide", "--dyn-syms" if dynamic else "--syms", file).splitlines():
        words = line.split()
        if len(words) >= 8 and words[0].rstrip(":").isdigit() and words[3] not in ("FILE", "SECTION"):
            yield words[7].split("@")[0], words[4], words[6]


def machine(file: Path) -> str:
    return re.findall(r"Machine: +(.+)", tool("readelf", "-h", file))[0]


def check_library(library: Path, glibc: str | None) -> Iterator[str]:
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", tool("readelf", "--wide", "-d", library)))
    for name in sorted(needed - LIBRARIES):
        yield f"{library}: needs {name}; allowed: {' '.join(sorted(LIBRARIES))}"

    header = (ROOT / "include/clary/clary.h").read_text()
    declared = set(re.findall(r"^CLARY_API\s[^;]*?\b(clary_\w+)\(", header, re.MULTILINE))
    exported = {name for name, _, index in symbols(library, dynamic=True) if index != "UND"}
    for name in sorted(declared - exported):
        yield f"{library}: does not export {name}, which clary.h declares"
    for name in sorted(exported - declared):
        yield f"{library}: exports {name}, which clary.h does not declare"

    images = library.parent / IMAGES
    size = library.stat().st_size - (images.stat().st_size if images.exists() else 0)
    if size >= SIZE_LIMIT:
        yield f"{library}: {size} bytes without the GPU images, limit {SIZE_LIMIT}"

    if glibc:
        floor = tuple(map(int, glibc.split(".")))
        versions = set(re.findall(r"Name: GLIBC_([\d.]+)", tool("readelf", "--wide", "-V", library)))
        for version in sorted(versions):
            if tuple(map(int, version.split("."))) > floor:
                yield f"{library}: needs GLIBC_{version}, above the floor {glibc}"


def check_object(file: Path, name: str) -> Iterator[str]:
    """`name` is the CPU target the object is compiled for, "" for the rest of the engine."""
    table = list(symbols(file))
    for symbol in sorted({name for name, _, index in table if index == "UND"} & FORBIDDEN):
        yield f"{file}: uses {symbol}; the library never prints, aborts or exits"

    if name:
        defined = [(symbol, binding) for symbol, binding, index in table if index != "UND" and binding != "LOCAL"]
        strong = [symbol for symbol, binding in defined if binding == "GLOBAL"]
        if len(strong) != 1:
            yield f"{file}: defines {len(strong)} global symbols, not 1: {' '.join(strong)}"
        for symbol in {symbol for symbol, binding in defined if binding != "GLOBAL"} - WEAK_ALLOWED:
            yield f"{file}: weak symbol {symbol} may replace baseline code at link; make it internal"

    if machine(file).endswith("X86-64"):
        pattern = re.compile(TOO_WIDE.get(name, BASELINE))
        function, reported = "?", set()
        for line in tool("objdump", "-d", "--no-show-raw-insn", file).splitlines():
            if line.endswith(">:"):
                function = line.split("<", 1)[1][:-2]
            elif function not in reported and pattern.search(line):
                reported.add(function)
                instruction = " ".join(line.split(":", 1)[1].split())
                yield f"{file}: {function} has {instruction}, beyond {name or 'the baseline'}"


def engine_objects(build: Path) -> list[Path]:
    """Objects that go into libclary.so: <library>.dir/engine/...o, not those of tests, benches and the oracle."""
    found = (file for at in ("", "engine/**/") for file in build.glob(at + "CMakeFiles/clary_*.dir/**/*.o"))
    return sorted(file for file in found if "clary_reference.dir" not in file.parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--glibc", help="newest glibc version the library may need")
    args = parser.parse_args()

    objects = engine_objects(args.build)
    library = args.build / "libclary.so"
    findings = list(check_library(library, args.glibc))
    for file in objects:
        match = re.fullmatch(r"target_(\w+)\.cc\.o", file.name)
        findings += check_object(file, match[1] if match else "")
    if not any(file.name.startswith("target_") for file in objects):
        findings.append(f"{args.build}: no target_*.o, nothing was checked")

    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{library}: {library.stat().st_size} bytes, {len(objects)} objects, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
