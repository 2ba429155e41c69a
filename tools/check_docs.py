"""Whether what the docs name exists: paths, links and symbols in README.md, HACKING.md and docs/**/*.md.

Four rules over the prose (fenced code is skipped):
  - a relative link or image resolves, and its #anchor is a heading of the file it names;
  - a back-quoted token whose first part is a top-level folder is a path that exists; `engine/plan.{h,cc}`,
    `tests/*_test.cc` and `engine/cpu/target_<name>.cc` work as patterns;
  - a back-quoted clary_* name is in include/clary/clary.h or in the CMake files;
  - a back-quoted test, `Suite.Case` or `test_file.py::test_case`, is one (in docs/wheel-rows.md and docs/seeds.md, whose tables
    name what proves each row).
Exit 1 on a finding.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROVING = {"wheel-rows.md", "seeds.md"}
GENERATED = {"build", "dist", ".venv"}  # commands make these: docs may name what is inside


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """(line number, line) outside fenced code."""
    fenced = False
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            yield number, line


def braces(path: str) -> Iterator[str]:
    """plan.{h,cc} -> plan.h, plan.cc"""
    match = re.search(r"\{([^{}]*)\}", path)
    if not match:
        yield path
        return
    for choice in match[1].split(","):
        yield from braces(path[: match.start()] + choice.strip() + path[match.end() :])


def exists(path: str) -> bool:
    pattern = re.sub(r"<[^>]*>", "*", path).rstrip("/")
    return any(ROOT.glob(pattern)) if "*" in pattern else (ROOT / pattern).exists()


def anchors(file: Path) -> set[str]:
    """Heading ids, as GitHub makes them."""
    headings = [line.lstrip("#").strip().lower() for _, line in prose(file) if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def check_link(file: Path, target: str) -> str | None:
    path, _, anchor = target.partition("#")
    if re.match(r"[a-z]+:", target):
        return None
    there = (file.parent / path).resolve() if path else file
    if not there.exists():
        return f"link to {target}, which does not exist"
    if anchor and there.suffix == ".md" and anchor not in anchors(there):
        return f"link to {target}: {there.name} has no such heading"
    return None


def test_names() -> set[str]:
    """Suite.Case of GoogleTest, file.py::case of pytest."""
    names = set()
    for file in (ROOT / "tests").rglob("*_test.cc"):
        cases = re.findall(r"^TEST(?:_[FP])?\(\s*(\w+),\s*(\w+)\)", file.read_text(encoding="utf-8"), re.MULTILINE)
        names |= {f"{suite}.{case}" for suite, case in cases}
    for file in (ROOT / "tests").rglob("test_*.py"):
        cases = re.findall(r"^\s*def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        names |= {f"{file.name}::{case}" for case in cases}
    return names


def check_test(token: str, tests: set[str]) -> Iterator[str]:
    if re.fullmatch(r"[A-Z]\w+\.[A-Z]\w+|test_\w+\.py::\w+", token) and token not in tests:
        yield f"`{token}` is no test"


def check_token(token: str, folders: set[str], symbols: str) -> Iterator[str]:
    path = re.split(r":|#", token)[0]
    if "/" in path and path.split("/")[0] in folders and "..." not in path:
        yield from (f"`{token}`: {one} does not exist" for one in braces(path) if not exists(one))
    symbol = re.fullmatch(r"(clary_\w+)(\(.*\))?", token)
    if symbol and not re.search(rf"\b{symbol[1]}\b", symbols):
        yield f"`{token}` is neither in clary.h nor in the CMake files"


def main() -> int:
    files = [ROOT / "README.md", ROOT / "HACKING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    folders = {entry.name for entry in ROOT.iterdir() if entry.is_dir()} - GENERATED
    sources = [ROOT / "include/clary/clary.h", ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*.cmake")]
    symbols = "\n".join(source.read_text(encoding="utf-8") for source in sources)

    tests = test_names()

    findings = []
    for file in files:
        if not file.exists():
            findings.append(f"{file.relative_to(ROOT)}: does not exist")
            continue
        for number, line in prose(file):
            text = re.sub(r"`[^`]*`", "", line)
            links = re.findall(r"\]\(<?([^)>\s]+)", text) + re.findall(r"<\w+[^>]*\b(?:src|href)=\"([^\"]+)\"", text)
            found = [check_link(file, target) for target in links]
            for token in re.findall(r"`([^`]+)`", line):
                found += check_token(token, folders, symbols) if " " not in token else []
                found += check_test(token, tests) if file.name in PROVING else []
            findings += [f"{file.relative_to(ROOT)}:{number}: {what}" for what in found if what]

    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"docs: {len(files)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
