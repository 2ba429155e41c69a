"""The wheel tool's bench: the four figures it promises, on the torch that is installed in .venv.

Each command runs several times in turn; the median counts. The library and the wheel are in the page cache, as they are after a
build or a download.

    python bench/wheel.py [--tool FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 9
WHEEL_BYTES = 200_000_000
PLAN = ["plan", "--name", "demo", "--version", "1.0", "--json"]
# Of a machine that is not this one, so that no interpreter is started and no GPU is asked.
RESOLVE = (
    "resolve demo --json --python 3.12 --platform manylinux_2_28_x86_64 --torch 2.8.0 --cuda 12.8 --gpu 8.9".split()
)
STACKS = ["cu126torch2.6.0", "cu126torch2.7.1", "cu128torch2.7.1", "cu128torch2.8.0", "cu129torch2.8.0"]
STACKS += ["cu128torch2.9.1", "cu130torch2.9.1", "cu130torch2.10.0", "cu130torch2.11.0", "cu132torch2.15.0"]
PLATFORMS = ["linux_x86_64", "manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "win_amd64"]


def libraries() -> list[Path]:
    """Of the installed torch, the largest first."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        sys.exit("bench wheel: needs an installed torch, whose libraries it reads")
    folder = Path(spec.origin).parent
    found = [*folder.glob("lib/*.so*"), *folder.parent.glob("nvidia/**/lib/*.so*")]
    return sorted((p for p in found if not p.is_symlink()), key=lambda p: -p.stat().st_size)


def make_wheel(path: Path, candidates: list[Path]) -> None:
    """A wheel of real libraries, WHEEL_BYTES or a little less."""
    info = "bench-1.0.dist-info"
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:

        def add(name: str, content: bytes) -> None:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(content)}")
            wheel.writestr(name, content)

        for library in candidates:  # the largest first, none that would lead past the end
            if wheel.fp is not None and wheel.fp.tell() + library.stat().st_size <= WHEEL_BYTES:
                add(f"bench/{library.name}", library.read_bytes())
        add(f"{info}/METADATA", b"Metadata-Version: 2.1\nName: bench\nVersion: 1.0\n")
        add(f"{info}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-linux_x86_64\n")
        wheel.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")


def make_manifest(path: Path) -> int:
    """15 versions for each stack, Python and platform; how many wheels that makes."""
    names = [
        f"demo-2.{version}.0+{stack}-cp3{python}-cp3{python}-{system}.whl"
        for version in range(15)
        for stack in STACKS
        for python in range(9, 14)
        for system in PLATFORMS
    ]
    wheels = [
        {
            "filename": name,
            "size": 30_000_000 + n,
            "sha256": f"{n:064x}",
            "python": {"requires": ">=3.9"},
            "sass": ["8.0", "8.6", "8.9", "9.0", "12.0"],
            "ptx": [{"arch": "12.0", "locked": False}],
        }
        for n, name in enumerate(names)
    ]
    path.write_text(json.dumps({"schema_version": 1, "serial": 1, "wheels": wheels}, indent=2))
    return len(wheels)


def seconds(command: list[str], home: str) -> float:
    begin = time.perf_counter()
    env = os.environ | {"CLARY_HOME": f"{home}/home"}
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, env=env)
    if done.returncode not in (0, 1):  # 1: verify found something, which is its work
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench wheel", description=str(__doc__).splitlines()[0])
    parser.add_argument("--tool", type=Path, default=ROOT / "build/release/bin/clary", help="the program")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    args = parser.parse_args()
    tool = str(args.tool)
    found = libraries()
    largest = found[0]
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / "bench-1.0-py3-none-linux_x86_64.whl"
        make_wheel(wheel, found)
        manifest = Path(folder) / "latest.json"
        offered = make_manifest(manifest)
        rows = [
            (
                f"inspect --json, a library of {largest.stat().st_size / 1e6:.0f} MB",
                [tool, "inspect", "--json", str(largest)],
                2,
            ),
            (f"verify, a wheel of {wheel.stat().st_size / 1e6:.0f} MB", [tool, "verify", str(wheel)], 3),
            ("plan, the full matrix", [tool, *PLAN], 0.1),
            (f"resolve among {offered:,} wheels", [tool, *RESOLVE, "--from", str(manifest)], 0.1),
        ]
        times: list[list[float]] = [[] for _ in rows]
        for _ in range(ROUNDS):
            for taken, (_, command, _) in zip(times, rows):
                taken.append(seconds(command, folder))
    result = {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "rows": [
            {"what": what, "seconds": statistics.median(taken), "all": taken, "bar": bar}
            for (what, _, bar), taken in zip(rows, times)
        ],
    }
    for row in result["rows"]:
        print(
            f"{row['what']:45} {row['seconds'] * 1000:8.0f} ms   least {min(row['all']) * 1000:5.0f}"
            f"   bar {row['bar'] * 1000:5.0f} ms"
        )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
