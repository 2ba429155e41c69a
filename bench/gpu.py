"""The GPU bench: clary beside torch's SDPA backends and whatever other attention can be imported, with clocks and power.

The one idea: a GPU's clock follows its power, so every contestant of a row is timed in bursts (a quarter of a second idle, then
a few calls) and sustained (a tenth of a second of warm-up, then as much again), in turn, round after round. A figure is the
median over the rounds, a ratio the median of the ratios within each round. Times are the GPU's own (events) and cover the whole
call from tensors to tensors; `kernel` is the attention kernel's share of it, from the profiler.

TFLOPS are 4 B H Lq Lk D / time, half of that under causal.

    python bench/gpu.py [--quick] [--only SUBSTRING] [--json FILE]    measure: table on stdout, progress on stderr
    python bench/gpu.py --docs FILE                                   the plot of docs/cuda.md from a result
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
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

os.environ.setdefault("CLARY_FORCE", "cuda")  # our kernels, where torch would be faster too

from lib import cudnn_fp8, report
from lib.gpu_timing import Meter, timed

ROOT = Path(__file__).resolve().parent.parent
OURS = ("standard", "high")
FP8 = "cuDNN FP8, quantised before"  # its call, and not the quantising that every other 8-bit one does within its own
SECONDS = 0.12  # of a sustained warm-up, and of what is then timed


@dataclass(frozen=True)
class Row:
    section: str
    D: int
    Lq: int
    Lk: int
    B: int = 1
    H: int = 32
    Hkv: int = 32
    causal: bool = False
    mask: bool = False
    dtype: str = "bf16"
    kv_lens: tuple[int, ...] = ()  # keys of each of the B sequences; others see them by a mask
    quick: bool = False

    @property
    def name(self) -> str:
        shape = f"N{self.Lq}" if self.Lq == self.Lk else f"{self.Lq}x{self.Lk}"
        heads = f"H{self.H}" if self.H == self.Hkv else f"H{self.H}:{self.Hkv}"
        words = "/causal" * self.causal + "/mask" * self.mask + f"/{self.dtype}" * (self.dtype != "bf16")
        words += "/kv_lens" * bool(self.kv_lens)
        return f"{self.section}/D{self.D}/{shape}/B{self.B}/{heads}{words}"

    def operations(self) -> float:
        keys = sum(self.kv_lens) or self.B * self.Lk
        return 4.0 * self.H * self.Lq * keys * self.D / (2 if self.causal else 1)


def all_rows() -> list[Row]:
    rows = []
    for D in (64, 128, 256):
        for N, B in ((1024, 4), (4096, 4), (8192, 2), (16384, 1), (32768, 1)):
            rows.append(Row("tokens", D, N, N, B, quick=N in (4096, 16384) and D in (64, 128)))
    for N in (1024, 4096, 16384):
        rows.append(Row("causal", 128, N, N, 4 if N < 16384 else 1, causal=True, quick=N == 4096))
    for D, H in ((64, 30), (128, 24)):
        rows.append(Row("video", D, 17776, 17776, 1, H, H))
    for D, N, B, H in ((64, 17776, 2, 30), (128, 17000, 2, 24), (128, 32760, 1, 40), (128, 118806, 1, 24)):
        rows.append(Row("video", D, N, N, B, H, H))
    rows.append(Row("text", 128, 4096, 512, 4))  # the keys are a prompt's
    rows.append(Row("text", 128, 4096, 4096, 4, kv_lens=(4096, 3000, 2000, 700)))
    for N, B in ((4096, 4), (16384, 1)):
        rows.append(Row("text", 128, N, N, B, Hkv=8, causal=True))
    for D, H in ((64, 32), (256, 16)):
        rows.append(Row("text", D, 16384, 16384, 1, H, H, causal=True))
    for D in (64, 128):
        for N in (128, 256, 512, 1024, 2048):
            rows.append(Row("break-even", D, N, N, 1, 16, 16, quick=D == 128))
        for Lk in (128, 512, 2048):
            rows.append(Row("break-even", D, 8192, Lk, 1, 16, 16))
    for mask, dtype in ((True, "bf16"), (False, "f32")):
        rows.append(Row("break-even", 128, 512, 512, 1, 16, 16, mask=mask, dtype=dtype))
        rows.append(Row("words", 128, 4096, 4096, 1, 16, 16, mask=mask, dtype=dtype, quick=True))
    for H, Hkv in ((32, 32), (32, 8)):
        rows.append(Row("decode", 128, 1, 32768, 4, H, Hkv))
        rows.append(Row("decode", 128, 16, 32768, 1, H, Hkv, quick=H != Hkv))
    return rows


# ---- contestants ------------------------------------------------------------------------------------------------------


@dataclass
class Contestant:
    name: str
    call: Callable[[], Any]
    seconds: float = 0  # of a call, roughly
    burst: list[float] = field(default_factory=list)
    sustained: list[float] = field(default_factory=list)
    clocks: list[tuple[int, int]] = field(default_factory=list)  # MHz, W


def inputs(row: Row) -> tuple[Any, Any, Any, Any]:
    """q, k, v and what says which keys are seen (the mask, or None), as all but our kv_lens take it."""
    import torch

    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[row.dtype]
    make = torch.Generator(device="cuda").manual_seed(0)
    q, k, v = (
        torch.randn(row.B, heads, n, row.D, device="cuda", generator=make).to(dtype)
        for heads, n in ((row.H, row.Lq), (row.Hkv, row.Lk), (row.Hkv, row.Lk))
    )
    mask = None
    if row.mask:
        mask = torch.rand(row.Lq, row.Lk, device="cuda", generator=make) > 0.3
    if row.kv_lens:
        mask = (torch.arange(row.Lk, device="cuda") < torch.tensor(row.kv_lens, device="cuda")[:, None])[:, None, None]
    return q, k, v, mask


def our_words(row: Row, mask: Any) -> dict[str, Any]:
    import torch

    if row.kv_lens:
        return {"causal": row.causal, "kv_lens": torch.tensor(row.kv_lens, dtype=torch.int32, device="cuda")}
    return {"causal": row.causal, "mask": mask}


def contestants(row: Row, q: Any, k: Any, v: Any, mask: Any, ours: dict[str, Any]) -> list[Contestant]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    import clary

    sdpa = torch.nn.functional.scaled_dot_product_attention
    words: dict[str, Any] = {"is_causal": row.causal, "enable_gqa": row.H != row.Hkv, "attn_mask": mask}

    def torch_backend(backend: Any) -> Callable[[], Any]:
        def call() -> Any:
            with sdpa_kernel(backend):
                return sdpa(q, k, v, **words)

        return call

    found: dict[str, Callable[[], Any]] = {
        word: lambda word=word: clary.attention(q, k, v, **ours, accuracy=word) for word in OURS
    }
    found["torch"] = lambda: sdpa(q, k, v, **words)
    found["torch flash"] = torch_backend(SDPBackend.FLASH_ATTENTION)
    found["torch cuDNN"] = torch_backend(SDPBackend.CUDNN_ATTENTION)
    if mask is not None or row.dtype == "f32":
        found["torch efficient"] = torch_backend(SDPBackend.EFFICIENT_ATTENTION)
    if row.kv_lens:
        found |= imported({"torch varlen": ("torch.nn.attention.varlen", packed(row, q, k, v))})
    elif mask is None and row.dtype != "f32" and row.H == row.Hkv:
        found |= others(row, q, k, v)

    usable = []
    for name, call in found.items():
        try:
            if name in OURS and clary.explain(q, k, v, **ours, accuracy=name).variant[:4] != "cuda":
                continue
            call()
            torch.cuda.synchronize()
        except (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError) as error:
            say(f"  {name} left out: {str(error).splitlines()[0][:100]}")
            continue
        usable.append(Contestant(name, call))
    return usable


def packed(row: Row, q: Any, k: Any, v: Any) -> Callable[[Any], Any]:
    """torch's FlashAttention over the keys that exist, packed before, by its module."""
    import torch

    def ends(lengths: tuple[int, ...]) -> Any:
        return torch.tensor((0, *lengths), device="cuda").cumsum(0).to(torch.int32)

    q = q.transpose(1, 2).flatten(0, 1).contiguous()
    k, v = (torch.cat([x[b, :, :n].transpose(0, 1) for b, n in enumerate(row.kv_lens)]).contiguous() for x in (k, v))
    at = (ends((row.Lq,) * row.B), ends(row.kv_lens), row.Lq, max(row.kv_lens))
    return lambda m: m.varlen_attn(q, k, v, *at).view(row.B, row.Lq, row.H, row.D)


def imported(calls: dict[str, tuple[str, Callable[[Any], Any]]]) -> dict[str, Callable[[], Any]]:
    """Of calls by the module they need, those whose module is installed."""
    found: dict[str, Callable[[], Any]] = {}
    for name, (package, call) in calls.items():
        try:
            module = importlib.import_module(package)
        except Exception as error:
            missing.setdefault(name, f"{type(error).__name__}: {error}".splitlines()[0])
            continue
        found[name] = lambda call=call, module=module: call(module)
    return found


def others(row: Row, q: Any, k: Any, v: Any) -> dict[str, Callable[[], Any]]:
    """Of other packages, those that are installed; they take [B, L, H, D] unless told otherwise."""
    nhd = [x.transpose(1, 2).contiguous() for x in (q, k, v)]
    calls: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "FlashAttention 3": ("flash_attn_interface", lambda m: m.flash_attn_func(*nhd, causal=row.causal)),
        "FlashAttention 2": ("flash_attn", lambda m: m.flash_attn_func(*nhd, causal=row.causal)),
        "SageAttention": ("sageattention", lambda m: m.sageattn(q, k, v, is_causal=row.causal)),
    }
    if not row.causal:
        calls["comfy-kitchen"] = ("comfy_kitchen", lambda m: m.int8_attention(q, k, v))
    found = imported(calls)
    try:
        found[FP8] = cudnn_fp8.Call(q, k, v, row.causal)
    except Exception as error:
        missing.setdefault(FP8, f"{type(error).__name__}: {error}".splitlines()[0][:100])
    return found


missing: dict[str, str] = {}


# ---- measuring --------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def sample(c: Contestant, meter: Meter) -> None:
    import torch

    torch.cuda.synchronize()
    time.sleep(0.25)
    c.call()
    c.burst.append(timed(c.call, 4))
    c.seconds = c.seconds or c.burst[0]
    count = max(4, min(4000, round(SECONDS / c.seconds)))

    def look() -> None:
        time.sleep(SECONDS / 2)
        if reading := meter.read():
            c.clocks.append(reading)

    timed(c.call, count)
    c.sustained.append(timed(c.call, count, look))


def kernel_share(c: Contestant) -> float | None:
    """Of the attention kernel in the GPU's time of a call; None where the profiler sees nothing."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for _ in range(3):
            c.call()
        torch.cuda.synchronize()
    spent = {event.key: float(event.device_time_total) for event in trace.key_averages()}
    spent = {key: microseconds for key, microseconds in spent.items() if microseconds}
    ours = sum(microseconds for key, microseconds in spent.items() if key.startswith(("attention_", "combine")))
    return ours / sum(spent.values()) if ours else None


def exact(row: Row, q: Any, k: Any, v: Any, mask: Any) -> Callable[[Any], float]:
    """Relative L2 error of the first head's last queries against float64."""
    import torch

    rows = slice(max(0, row.Lq - 512), row.Lq)
    scores = q[0, 0, rows].double() @ k[0, 0].double().T * row.D**-0.5
    if row.causal:
        i = torch.arange(row.Lq, device="cuda")[rows, None]
        scores = scores.masked_fill(torch.arange(row.Lk, device="cuda") > i, float("-inf"))
    if mask is not None:
        scores = scores.masked_fill(~mask.expand(row.B, 1, row.Lq, row.Lk)[0, 0, rows], float("-inf"))
    want = scores.softmax(-1) @ v[0, 0].double()

    def error(out: Any) -> float:
        out = out[0] if isinstance(out, (tuple, list)) else out
        got = out[0, 0] if out.shape[1:3] == q.shape[1:3] else out[0, :, 0]
        return float((got[rows].double() - want).norm() / want.norm())

    return error


def measure(row: Row, meter: Meter, rounds: int) -> dict[str, Any]:
    import clary

    q, k, v, mask = inputs(row)
    ours = our_words(row, mask)
    everyone, error = contestants(row, q, k, v, mask, ours), exact(row, q, k, v, mask)
    planned = clary.explain(q, k, v, **ours).plan.get("speedup")
    clary.stats(reset=True)
    errors = {c.name: error(getattr(c.call, "value", c.call)()) for c in everyone}
    shares = {c.name: kernel_share(c) for c in everyone if c.name in OURS}
    for n in range(rounds):
        for c in everyone[n % len(everyone) :] + everyone[: n % len(everyone)]:
            sample(c, meter)
    if clary.stats()["fallbacks"]:
        raise SystemExit(f"error: {row.name} fell back: {clary.stats()['fallbacks']}")

    def ratio(top: list[float], bottom: list[float]) -> float:
        return round(statistics.median(a / b for a, b in zip(top, bottom)), 3)

    results: dict[str, Any] = {}
    for c in everyone:
        at: dict[str, Any] = {"error": float(f"{errors[c.name]:.3g}")}
        for mode, seconds in (("burst", c.burst), ("sustained", c.sustained)):
            at[mode] = {
                "us": round(1e6 * statistics.median(seconds), 1),
                "tflops": round(row.operations() / statistics.median(seconds) / 1e12, 1),
            }
            if c.name in OURS:
                rivals = {p.name: getattr(p, mode) for p in everyone if p.name not in OURS}
                at[mode]["over"] = {name: ratio(theirs, seconds) for name, theirs in rivals.items()}
        if c.clocks:
            at["mhz"], at["watt"] = (round(statistics.median(x)) for x in zip(*c.clocks))
        if shares.get(c.name):
            at["kernel"] = round(shares[c.name] or 0, 3)
        results[c.name] = at
    shape = {key: value for key, value in asdict(row).items() if key != "quick"}
    return {"name": row.name, **shape, "rounds": rounds, "planned": planned, "results": results}


def host_cost() -> dict[str, float]:
    """Microseconds of Python and C for one call that the GPU does not hold up, ours (of them in the library) and torch's."""
    import torch

    import clary
    from clary import _lib

    q, k, v = (torch.randn(1, 8, 256, 128, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    answer = {}
    out, workspace = clary.attention(q, k, v), torch.empty(1 << 23, device="cuda", dtype=torch.uint8)
    frame = _lib.idle[-1]  # as the call before packed it
    frame.words[_lib.OUT_WORD] = out.data_ptr()
    frame.set_memory(workspace.data_ptr(), workspace.numel(), torch.cuda.current_stream().cuda_stream)
    calls = {
        "c_us": lambda: frame.run(frame.address),
        "clary_us": lambda: clary.attention(q, k, v),
        "torch_us": lambda: sdpa(q, k, v),
    }
    for name, call in calls.items():
        best = 1.0
        for _ in range(20):
            torch.cuda.synchronize()
            torch.cuda._sleep(20_000_000)
            begin = time.perf_counter()
            for _ in range(100):
                call()
            best = min(best, (time.perf_counter() - begin) / 100)
        answer[name] = round(1e6 * best, 2)
    torch.cuda.synchronize()
    return answer


# ---- the command ------------------------------------------------------------------------------------------------------


def machine(commit: str) -> dict[str, Any]:
    import torch

    import clary

    gpu = clary.info()["cuda"]["gpus"][0]
    git = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    versions = {"clary": clary.__version__, "torch": torch.__version__, "cuDNN": torch.backends.cudnn.version()}
    return {
        "gpu": gpu["name"],
        "capability": gpu["capability"],
        "path": gpu["path"],
        "driver": clary.info()["cuda"]["driver"],
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "commit": commit or subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions,
    }


def text(result: dict[str, Any]) -> str:
    about = result["machine"]
    lines = [f"{about['gpu']}, driver for CUDA {about['driver']}, torch {about['versions']['torch']}, {about['date']}"]
    head = [
        "row",
        "who",
        "burst",
        "sustained",
        "us",
        "over flash",
        "over torch",
        "planned",
        "kernel",
        "error",
        "MHz",
        "W",
    ]
    rows = []
    for row in result["rows"]:
        for name, at in row["results"].items():
            over = at["sustained"].get("over", {})
            rows.append([
                row["name"], name, f"{at['burst']['tflops']:.0f}", f"{at['sustained']['tflops']:.0f}", at["sustained"]["us"],
                report.times(over.get("torch flash")), report.times(over.get("torch")),
                report.times(row["planned"]) if name == "standard" else "",
                report.percent(at.get("kernel")), f"{at['error']:.4f}", at.get("mhz", ""), at.get("watt", ""),
            ])  # fmt: skip
    lines.append(report.table(head, rows, 2))
    lines += [f"{name} left out: {why}" for name, why in result["missing"].items()]
    if result["host"]:
        host = result["host"]
        lines.append(f"host: {host['clary_us']} us a call, {host['c_us']} of them in C; torch {host['torch_us']} us")
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """TFLOPS over tokens, sustained and end to end, a panel for each head_dim."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"standard": "#2f7d4f", "high": "#5aa9c9", "torch cuDNN": "#d98032", "torch flash": "#b5482a"}
    rows = [r for r in result["rows"] if r["section"] == "tokens"]
    dims = sorted({r["D"] for r in rows})
    figure, axes = plt.subplots(1, len(dims), figsize=(3.1 * len(dims), 3.4), sharey=True, squeeze=False)
    for axis, D in zip(axes[0], dims):
        own = sorted((r for r in rows if r["D"] == D), key=lambda r: r["Lk"])
        lengths = [r["Lk"] for r in own]
        for name, colour in colours.items():
            y = [r["results"][name]["sustained"]["tflops"] for r in own]
            style = "-o" if name in OURS else "--s"
            axis.plot(lengths, y, style, color=colour, markersize=3.5, linewidth=1.6, label=name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(lengths, [f"{n / 1024:g}k" for n in lengths])
        axis.set_title(f"head_dim {D}", fontsize=10)
        axis.set_xlabel("tokens", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[0][0].set_ylim(bottom=0)  # of all panels
    axes[0][0].set_ylabel(f"TFLOPS, {result['machine']['gpu']}", fontsize=9)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=8.5, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench gpu", description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of the rows that matter: a minute")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="rows whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no row after so many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    parser.add_argument("--commit", default="", help="what to call this checkout, where git cannot say")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="measure nothing; the plot of docs/cuda.md from this")
    args = parser.parse_args()
    if args.docs:
        plot(json.loads(args.docs.read_text()), ROOT / "docs" / "images" / "gpu-bench.png")
        return 0
    import clary

    cuda = clary.info()["cuda"]
    if not cuda["gpus"]:
        print(f"error: {cuda['error']}", file=sys.stderr)
        return 1
    begin, meter = time.perf_counter(), Meter()
    rows = [row for row in all_rows() if args.only in row.name and (row.quick or not args.quick)]
    result: dict[str, Any] = {"machine": machine(args.commit), "rows": [], "missing": missing, "host": {}}
    if args.only in "host":
        result["host"] = host_cost()
    for i, row in enumerate(rows):
        if time.perf_counter() - begin > args.seconds:
            say(f"time is up, {len(rows) - i} rows left out")
            break
        say(f"{i + 1}/{len(rows)} {row.name}  {time.perf_counter() - begin:.0f} s")
        result["rows"].append(measure(row, meter, 1 if args.quick else args.rounds))
        if args.json:
            args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(text(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
