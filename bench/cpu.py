"""The CPU bench: clary beside torch's SDPA and ONNX Runtime, as shares of what this machine's instructions can do.

The one idea: a machine drifts, and a shared one is disturbed, so the contestants of a row and the machine's peak run in turn,
round after round. A figure is the median over the rounds, a ratio the median of the ratios within each round; rounds in which
other processes took the CPU are left out. One thread is timed by the process's CPU clock, several by the wall.

GOPS are 4 Lq Lk D H / time, half of that under causal: two products of a multiply and an add each. The whole call is timed,
from tensors to tensors: our quantisation and the peers' own preparation included.

    python bench/cpu.py [--quick] [--only SUBSTRING] [--json FILE]    measure: table on stdout, progress on stderr
    python bench/cpu.py --docs FILE                                   tables and plot of docs/cpu-bench.md from a result
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lib import report

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("CLARY_LIBRARY", ROOT / "build/release/libclary.so")).resolve().parent

OURS, PEERS = ("standard", "standard bf16", "high", "exact"), ("torch f32", "torch bf16", "onnxruntime")
TYPE = {"standard": "int8", "standard bf16": "int8", "high": "int16", "exact": "f32"}
TYPE |= {"torch f32": "f32", "torch bf16": "bf16", "onnxruntime": "f32"}
ZMM = {"int8": "vpdpbusd zmm", "int16": "vpdpwssd zmm", "f32": "vfmadd231ps zmm", "bf16": "vdpbf16ps zmm"}
YMM = {"int8": "vpmaddwd ymm", "int16": "vpmaddwd ymm", "f32": "vfmadd231ps ymm"}
CEILINGS = {  # the instruction that does a target's products, where it is not ZMM's
    "avx2": YMM,
    "avxvnni": YMM | {"int8": "vpdpbusd ymm vex"},
    "avx512": ZMM | {"int8": "vpmaddwd zmm", "int16": "vpmaddwd zmm"},
    "amx": ZMM | {"int8": "tdpbusd"},
    "neondot": {"int8": "sdot", "f32": "fmla"},
    "neoni8mm": {"int8": "smmla", "f32": "fmla"},
}
CALM = 0.05  # CPUs that others may take without disturbing a round
AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


# ---- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    section: str
    D: int
    Lq: int
    Lk: int
    H: int = 1
    Hkv: int = 1
    threads: int = 1
    causal: bool = False
    names: tuple[str, ...] = OURS + PEERS
    quick: bool = False

    @property
    def name(self) -> str:
        heads = f"H{self.H}" if self.H == self.Hkv else f"H{self.H}:{self.Hkv}"
        shape = f"N{self.Lq}" if self.Lq == self.Lk else f"{self.Lq}x{self.Lk}"
        return f"{self.section}/D{self.D}/{shape}/{heads}{'/causal' if self.causal else ''}/t{self.threads}"

    def operations(self) -> float:
        return 4.0 * self.Lq * self.Lk * self.D * self.H / (2 if self.causal else 1)

    def kv_bytes(self, name: str) -> int:
        return 2 * self.Lk * self.D * self.Hkv * (2 if "bf16" in name else 4)


def all_rows(threads: int) -> list[Row]:
    rows = []
    for D in (64, 72, 128, 256):
        for N in (512, 1024, 2048, 4096, 8192, 16384):
            rows.append(Row("tokens", D, N, N, quick=N in (512, 4096) and D in (64, 128)))
    for D in (64, 128):
        for N in (1024, 4096, 8192):
            rows.append(Row("causal", D, N, N, causal=True, quick=(D, N) == (128, 4096)))
    for D in (64, 128):
        for N in (64, 128, 256, 512):
            for t in sorted({1, threads}):
                rows.append(Row("small", D, N, N, threads=t, quick=t == 1))
    for D in (64, 128):
        for H in (1, 2, 4, 8, 16, 32):
            rows.append(Row("heads", D, 1024, 1024, H, H, threads, quick=(D, H) == (128, 8)))
    names = ("standard", "standard bf16", *PEERS)
    for t in sorted({1, threads}):
        for Lq, Lk in ((1, 1024), (1, 32768), (1, 65536), (4, 32768), (16, 32768)):
            rows.append(Row("decode", 128, Lq, Lk, 8, 8, t, names=names, quick=(Lq, Lk) == (1, 32768)))
        rows.append(Row("decode", 128, 1, 32768, 32, 8, t, names=names))
    if threads > 1:
        names = ("standard", "high", "exact", "torch f32")
        for D in (64, 128):
            rows.append(Row("scaling", D, 4096, 4096, 8, 8, threads, names=names, quick=D == 128))
    return rows


def forced_rows(target: str) -> list[Row]:
    names = ("standard", "high", "exact", "torch f32")
    return [Row(f"forced/{target}", D, 2048, 2048, names=names, quick=(target, D) == ("avx2", 128)) for D in (64, 128)]


# ---- contestants ------------------------------------------------------------------------------------------------------


@dataclass
class Contestant:
    name: str
    ready: Callable[[], Any]  # before each sample, untimed: its thread count
    call: Callable[[], Any]
    clock: Callable[[], float]
    settle: float  # seconds after a sample until its idle threads no longer spin
    calls: int = 0  # in a sample; 0: not known yet
    warm: bool = False  # an untimed call comes before each sample
    seconds: list[float] = field(default_factory=list)

    def sample(self) -> None:
        self.ready()
        if not self.calls:
            self.call()
            begin = self.clock()
            self.call()
            cost = self.clock() - begin
            self.calls, self.warm = max(1, math.ceil(4e-3 / max(cost, 1e-7))), cost < 0.1
        if self.warm:
            self.call()
        begin = self.clock()
        for _ in range(self.calls):
            self.call()
        self.seconds.append((self.clock() - begin) / self.calls)
        time.sleep(self.settle)


def contestants(row: Row) -> list[Contestant]:
    import torch

    import clary

    torch.manual_seed(0)
    f32 = [torch.randn(1, heads, n, row.D) for heads, n in ((row.H, row.Lq), (row.Hkv, row.Lk), (row.Hkv, row.Lk))]
    bf16 = [x.bfloat16() for x in f32]
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def make(name: str, threads: int) -> Contestant:
        tensors = bf16 if "bf16" in name else f32
        if name.startswith("torch"):
            ready, settle = lambda: torch.set_num_threads(threads), 1e-2
            call = lambda: sdpa(*tensors, is_causal=row.causal, enable_gqa=row.H != row.Hkv)  # noqa: E731
        elif name == "onnxruntime":
            ready, settle = lambda: None, 4e-2
            call = onnx_attention(row, *(x.numpy() for x in f32))
        else:
            word = name.split()[0]
            ready, settle = lambda: clary.set_threads(threads), 2e-3
            call = lambda: clary.attention(*tensors, causal=row.causal, accuracy=word)  # noqa: E731
        one = row.threads == 1
        return Contestant(name, ready, call, time.process_time if one else time.perf_counter, 0 if one else settle)

    made = []
    for name in row.names:
        if name == "onnxruntime" and row.H != row.Hkv:
            continue
        made.append(make(name, row.threads))
        if row.section == "scaling":
            made.append(make(name, 1))
            made[-1].name += ", 1 thread"
    return made


def onnx_attention(row: Row, q: Any, k: Any, v: Any) -> Callable[[], Any]:
    """One com.microsoft.MultiHeadAttention: q as [1, Lq, H D], k and v as [1, H, Lk, D], which spares it a transpose."""
    import onnxruntime
    from onnx import TensorProto, helper

    feed = {"q": q.transpose(0, 2, 1, 3).reshape(1, row.Lq, row.H * row.D).copy(), "k": k, "v": v}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name, x in feed.items()]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, feed["q"].shape)
    words = {"domain": "com.microsoft", "num_heads": row.H, "unidirectional": int(row.causal)}
    node = helper.make_node("MultiHeadAttention", list(feed), ["out"], **words)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(
        helper.make_graph([node], "attention", inputs, [output]), opset_imports=opsets, ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = row.threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


# ---- measuring --------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def program(name: str, *args: object) -> Any:
    return json.loads(
        subprocess.run([BUILD / "bench" / name, *map(str, args)], check=True, stdout=subprocess.PIPE).stdout
    )


class Peak:
    """The ceilings of this machine, measured once, and how they move from round to round."""

    def __init__(self, figures: dict[str, Any], target: str) -> None:
        self.names = CEILINGS.get(target, ZMM)
        self.gops = {(d["name"], d["threads"]): d["gops"] for d in figures["dot"]}
        self.gb_per_s = {(r["level"], r["threads"]): r["gb_per_s"] for r in figures["read"]}
        self.l3 = max((r["bytes"] for r in figures["read"] if r["level"] == "L3"), default=0)

    def of(self, kind: str, threads: int) -> float | None:
        return self.gops.get((self.names.get(kind, ""), threads))

    def drift(self, threads: int) -> float:
        """The int8 rate at this moment over the one measured first."""
        first = self.of("int8", threads)
        if first is None:
            return 1.0
        name = self.names["int8"]
        now = program("clary_peak", "--only", name, "--threads", threads, "--seconds", 0.02)["dot"]
        return next(float(d["gops"]) for d in now if d["name"] == name) / first

    def read(self, row: Row) -> float:
        """Bytes a second from where K and V lie: L3 if the f32 ones fit half of it, else memory. The best seen so far."""
        level = "L3" if row.kv_bytes("f32") <= self.l3 else "memory"
        now = program("clary_peak", "--only", level, "--threads", row.threads, "--seconds", 0.1)["read"]
        best = max(float(now[0]["gb_per_s"]), self.gb_per_s.get((level, row.threads), 0.0))
        self.gb_per_s[level, row.threads] = best
        return 1e9 * best


class Others:
    """CPU time that anybody else takes on this machine, from /proc/stat; none where there is no such file."""

    def __init__(self) -> None:
        self.wall, self.taken = time.perf_counter(), self._taken()

    @staticmethod
    def _taken() -> float:
        try:
            busy = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        except OSError:
            return 0.0
        mine = os.times()
        idle = int(busy[3]) + int(busy[4])
        return (sum(map(int, busy)) - idle) / os.sysconf("SC_CLK_TCK") - sum(mine[:4])

    def share(self) -> float:
        """Of one CPU, since the object was made."""
        return max(0.0, self._taken() - self.taken) / (time.perf_counter() - self.wall)


def measure(row: Row, peak: Peak, seconds: float) -> dict[str, Any]:
    """Rounds until the time is up, 3 to 15; then the calmer half of them, or all that others left alone."""
    import clary

    everyone, decode = contestants(row), row.section == "decode"
    ceilings: list[float] = []
    taken: list[float] = []
    clary.stats(reset=True)
    gc.collect()
    begin = time.perf_counter()
    while len(ceilings) < 15 and (len(ceilings) < 3 or time.perf_counter() - begin < seconds):
        others = Others()
        turn = len(ceilings) % len(everyone)
        for c in everyone[turn:] + everyone[:turn]:
            c.sample()
        ceilings.append(peak.read(row) if decode else peak.drift(row.threads))
        taken.append(others.share())
    if clary.stats()["fallbacks"]:
        raise SystemExit(f"error: {row.name} fell back: {clary.stats()['fallbacks']}")
    allowed = max(CALM, statistics.median(taken))
    calm = [i for i, share in enumerate(taken) if share <= allowed]
    ceilings = [ceilings[i] for i in calm]
    for c in everyone:
        c.seconds = [c.seconds[i] for i in calm]

    def milliseconds(seconds: float) -> float:
        return float(f"{1e3 * seconds:.5g}")

    def median_over(top: list[float], bottom: list[float]) -> float:
        return round(statistics.median(a / b for a, b in zip(top, bottom)), 4)

    results: dict[str, Any] = {}
    for c in everyone:
        rates = [row.operations() / t / 1e9 for t in c.seconds]
        at: dict[str, Any] = {"ms": milliseconds(statistics.median(c.seconds)), "ms_min": milliseconds(min(c.seconds))}
        at["gops"] = round(statistics.median(rates), 1)
        if decode:
            rates = [row.kv_bytes(c.name) / t for t in c.seconds]
            at["gb_per_s"] = round(statistics.median(rates) / 1e9, 1)
            at["share"] = median_over(rates, [max(ceilings)] * len(rates))
        elif ceiling := peak.of(TYPE.get(c.name, ""), row.threads):
            at["share"] = median_over(rates, [ceiling * d for d in ceilings])
        if c.name in OURS:
            rivals = [p for p in everyone if p.name in PEERS or p.name == f"{c.name}, 1 thread"]
            at["over"] = {p.name: median_over(p.seconds, c.seconds) for p in rivals}
        results[c.name] = at
    shape = {key: value for key, value in asdict(row).items() if key not in ("names", "quick")}
    busy = round(statistics.mean(taken[i] for i in calm), 2)
    return {"name": row.name, **shape, "rounds": len(calm), "others": busy, "results": results}


def measure_forced(target: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """In a process of its own, where the library, and with AVX2 torch too, is held to one instruction set."""
    environment = os.environ | {"CLARY_FORCE": f"cpu:{target}"} | (AVX2_ONLY if target == "avx2" else {})
    command = [sys.executable, __file__, "--forced", target, "--only", args.only, *(["--quick"] if args.quick else [])]
    return list(json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout))


def python_overhead() -> dict[str, float]:
    """Microseconds of clary.attention with one query and one key, of the C call inside it, and of the rest."""
    import torch

    import clary
    from clary import _lib

    clary.set_threads(1)
    x = torch.randn(1, 1, 1, 64)

    def cost(f: Callable[..., Any], *args: Any) -> float:
        times = []
        for _ in range(20):
            begin = time.process_time()
            for _ in range(2000):
                f(*args)
            times.append(time.process_time() - begin)
        return 1e6 * min(times) / 2000

    call = cost(clary.attention, x, x, x)
    out = clary.attention(x, x, x)
    frame = _lib.idle[-1]  # as the call before packed it
    frame.words[_lib.OUT_WORD] = out.data_ptr()
    empty = ctypes.CDLL(None).labs
    empty.argtypes, empty.restype = [ctypes.c_void_p], ctypes.c_long
    inside = cost(frame.run, frame.address) - cost(empty, frame.address)
    sdpa = cost(torch.nn.functional.scaled_dot_product_attention, x, x, x)
    return {"call_us": call, "c_us": inside, "python_us": call - inside, "torch_us": sdpa}


def machine() -> dict[str, Any]:
    import onnxruntime
    import torch

    import clary

    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True).stdout.strip()

    cpu = clary.info()["cpu"]
    return {
        "cpu": cpu["name"],
        "target": cpu["best"],
        "usable": cpu["usable"],
        "threads": cpu["threads"],
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "commit": git("rev-parse", "--short=12", "HEAD")
        + (" + changes" if git("status", "--porcelain", "engine") else ""),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": {"clary": clary.__version__, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    begin = time.perf_counter()
    about = machine()
    threads, target = about["threads"], about["target"]
    say("building bench/peak.cc and bench/phases.cc")
    subprocess.run(["cmake", "--build", BUILD, "--target", "clary_bench"], check=True, stdout=subprocess.DEVNULL)
    say("peaks")
    figures = program("clary_peak")
    peak = Peak(figures, target)
    phases: list[dict[str, Any]] = []
    for name in about["usable"]:
        if args.only in f"phases/{name}" and (name == target or not args.quick) and name != "scalar":
            say(f"phases/{name}")
            table = program(f"clary_phases_{name}")
            phases += [{"target": name, "ghz": table["ghz"], **row} for row in table["rows"]]
    rows = [row for row in all_rows(threads) if args.only in row.name and (row.quick or not args.quick)]
    measured = []
    for i, row in enumerate(rows):
        say(f"{i + 1}/{len(rows)} {row.name}  {time.perf_counter() - begin:.0f} s")
        measured.append(measure(row, peak, 0.6 if args.quick else 1.2))
    for name in about["usable"]:
        if name not in ("scalar", target) and any(
            args.only in r.name and (r.quick or not args.quick) for r in forced_rows(name)
        ):
            say(f"forced/{name}  {time.perf_counter() - begin:.0f} s")
            measured += measure_forced(name, args)
    overhead = python_overhead() if args.only in "overhead" else {}
    seconds = round(time.perf_counter() - begin)
    command = " ".join(
        ["./dev bench cpu", *(["--quick"] if args.quick else []), *(["--only", args.only] if args.only else [])]
    )
    about |= {"command": command, "seconds": seconds}
    return {"machine": about, "peak": figures, "phases": phases, "rows": measured, "overhead": overhead}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench cpu", description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the rows that the bars need: a minute")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="rows whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="measure nothing; docs/cpu-bench.md from this result")
    parser.add_argument("--forced", metavar="TARGET", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.docs:
        report.write_docs(json.loads(args.docs.read_text()), ROOT / "docs", args.docs.resolve().relative_to(ROOT))
        return 0
    if args.forced:
        peak = Peak(program("clary_peak", "--threads", 1), args.forced)
        rows = [r for r in forced_rows(args.forced) if args.only in r.name and (r.quick or not args.quick)]
        print(json.dumps([measure(row, peak, 2) for row in rows]))
        return 0
    result = run(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(report.text(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
