"""Checks the machine code of the Hopper kernels: what ptxas says nothing about.

    check_sass.py NVDISASM [--source hopper/attention.cu] [--target sm_90a]

The loop over tiles that all rows see must be products of Q K^T, a wait, exponentials, products of P V, a wait, in at most LIMIT instructions
and without local memory: ptxas moves waits together when registers run short, and says nothing. Its opcodes must be in the order that was
timed on a card. No role may use a register beyond what setmaxnreg left it. Exit 1 when something is found.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile

import build_images

# By head_dim, of the loop over tiles that all rows see, re-framing included: instructions at most, and the order of its opcodes as it was timed.
# ptxas shuffles it with whatever else is in the kernel, for 5 % and more: after a change, time it beside the old one, then write down the new.
LIMIT = {64: 450, 128: 520, 256: 725}
TIMED = {64: "a1bc2e39cfc4", 128: "08d0b9384b90", 256: "2e4e77f375f0"}


def functions(cubin: bytes, nvdisasm: str) -> dict[str, list[str]]:
    """Instructions of every kernel; "label:" where one is."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([nvdisasm, "-c", file.name], check=True, capture_output=True, text=True).stdout
    found = {}
    for part in re.split(r"\n\s*\.section\s+\.text\.", text)[1:]:
        lines = []
        for line in part.splitlines():
            if label := re.match(r"\s*(\.L\w+):", line):
                lines.append(f"{label[1]}:")
            elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
                lines.append(instruction[1])
        found[part.split(",")[0].strip()] = lines
    return found


def tile_loop(lines: list[str]) -> list[str]:
    """The smallest loop with matrix products and exponentials; empty: there is none."""
    at = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    best: list[str] = []
    for i, line in enumerate(lines):
        if branch := re.search(r"\bBRA\b.*`\((\.L\w+)\)", line):
            body = lines[at.get(branch[1], i) : i + 1]
            if all(any(word in x for x in body) for word in ("GMMA", "MUFU.EX2")) and (
                not best or len(body) < len(best)
            ):
                best = body
    return best


def order(body: list[str]) -> str:
    """The loop's shape, one letter each: g a matrix product, w a wait for them, e exponentials."""
    text = ""
    for line in body:
        letter = "g" if "GMMA" in line else "w" if "WARPGROUP.DEPBAR" in line else "e" if "MUFU.EX2" in line else ""
        text += letter if not text.endswith(letter) or letter == "w" else ""
    return text


def fingerprint(body: list[str]) -> str:
    """Of the opcodes in their order, whatever registers and addresses they have."""
    codes = [re.sub(r"^@!?U?P\d+ ", "", line).split()[0] for line in body if not line.endswith(":")]
    return hashlib.sha256(" ".join(codes).encode()).hexdigest()[:12]


def highest_register(lines: list[str], begin: int) -> int:
    """Of what can run after instruction `begin`."""
    at = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    seen, ahead, most = set(), [begin], 0
    while ahead:
        i = ahead.pop()
        if i in seen or i >= len(lines):
            continue
        seen.add(i)
        line = lines[i]
        most = max([most, *(int(x) for x in re.findall(r"\bR(\d+)\b", line))])
        always = re.match(r"(BRA (\.L|`)|EXIT|RET)", line)
        if branch := re.search(r"\b(?:BRA|CALL\S*)\b.*`\((\S+?)\)", line):
            ahead.append(at.get(branch[1], len(lines)))
        if not always:
            ahead.append(i + 1)
    return most


def findings(name: str, lines: list[str]) -> list[str]:
    found = []
    body = tile_loop(lines)
    shape, size = order(body), sum(not line.endswith(":") for line in body)
    dim, opcodes = int(name.rsplit("_", 1)[1]), fingerprint(body)
    print(f"{name}: {size} instructions a tile, {shape}, {opcodes}")
    if not re.fullmatch(r"gwe(gwe?)+", shape):
        found.append(f"products, waits and exponentials are in the order {shape}")
    if any(re.search(r"\b(LDL|STL)\b", line) for line in body):
        found.append("the loop over tiles uses local memory")
    if size > LIMIT[dim]:
        found.append(f"the loop over tiles has {size} instructions, limit {LIMIT[dim]}")
    if opcodes != TIMED[dim]:
        found.append(f"the loop's opcodes are in an order not timed yet, {opcodes}; see TIMED")
    for i, line in enumerate(lines):
        if change := re.search(r"USETMAXREG\S*\s+(?:U?P\d, )?(0x[0-9a-f]+)", line):
            most, budget = highest_register(lines, i), int(change[1], 16)
            if most >= budget:
                found.append(f"register {most} where there are {budget}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nvdisasm")
    parser.add_argument("--source", default="hopper/attention.cu")
    parser.add_argument("--target", default="sm_90a")
    args = parser.parse_args()
    cubin, _ = build_images.code_of(build_images.Unit(args.source, args.target))
    found = [
        f"{name}: {what}" for name, lines in functions(cubin, args.nvdisasm).items() for what in findings(name, lines)
    ]
    for finding in found:
        print(finding, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
