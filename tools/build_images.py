"""Compiles the GPU kernels into one archive of images, with NVRTC: no toolkit, no driver, no GPU.

    build_images.py OUT_DIR [--jobs N] [--target sm_90 ...] [--nvcc PATH] [--allow-spills]

An image is one kernel source for one target: a cubin, or PTX that the driver of a card unknown today compiles. Every image is
kept in a cache under the hash of all it depends on ($CLARY_CACHE, else ~/.cache/clary), so a second run takes no time.
Writes OUT_DIR/images.bin, which engine/cuda/image.h reads, and OUT_DIR/images.json: registers, spills and shared memory of
every kernel. Exit 1 when a kernel spills, a family has too many rows, or the archive is too large; 2 when it cannot run.

The compiler is pinned: pip install nvidia-cuda-nvrtc-cu12==12.9.86
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "engine/cuda/kernels"
NVRTC = ("nvidia-cuda-nvrtc-cu12", "12.9.86")
FORMAT = 1  # of the cache's entries and of the archive
MAX_ROWS = 24  # of a family's variants.def
MAX_BYTES = 12 << 20  # of the archive

# Kernel sources, below KERNELS, and the targets each is compiled for. A cubin runs on its own and on every higher minor of its
# major; what has no cubin gets the PTX.
FAMILIES = {
    "any/quantise.cu": ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120", "compute_75", "compute_80"),
    "mma/attention.cu": ("sm_75", "sm_80", "sm_86", "sm_90", "sm_120", "compute_75", "compute_80"),
    "hopper/attention.cu": ("sm_90a",),
}
OPTIONS = ("--std=c++20", "--define-macro=NDEBUG")

KINDS = {"": 0, "a": 1, "f": 2, "ptx": 3}  # image.h, ImageKind


@dataclasses.dataclass(frozen=True)
class Unit:
    source: str
    target: str

    @property
    def name(self) -> str:
        return self.source.removesuffix(".cu")

    def kind(self) -> tuple[int, int]:
        """(90, KINDS["a"]) of sm_90a."""
        match = re.fullmatch(r"(sm|compute)_(\d+)([af]?)", self.target)
        if not match:
            raise ValueError(f"no such target: {self.target}")
        return int(match[2]), KINDS["ptx" if match[1] == "compute" else match[3]]


@dataclasses.dataclass
class Image:
    unit: Unit
    packed: bytes
    raw_size: int
    kernels: list[dict[str, int | str]]


def depends(unit: Unit) -> list[Path]:
    """Every file the source may include; all of a folder, because that is cheaper than knowing better."""
    folders = {(KERNELS / unit.source).parent, KERNELS / "common"}
    files = [file for folder in folders for file in folder.iterdir() if file.suffix in (".cu", ".cuh", ".def")]
    return sorted([*files, ROOT / "engine/cuda/args.h", ROOT / "engine/cuda/layout.h"])


def cache_key(unit: Unit, compiler: str) -> str:
    digest = hashlib.sha256(repr((FORMAT, unit, compiler, OPTIONS)).encode())
    for file in depends(unit):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


# ---- compilers --------------------------------------------------------------------------------------------------------


class CompileError(Exception):
    pass


def nvrtc_library() -> Path:
    spec = importlib.util.find_spec("nvidia.cuda_nvrtc") if importlib.util.find_spec("nvidia") else None
    package, version = NVRTC
    found = importlib.metadata.version(package) if spec else "none"
    if not spec or not spec.submodule_search_locations or found != version:
        raise SystemExit(
            f"build_images: {package} {version} is needed, {found} is installed\nhint: pip install {package}=={version}"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "lib/libnvrtc.so.12"


def compile_nvrtc(unit: Unit) -> tuple[bytes, str]:
    library = ctypes.CDLL(str(nvrtc_library()))
    source = KERNELS / unit.source
    options = [f"--gpu-architecture={unit.target}", f"--include-path={ROOT}", f"--include-path={source.parent}"]
    options += ["-default-device", "--ptxas-options=-v", *OPTIONS]
    words = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    program, size = ctypes.c_void_p(), ctypes.c_size_t()

    def text(what: str) -> bytes:
        getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        if getattr(library, f"nvrtcGet{what}")(program, buffer):
            raise CompileError(f"{unit}: nvrtcGet{what} failed")
        return buffer.raw

    library.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), unit.source.encode(), 0, None, None)
    try:
        failed = library.nvrtcCompileProgram(program, len(options), words)
        log = text("ProgramLog").rstrip(b"\0").decode(errors="replace")
        if failed:
            raise CompileError(f"{unit.source} for {unit.target}:\n{log}")
        return text("PTX" if unit.target.startswith("compute") else "CUBIN"), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def compile_nvcc(unit: Unit, nvcc: str) -> tuple[bytes, str]:
    number = unit.target.split("_")[1]
    ptx = unit.target.startswith("compute")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "image"
        command = [
            nvcc,
            "--ptx" if ptx else "--cubin",
            f"-gencode=arch=compute_{number},code={unit.target}",
            "-Xptxas=-v",
        ]
        command += [f"-I{ROOT}", *OPTIONS, str(KERNELS / unit.source), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CompileError(f"{unit.source} for {unit.target}:\n{done.stderr}")
        return out.read_bytes() + (b"\0" if ptx else b""), done.stderr


def kernels_of(log: str) -> list[dict[str, int | str]]:
    """What `ptxas -v` says of each entry."""
    kernels: list[dict[str, int | str]] = []
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            kernels.append({"kernel": match[1], "registers": 0, "spill_bytes": 0, "stack_bytes": 0, "shared_bytes": 0})
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernels[-1] |= {"stack_bytes": int(match[1]), "spill_bytes": int(match[2]) + int(match[3])}
        elif match := re.search(r"Used (\d+) registers", line):
            kernels[-1]["registers"] = int(match[1])
            if shared := re.search(r"(\d+) bytes smem", line):
                kernels[-1]["shared_bytes"] = int(shared[1])
    return sorted(kernels, key=lambda kernel: str(kernel["kernel"]))


# ---- the archive ------------------------------------------------------------------------------------------------------


def lz4_block(data: bytes) -> bytes:
    """LZ4 block format, greedy; engine/cuda/image.cc has the decoder."""
    out = bytearray()

    def sequence(literals: bytes, match: int, offset: int) -> None:
        def extra(length: int) -> bytes:
            return b"\xff" * (length // 255) + bytes([length % 255])

        tail = match - 4
        out.append(min(len(literals), 15) << 4 | (min(tail, 15) if match else 0))
        if len(literals) >= 15:
            out.extend(extra(len(literals) - 15))
        out.extend(literals)
        if match:
            out.extend(struct.pack("<H", offset))
            if tail >= 15:
                out.extend(extra(tail - 15))

    seen: dict[bytes, int] = {}
    begin = at = 0
    limit = len(data) - 12  # the format: no match begins in the last 12 bytes, none reaches the last 5
    while at < limit:
        key = data[at : at + 4]
        candidate = seen.get(key, -1)
        seen[key] = at
        if candidate < 0 or at - candidate > 0xFFFF:
            at += 1
            continue
        length, most = 4, len(data) - 5 - at
        step = 64
        while length < most and step:  # by doubling strides, then single bytes
            span = min(step, most - length)
            if data[candidate + length : candidate + length + span] == data[at + length : at + length + span]:
                length += span
            else:
                step = span // 2
        sequence(data[begin:at], length, at - candidate)
        for inside in range(at + 4, at + length, 4):
            seen[data[inside : inside + 4]] = inside
        at += length
        begin = at
    sequence(data[begin:], 0, 0)
    return bytes(out)


def lz4_unpack(packed: bytes) -> bytes:
    out, at = bytearray(), 0

    def length(nibble: int) -> int:
        nonlocal at
        more = nibble == 15
        while more:
            more = packed[at] == 255
            nibble += packed[at]
            at += 1
        return nibble

    while at < len(packed):
        token = packed[at]
        at += 1
        literals = length(token >> 4)
        out += packed[at : at + literals]
        at += literals
        if at < len(packed):
            offset = int.from_bytes(packed[at : at + 2], "little")
            at += 2
            match = length(token & 15) + 4
            while match:  # in pieces, where it overlaps itself
                piece = out[-offset:][:match]
                out += piece
                match -= len(piece)
    return bytes(out)


def archive(images: list[Image]) -> bytes:
    """image.h says what is where."""
    header, entry = struct.Struct("<8sII"), struct.Struct("<40sHBBIQQ")
    offset = header.size + entry.size * len(images)
    head, body = header.pack(b"CLARYIMG", FORMAT, len(images)), b""
    for image in images:
        sm, kind = image.unit.kind()
        name = image.unit.name.encode()
        assert len(name) < 40
        head += entry.pack(name, sm, kind, 0, len(image.packed), offset + len(body), image.raw_size)
        body += image.packed
    return head + body


# ---- the command ------------------------------------------------------------------------------------------------------


def build(unit: Unit, cache: Path, compiler: str, nvcc: str | None) -> Image:
    key = cache_key(unit, compiler)
    code, facts = cache / f"{key}.lz4", cache / f"{key}.json"
    if not facts.exists():  # written last, so what it describes is whole
        raw, log = compile_nvcc(unit, nvcc) if nvcc else compile_nvrtc(unit)
        cache.mkdir(parents=True, exist_ok=True)
        for file, content in (
            (code, lz4_block(raw)),
            (facts, json.dumps({"raw_size": len(raw), "kernels": kernels_of(log)}).encode()),
        ):
            part = file.with_name(f"{file.name}.{os.getpid()}")
            part.write_bytes(content)
            part.replace(file)
    known = json.loads(facts.read_text())
    return Image(unit, code.read_bytes(), known["raw_size"], known["kernels"])


def cache_folder() -> Path:
    return Path(os.environ.get("CLARY_CACHE") or Path.home() / ".cache/clary") / "images"


def code_of(unit: Unit) -> tuple[bytes, list[dict[str, int | str]]]:
    """Machine code of the pinned compiler, and what it says of each kernel."""
    nvrtc_library()
    image = build(unit, cache_folder(), "=".join(NVRTC), None)
    return lz4_unpack(image.packed), image.kernels


def findings(images: list[Image], size: int, allow_spills: bool) -> list[str]:
    found = []
    for image in images:
        for kernel in image.kernels:
            if kernel["spill_bytes"] and not allow_spills:
                found.append(f"{kernel['kernel']} for {image.unit.target} spills {kernel['spill_bytes']} bytes")
    for table in sorted(KERNELS.glob("*/variants.def")):
        rows = len(re.findall(r"^CLARY_\w+\(", table.read_text(), re.MULTILINE))
        if rows > MAX_ROWS:
            found.append(f"{table.relative_to(ROOT)} has {rows} rows, limit {MAX_ROWS}")
    if size > MAX_BYTES:
        found.append(f"the archive has {size} bytes, limit {MAX_BYTES}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--target", action="append", help="only these targets")
    parser.add_argument("--nvcc", help="compile with this nvcc instead")
    parser.add_argument("--allow-spills", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="no table")
    args = parser.parse_args()

    units = [Unit(source, target) for source, targets in FAMILIES.items() for target in targets]
    if args.target:
        units = [unit for unit in units if unit.target in args.target]
    if not units:
        parser.error("no kernel is built for these targets")
    if args.nvcc:
        compiler = subprocess.run([args.nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    else:
        compiler = "=".join(NVRTC)
    cache = cache_folder()
    if not args.nvcc and not all((cache / f"{cache_key(unit, compiler)}.json").exists() for unit in units):
        nvrtc_library()
    try:
        with ProcessPoolExecutor(max(1, args.jobs or 1)) as pool:
            jobs = [pool.submit(build, unit, cache, compiler, args.nvcc) for unit in units]
            images = [job.result() for job in jobs]
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1

    packed = archive(images)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "images.bin").write_bytes(packed)
    report = [
        {
            "image": image.unit.name,
            "target": image.unit.target,
            "bytes": image.raw_size,
            "packed": len(image.packed),
            **kernel,
        }
        for image in images
        for kernel in image.kernels
    ]
    (args.out / "images.json").write_text(json.dumps({"compiler": compiler, "kernels": report}, indent=1) + "\n")
    if not args.quiet:
        print(f"{'kernel':24} {'target':10} {'registers':>9} {'spills':>6} {'shared':>6}")
        for row in report:
            print(
                f"{row['kernel']:24} {row['target']:10} {row['registers']:9} {row['spill_bytes']:6} {row['shared_bytes']:6}"
            )
    found = findings(images, len(packed), args.allow_spills)
    for finding in found:
        print(finding, file=sys.stderr)
    raw = sum(image.raw_size for image in images)
    print(
        f"{args.out / 'images.bin'}: {len(images)} images, {len(packed)} bytes ({raw} unpacked), {len(found)} findings"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
