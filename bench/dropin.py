"""The drop-in bench: torch's SDPA against clary in its place, over the shapes that programs ask for.

The two run in turn, and a figure is the median over the rounds of torch's time over clary's within the round, so that what
else the machine does falls on both; one CPU thread, the default, is timed by the process's CPU clock. A row below the bar is measured twice more, and the middle figure stands. What is called is clary.compat.sdpa's function: the wrapper, its checks and the dispatch
below break-even are in the figure.

    python bench/dropin.py [--device cpu|cuda] [--threads N] [--only SUBSTRING] [--all] [--json FILE]
                                                         measure; exit 1 if a bar is missed
    python bench/dropin.py --wrapper                     what Python adds to a call, and what an empty wrapper would
    python bench/dropin.py --docs FILE                   table of docs/sdpa.md from a result

--all has clary serve every call, so that the figures show where the break-even is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from lib import report

ROOT = Path(__file__).resolve().parent.parent
# The bars: every row that takes torch SHORT us or more; the median of those of at least LONG tokens; what a shorter call may
# take longer, which is Python's, in us: of the least times, since what else the machine does is no part of it.
SLOWEST, MEDIAN, LONG, SHORT, ADDED = 0.98, 2.0, 4096, 100.0, 15.0
SAMPLE = 3e-3  # seconds a sample lasts at least
LIMIT = {"cpu": 4e10, "cuda": 1e14}  # operations of the largest problems


@dataclass(frozen=True)
class Row:
    dtype: str
    B: int
    H: int
    Hkv: int
    Lq: int
    Lk: int
    D: int
    kind: str = ""  # causal, mask

    @property
    def name(self) -> str:
        heads = f"{self.H}" if self.H == self.Hkv else f"{self.H}:{self.Hkv}"
        return f"{self.dtype}/B{self.B}/H{heads}/{self.Lq}x{self.Lk}/D{self.D}" + (f"/{self.kind}" if self.kind else "")

    def operations(self) -> float:
        return 4.0 * self.B * self.H * self.Lq * self.Lk * self.D


def all_rows(device: str) -> list[Row]:
    dtypes = ("f32", "bf16", "f16") if device == "cpu" else ("bf16", "f16")
    shapes = [  # B, H, Hkv, Lq, Lk, D
        *((1, 2, 2, n, n, d) for n in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096) for d in (40, 64, 80, 128)),
        *((32, 5, 5, n, n, 64) for n in (16, 64, 256)),  # thu-ml/SageAttention issue 343
        *((1, 1, 1, n, n, d) for n in (4096, 8192) for d in (64, 96, 128, 160, 256)),
        *((2, 8, 8, n, 77, d) for n in (64, 256, 1024, 4096) for d in (40, 80, 160)),  # text to image tokens
        *((1, 16, 16, 1, n, 128) for n in (128, 1024, 4096, 16384)),  # decode
        *((1, 32, 8, 1, n, 128) for n in (128, 1024, 4096, 16384)),
        *((8, 12, 12, n, n, 64) for n in (16, 77, 197, 512)),  # encoders
        *((1, 24, 24, n, n, 128) for n in (512, 1024, 1536)),
    ]
    rows = [Row(dtype, *shape) for dtype in dtypes for shape in shapes]
    for dtype in dtypes:
        for n in (64, 256, 1024, 4096):
            rows += [Row(dtype, 1, 4, 4, n, n, 64, kind) for kind in ("causal", "mask")]
            rows += [Row(dtype, 1, 8, 2, n, n, 128, "causal")]
    return [row for row in rows if row.operations() <= LIMIT[device]]


class Contestant:
    def __init__(self, call: Callable[[], Any], synchronize: Callable[[], None], clock: Callable[[], float]) -> None:
        self.call, self.synchronize, self.clock = call, synchronize, clock
        call()
        self.calls = 1
        self.calls = max(1, math.ceil(SAMPLE / max(self.sample(), 1e-7)))

    def sample(self) -> float:
        self.synchronize()
        begin = self.clock()
        for _ in range(self.calls):
            self.call()
        self.synchronize()
        return (self.clock() - begin) / self.calls


def measure(row: Row, device: str, threads: int, serve_all: bool) -> dict[str, Any]:
    import torch

    import clary
    from clary.compat import sdpa

    generator = torch.Generator(device).manual_seed(0)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[row.dtype]
    shapes = [(row.B, row.H, row.Lq, row.D), *[(row.B, row.Hkv, row.Lk, row.D)] * 2]
    q, k, v = (torch.randn(s, generator=generator, device=device).to(dtype) for s in shapes)
    words: dict[str, Any] = {"enable_gqa": row.H != row.Hkv, "is_causal": row.kind == "causal"}
    if row.kind == "mask":
        words["attn_mask"] = torch.arange(row.Lk, device=device) < row.Lk * 3 // 4
        words["attn_mask"] = words["attn_mask"].expand(row.B, 1, row.Lq, row.Lk)
    theirs = torch.nn.functional.scaled_dot_product_attention
    ours: Callable[..., Any] = sdpa.scaled_dot_product_attention
    if serve_all:
        mask, causal = words.get("attn_mask"), words["is_causal"]

        def ours(q: Any, k: Any, v: Any, **_: Any) -> Any:
            return clary.attention(q, k, v, mask=mask, causal=causal)

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    clock = time.process_time if (device, threads) == ("cpu", 1) else time.perf_counter
    clary.stats(reset=True)
    with torch.inference_mode():
        us, them = (Contestant(lambda f=f: f(q, k, v, **words), wait, clock) for f in (ours, theirs))
        ratios, times, torchs, begin = [], [], [], time.perf_counter()
        while len(ratios) < 5 or (len(ratios) < 60 and time.perf_counter() - begin < 0.5):
            a, b, c = them.sample(), us.sample(), them.sample()
            ratios.append((a + c) / 2 / b)
            times.append(b)
            torchs += [a, c]
    counts = clary.stats()
    by = [*counts["variants"], *counts["fallbacks"]][0]
    over, us_added = statistics.median(ratios), 1e6 * (min(times) - min(torchs))
    return {**asdict(row), "by": by, "over": over, "us": 1e6 * statistics.median(times), "added": us_added}


# ---- tables -----------------------------------------------------------------------------------------------------------

LENGTHS = (0, 64, 128, 256, 512, 1024, 2048, 4096)


def table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for dtype in dict.fromkeys(r["dtype"] for r in rows):
        for i, first in enumerate(LENGTHS):
            below = LENGTHS[i + 1] if i + 1 < len(LENGTHS) else math.inf
            mine = [r for r in rows if r["dtype"] == dtype and first <= r["Lk"] < below]
            if mine:
                ratios = [r["over"] for r in mine]
                torchs = sum(r["by"].startswith("sdpa:") for r in mine)
                figures = [f"{x:.2f}x" for x in (min(ratios), statistics.median(ratios), max(ratios))]
                lines.append(
                    [
                        dtype,
                        f"{first or 16} to {below - 1 if i + 1 < len(LENGTHS) else '...'}",
                        len(mine),
                        torchs,
                        *figures,
                    ]
                )
    return report.table(["dtype", "keys", "shapes", "by torch", "least", "median", "most"], lines, left=2)


def is_short(r: dict[str, Any]) -> bool:
    return bool(r["us"] * r["over"] < SHORT)


def bars(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    long = [r["over"] for r in rows if r["Lk"] >= LONG and r["Lq"] >= LONG]
    short = [r["added"] for r in rows if is_short(r)]
    others = [r["over"] for r in rows if not is_short(r)]
    found = [(f"least where torch takes {SHORT:.0f} us or more", SLOWEST, min(others))] if others else []
    found += [(f"median from {LONG} tokens", MEDIAN, statistics.median(long))] if long else []
    return [*found, ("us added to shorter calls, most", -ADDED, -max(short))] if short else found


def bar_table(rows: list[dict[str, Any]]) -> str:
    def show(x: float) -> str:
        return f"{-x:.1f} us" if x < 0 else f"{x:.2f}x"

    lines = [[what, show(bar), show(got), "met" if got >= bar else "MISSED"] for what, bar, got in bars(rows)]
    return report.table([f"{len(rows)} shapes", "bar", "measured", ""], lines, left=1)


def write_docs(result: dict[str, Any], source: str) -> None:
    path = ROOT / "docs/sdpa.md"
    bodies = {
        "dropin": table(result["rows"]),
        "dropin_bars": bar_table(result["rows"]),
        "dropin_source": f"`{source}`, {result['machine']}",
    }
    report.fill(path, bodies)


def wrapper(rounds: int = 100) -> str:
    """Least time of one call over short samples in turn: torch's function, a wrapper that does nothing else, ours."""
    import torch

    import clary
    from clary.compat import sdpa

    theirs = torch.nn.functional.scaled_dot_product_attention

    def empty(  # type: ignore[no-untyped-def]
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False
    ):
        return theirs(query, key, value, attn_mask, dropout_p, is_causal)

    torch.set_num_threads(1)
    clary.set_threads(1)
    lines = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (torch.randn(1, 2, 16, 40).to(dtype) for _ in range(3))
        contestants = theirs, empty, sdpa.scaled_dot_product_attention, clary.attention
        calls = [partial(f, q, k, v) for f in contestants]
        best = [math.inf] * len(calls)
        with torch.inference_mode():
            clary.stats(reset=True)
            calls[2]()
            counts = clary.stats()
            for _ in range(rounds):
                for i, call in enumerate(calls):
                    best[i] = min(best[i], timeit.timeit(call, number=200) / 200 * 1e6)
        (by,) = [*counts["variants"], *counts["fallbacks"]]
        lines.append([str(dtype)[6:], *(f"{us:.1f}" for us in best), by])
    titles = ["us a call, 1x2x16x40", "torch", "in an empty wrapper", "clary in its place", "clary.attention", "by"]
    return report.table(titles, lines, left=1)


def machine(device: str) -> str:
    import torch

    import clary

    what = torch.cuda.get_device_name() if device == "cuda" else clary.info()["cpu"]["name"].strip()
    return f"{what}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}, clary {clary.__version__}"


def run(rows: Iterable[Row], args: argparse.Namespace) -> dict[str, Any]:
    import torch

    import clary

    torch.set_num_threads(args.threads)
    clary.set_threads(args.threads)

    def one(row: Row) -> dict[str, Any]:
        r = measure(row, args.device, args.threads, args.all)
        print(f"{row.name:<36}{r['over']:>7.2f}x {r['us']:>10.0f} us  {r['by']}", file=sys.stderr, flush=True)
        return r

    found = json.loads(Path(args.again).read_text())["rows"] if args.again else [one(row) for row in rows]
    for i, r in enumerate(found):
        if r["over"] < SLOWEST or (args.again and is_short(r)):
            row = Row(**{f.name: r[f.name] for f in fields(Row)})
            found[i] = sorted([one(row) if args.again else r, one(row), one(row)], key=lambda r: r["over"])[1]
    return {"machine": machine(args.device), "command": report.command("dropin"), "rows": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of either")
    parser.add_argument("--only", default="", metavar="SUBSTRING")
    parser.add_argument("--all", action="store_true", help="no dispatch to torch")
    parser.add_argument(
        "--again", metavar="FILE", help="a result, of which only the rows below the bar and the short ones are measured"
    )
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--wrapper", action="store_true", help="what Python adds to a call")
    parser.add_argument("--docs", metavar="FILE")
    args = parser.parse_args()
    if args.wrapper:
        print(wrapper())
        return 0
    if args.docs:
        write_docs(json.loads(Path(args.docs).read_text()), os.path.relpath(args.docs, ROOT))
        return 0
    result = run([row for row in all_rows(args.device) if args.only in row.name], args)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    print(table(result["rows"]), bar_table(result["rows"]), sep="\n\n")
    return 0 if all(got >= bar for _, bar, got in bars(result["rows"])) else 1


if __name__ == "__main__":
    sys.exit(main())
