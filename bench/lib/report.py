"""A CPU bench result as text: one Markdown table per section, for the terminal and for docs/cpu-bench.md, and the plot."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Result = dict[str, Any]


def table(head: list[str], rows: Iterable[list[Any]], left: int = 0) -> str:
    """`left`: how many columns are aligned to the left."""
    cells = [head, *([str(c) for c in row] for row in rows)]
    if len(cells) == 1:
        return ""
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    places = [str.ljust] * left + [str.rjust] * (len(head) - left)
    lines = ["| " + " | ".join(put(c, w) for put, c, w in zip(places, row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 1) + ("-" if i < left else ":") for i, w in enumerate(widths)) + "|")
    return "\n".join(lines)


def fill(path: Path, bodies: dict[str, str]) -> None:
    """Puts bodies[name] between `<!-- begin name -->` and `<!-- end name -->`."""

    def put(match: re.Match[str]) -> str:
        return f"<!-- begin {match[1]} -->\n{bodies[match[1]]}\n<!-- end {match[1]} -->"

    path.write_text(re.sub(r"<!-- begin (\w+) -->.*?<!-- end \1 -->", put, path.read_text(), flags=re.DOTALL))


def command(verb: str) -> str:
    """What was typed, less --json FILE: where a result lies is not part of it."""
    words = list(sys.argv[1:])
    if "--json" in words:
        del words[words.index("--json") : words.index("--json") + 2]
    return " ".join(["./dev bench", verb, *words])


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def rate(at: Result | None) -> str:
    if at is None:
        return ""
    return f"{at['gops']:.0f}" + (f" ({percent(at['share'])})" if "share" in at else "")


def over(row: Result, ours: str, theirs: str) -> str:
    return times(row["results"].get(ours, {}).get("over", {}).get(theirs))


def find(result: Result, section: str, **want: Any) -> list[Result]:
    return [r for r in result["rows"] if r["section"] == section and all(r[k] == v for k, v in want.items())]


# ---- sections ---------------------------------------------------------------------------------------------------------

COLUMNS = ["standard", "standard bf16", "high", "exact", "torch f32", "torch bf16", "onnxruntime"]
RATIOS = {
    "standard / torch f32": ("standard", "torch f32"),
    "bf16 / torch bf16": ("standard bf16", "torch bf16"),
    "exact / torch f32": ("exact", "torch f32"),
}


def about(result: Result) -> str:
    m = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    rows = [
        ["CPU", f"{m['cpu']}, {m['threads']} threads, {result['peak']['ghz']:.2f} GHz measured"],
        ["clary's target", m["target"]],
        ["versions", versions],
        ["system", m["system"]],
        ["commit, date", f"{m['commit']}, {m['date']}"],
        ["CPUs that others took, worst row", max((r["others"] for r in result["rows"]), default=0)],
        ["made by", f"`{m['command']}`, {m['seconds']} s"],
    ]
    return table(["", "measured on"], rows, left=2)


def peaks(result: Result) -> str:
    many = result["machine"]["threads"]
    dots: dict[str, dict[int, Result]] = {}
    for d in result["peak"]["dot"]:
        dots.setdefault(d["name"], {})[d["threads"]] = d
    reads: dict[str, dict[int, Result]] = {}
    for r in result["peak"]["read"]:
        reads.setdefault(r["level"], {})[r["threads"]] = r
    rows = [
        [name, d[1]["type"], f"{d[1]['per_clock']:.2f}", f"{d[1]['gops']:.0f}", f"{d.get(many, d[1])['gops']:.0f}"]
        for name, d in dots.items()
    ]
    first = table(["instruction", "type", "a clock", "GOPS, 1 thread", f"{many} threads"], rows)
    rows = [
        [name, f"{r[1]['bytes'] >> 10} KiB", f"{r[1]['bytes_per_clock']:.1f}", f"{r[1]['gb_per_s']:.0f}"]
        + [f"{r.get(many, r[1])['gb_per_s']:.0f}"]
        for name, r in reads.items()
    ]
    return first + "\n\n" + table(["reads from", "buffer", "bytes a clock", "GB/s, 1 thread", f"{many} threads"], rows)


def kernel_share(result: Result, phase: Result, also: float = 0.0) -> float | None:
    """64 D operations per 16 scores over the machine's peak for the arithmetic; `also`: nanoseconds to add."""
    dots = [d["gops"] for d in result["peak"]["dot"] if (d["type"], d["threads"]) == (phase["arithmetic"], 1)]
    return 64 * phase["D"] / (phase["kernel"] + also) / max(dots) if dots else None


def phases(result: Result) -> str:
    steps = ["prologue", "pack_q", "scores", "softmax", "values", "widen", "store", "kernel"]
    rows = []
    for p in result["phases"]:
        if p["target"] != result["machine"]["target"] and p["D"] != 128:
            continue
        clocks = [f"{p[step] * p['ghz']:.1f}" if p[step] else "" for step in steps]
        shares = [percent(kernel_share(result, p)), percent(kernel_share(result, p, p["prologue"]))]
        rows.append([p["target"], p["arithmetic"], p["D"], *clocks, *shares])
    head = [
        "target",
        "arithmetic",
        "D",
        "prologue",
        "pack q",
        "QK",
        "softmax",
        "PV",
        "widen",
        "store",
        "all but prologue",
    ]
    return table([*head, "of peak", "with prologue"], rows)


def tokens(result: Result, section: str = "tokens") -> str:
    rows = []
    for r in find(result, section):
        figures = [rate(r["results"].get(name)) for name in COLUMNS]
        rows.append([r["D"], r["Lq"], r["H"], *figures, *(over(r, *pair) for pair in RATIOS.values())])
    return table(["D", "N", "heads", *COLUMNS, *RATIOS], rows)


def small(result: Result) -> str:
    rows = []
    for r in find(result, "small"):
        micro = [f"{1e3 * r['results'][name]['ms']:.0f}" for name in COLUMNS]
        rows.append([r["D"], r["Lq"], r["threads"], *micro, *(over(r, *pair) for pair in RATIOS.values())])
    return table(["D", "N", "threads", *COLUMNS, *RATIOS], rows)


def decode(result: Result) -> str:
    names = ["standard", "standard bf16", "torch f32", "torch bf16", "onnxruntime"]
    rows = []
    for r in find(result, "decode"):
        ats = [r["results"].get(name) for name in names]
        figures = [f"{at['gb_per_s']:.1f} ({percent(at['share'])})" if at else "" for at in ats]
        ratios = [over(r, "standard", "torch f32"), over(r, "standard bf16", "torch bf16")]
        heads = f"{r['H']}" if r["H"] == r["Hkv"] else f"{r['H']} on {r['Hkv']}"
        rows.append([r["Lq"], r["Lk"], heads, r["threads"], *figures, *ratios])
    return table(["Lq", "Lk", "heads", "threads", *names, *list(RATIOS)[:2]], rows)


def scaling(result: Result) -> str:
    names = ["standard", "high", "exact"]
    rows = []
    for r in find(result, "scaling"):
        torch = r["results"]["torch f32, 1 thread"]["ms"] / r["results"]["torch f32"]["ms"]
        rows.append(
            [r["D"], r["Lq"], r["H"], r["threads"], *(over(r, n, f"{n}, 1 thread") for n in names), times(torch)]
        )
    return table(["D", "N", "heads", "threads", *names, "torch f32"], rows)


def forced(result: Result) -> str:
    names = ["standard", "high", "exact", "torch f32"]
    rows = []
    for r in result["rows"]:
        if r["section"].startswith("forced/"):
            target = r["section"].partition("/")[2]
            figures = [rate(r["results"][name]) for name in names]
            ratios = [over(r, name, "torch f32") for name in names[:3]]
            rows.append([target, r["D"], r["Lq"], *figures, *(ratios if target == "avx2" else [""] * 3)])
    return table(["target", "D", "N", *names, *(f"{name} / torch f32" for name in names[:3])], rows)


def overhead(result: Result) -> str:
    o = result["overhead"]
    head = ["clary.attention, us", "the C call in it", "Python", "torch's SDPA"]
    return table(head, [[f"{o[key]:.2f}" for key in ("call_us", "c_us", "python_us", "torch_us")]] if o else [])


# ---- bars -------------------------------------------------------------------------------------------------------------


def least(values: Iterable[float | None]) -> float | None:
    return min((v for v in values if v is not None), default=None)


def share(result: Result, name: str, D: int) -> float | None:
    return least(r["results"][name].get("share") for r in find(result, "tokens", D=D, Lq=4096))


def ratio(rows: Iterable[Result], ours: str, theirs: str) -> float | None:
    return least(r["results"].get(ours, {}).get("over", {}).get(theirs) for r in rows)


def kernel(result: Result, D: int) -> float | None:
    mine = [p for p in result["phases"] if p["target"] == result["machine"]["target"]]
    return least(kernel_share(result, p) for p in mine if (p["arithmetic"], p["D"]) == ("int8", D))


def tokens_at(result: Result, D: int) -> list[Result]:
    return find(result, "tokens", D=D, Lq=4096)


BARS: list[tuple[str, float, Callable[[Result], float | None]]] = [
    ("standard, D 128, N 4096, 1 thread, kernel alone: share of the int8 peak", 0.75, lambda r: kernel(r, 128)),
    ("the same from f32 to f32", 0.70, lambda r: share(r, "standard", 128)),
    ("D 64", 0.65, lambda r: share(r, "standard", 64)),
    ("standard over torch f32, D 128, N 4096", 4.2, lambda r: ratio(tokens_at(r, 128), "standard", "torch f32")),
    ("standard over torch bf16, both bf16", 2.0, lambda r: ratio(tokens_at(r, 128), "standard bf16", "torch bf16")),
    ("high over torch f32", 1.9, lambda r: ratio(tokens_at(r, 128), "high", "torch f32")),
    ("exact over torch f32, least of all N >= 512", 1.0, lambda r: ratio(find(r, "tokens"), "exact", "torch f32")),
    (
        "2 threads over 1, N 4096, 8 heads, standard",
        1.9,
        lambda r: ratio(find(r, "scaling", threads=2), "standard", "standard, 1 thread"),
    ),
    (
        "avx2 forced, standard over torch f32 held to AVX2",
        1.5,
        lambda r: ratio(find(r, "forced/avx2"), "standard", "torch f32"),
    ),
    (
        "N 64..512, 1 head: standard over torch f32, least",
        1.0,
        lambda r: ratio(find(r, "small"), "standard", "torch f32"),
    ),
    ("... over torch bf16, both bf16, least", 1.0, lambda r: ratio(find(r, "small"), "standard bf16", "torch bf16")),
    ("... exact over torch f32, least", 1.0, lambda r: ratio(find(r, "small"), "exact", "torch f32")),
    (
        "decode Lq 1, Lk 32k: share of read bandwidth, least of f32 and bf16",
        0.8,
        lambda r: least(
            x["results"][name]["share"]
            for x in find(r, "decode", Lq=1, Lk=32768)
            for name in ("standard", "standard bf16")
        ),
    ),
]


def bars(result: Result) -> str:
    rows = []
    for what, bar, value in BARS:
        got = value(result)
        if got is not None:
            show = percent if "share" in what or bar < 1 else times
            rows.append([what, show(bar), show(got), "met" if round(got, 2) >= bar else "BELOW"])
    return table(["bar", "at least", "measured", ""], rows, left=1)


# ---- output -----------------------------------------------------------------------------------------------------------

SECTIONS: dict[str, tuple[str, Callable[[Result], str]]] = {
    "machine": ("machine", about),
    "peaks": ("peaks", peaks),
    "phases": ("phases: clocks per 16 scores", phases),
    "tokens": ("one head, one thread: GOPS (share of the peak of its type)", tokens),
    "causal": ("causal: GOPS", lambda r: tokens(r, "causal")),
    "small": ("small: microseconds a call", small),
    "heads": ("heads, all threads: GOPS", lambda r: tokens(r, "heads")),
    "decode": ("decode: GB/s of K and V (share of the read bandwidth)", decode),
    "scaling": ("scaling: all threads over one", scaling),
    "forced": ("forced targets: GOPS (share of the peak of its instruction)", forced),
    "overhead": ("Python", overhead),
    "bars": ("bars", bars),
}


def text(result: Result) -> str:
    made = ((title, make(result)) for title, make in SECTIONS.values())
    return "\n\n".join(f"{title}\n\n{body}" for title, body in made if body)


def plot(result: Result, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"standard": "#2f7d4f", "high": "#5aa9c9", "exact": "#8a6fb0"}
    colours |= {"torch f32": "#d98032", "torch bf16": "#b5482a", "onnxruntime": "#8c8c8c"}
    dims = sorted({r["D"] for r in find(result, "tokens")})
    figure, axes = plt.subplots(1, len(dims), figsize=(3.1 * len(dims), 3.4), sharey=True, squeeze=False)
    peak = max(d["gops"] for d in result["peak"]["dot"] if d["threads"] == 1)
    for axis, D in zip(axes[0], dims):
        rows = sorted(find(result, "tokens", D=D), key=lambda r: r["Lq"])
        for name, colour in colours.items():
            style = "-o" if name in ("standard", "high", "exact") else "--s"
            y = [r["results"][name]["gops"] for r in rows]
            axis.plot([r["Lq"] for r in rows], y, style, color=colour, markersize=3.5, linewidth=1.6, label=name)
        axis.axhline(peak, color="#444444", linewidth=0.8, linestyle=":")
        axis.set_xscale("log", base=2)
        axis.set_xticks([r["Lq"] for r in rows][::2], [f"{r['Lq'] / 1024:g}k" for r in rows][::2])
        axis.set_title(f"head_dim {D}", fontsize=10)
        axis.set_xlabel("tokens", fontsize=9)
        axis.set_ylim(0, 1.08 * peak)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[0][0].text(rows[0]["Lq"], 1.02 * peak, "int8 peak, measured", fontsize=7.5, color="#444444")
    axes[0][0].set_ylabel("GOPS, one thread", fontsize=9)
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=len(colours), fontsize=8.5, frameon=False
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=110)


def write_docs(result: Result, docs: Path, source: Path) -> None:
    """Replaces what stands between <!-- begin NAME --> and <!-- end NAME --> in cpu-bench.md, and draws the plot."""
    path = docs / "cpu-bench.md"
    bodies = {name: make(result) for name, (_, make) in SECTIONS.items()}
    bodies["source"] = f"`{source}`"
    fill(path, bodies)
    plot(result, docs / "images" / "cpu-bench.png")
