"""Attention as non-local means: a photograph, noise, and every pixel rebuilt from all 65,536 others.

q = k = the pixel's 5 x 5 x 3 patch and v = the pixel, so softmax(scale q k^T) v is the mean of all pixels weighted by how much
their patches look alike. The same call three times: clary's `exact` (f32), clary's `standard` (int8), torch's SDPA. Prints time,
speed-up, error against f64 and PSNR, and writes one picture.

    python examples/demo.py [--photo FILE] [--size PIXELS] [--out FILE] [--json] [--torch]
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import clary

ROOT = Path(__file__).resolve().parent.parent
SIGMA = 25 / 255  # of the noise
BANDWIDTH = 0.16  # of the kernel, in units of the distance that noise alone puts between two patches
RADIUS, SPREAD = 2, 1.0  # of a patch: pixels either side, standard deviation of its Gaussian weights
PATIENCE = 60.0  # seconds: torch gets fewer queries, and says so, where all would take longer
CHECKED = 512  # rows compared with f64


def photograph(path: Path | None, size: int) -> np.ndarray:
    """[size, size, 3] floats in [0, 1]: the middle of the top of the photograph, its short side scaled to 1.5 size."""
    if path is None:
        import matplotlib

        path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"  # public domain: US Navy
    image = Image.open(path).convert("RGB")
    scale = 1.5 * size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    left = (image.width - size) // 2
    return np.asarray(image.crop((left, 0, left + size, size)), np.float32) / 255


def patch_vectors(image: np.ndarray) -> np.ndarray:
    """[pixels, 76]: Gaussian-weighted patches x and one more channel that puts them all on one sphere.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, so on a sphere the dot product orders by distance: no bias is needed.
    """
    height, width, _ = image.shape
    window = range(2 * RADIUS + 1)
    weight = np.exp(-((np.arange(-RADIUS, RADIUS + 1) / SPREAD) ** 2) / 2)
    weight /= weight.sum()
    padded = np.pad(image, ((RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)), mode="reflect")
    shifted = [np.sqrt(weight[i] * weight[j]) * padded[i : i + height, j : j + width] for i in window for j in window]
    x = np.concatenate(shifted, axis=-1).reshape(height * width, -1)
    x -= x.mean(axis=0)
    norm = (x * x).sum(axis=1)
    return np.column_stack([x, np.sqrt(norm.max() - norm)]).astype(np.float32)


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2)))


def exact_rows(x: np.ndarray, v: np.ndarray, scale: float, rows: np.ndarray) -> np.ndarray:
    """Attention of some rows in f64."""
    k, values, out = x.astype(np.float64), v.astype(np.float64), []
    for part in np.array_split(rows, max(1, len(rows) // 64)):
        scores = k[part] @ k.T * scale
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        out.append(p @ values / p.sum(axis=1, keepdims=True))
    return np.concatenate(out)


# ---- running ----------------------------------------------------------------------------------------------------------

Attend = Callable[[slice], np.ndarray]  # the output rows of a slice of queries


class Bar:
    """Progress on stderr of a call that reports none: elapsed time over a forecast."""

    def __init__(self, label: str, forecast: float) -> None:
        self.label, self.forecast, self.begin = label, forecast, time.perf_counter()
        self.live, self.done = sys.stderr.isatty(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while self.live and not self.done.wait(0.1):
            elapsed = time.perf_counter() - self.begin
            filled = min(20, int(20 * elapsed / self.forecast))
            print(
                f"\r{self.label:<16} [{'#' * filled}{'.' * (20 - filled)}] {elapsed:5.1f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> Bar:
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        elapsed = time.perf_counter() - self.begin
        self.done.set()
        self.thread.join()
        print(
            f"{chr(13) if self.live else ''}{self.label:<16} [{'#' * 20}] {elapsed:5.1f} s", file=sys.stderr, flush=True
        )


def timed(label: str, attend: Attend, n: int, patience: float = float("inf")) -> tuple[np.ndarray, float, int]:
    """The rows that were computed, the seconds all n take, and how many rows were computed."""
    few = slice(0, max(1, n // 32))
    attend(few)  # threads, pages, caches
    begin = time.perf_counter()
    attend(few)
    forecast = (time.perf_counter() - begin) * n / few.stop
    count = n if forecast <= patience else max(few.stop, int(n * patience / forecast))
    with Bar(label, forecast * count / n):
        begin = time.perf_counter()
        out = attend(slice(0, count))
        seconds = time.perf_counter() - begin
    return out, seconds * n / count, count


def with_clary(x: np.ndarray, v: np.ndarray, scale: float, accuracy: str) -> Attend:
    q, values = x[None, None], v[None, None]
    return lambda rows: clary.attention(q[:, :, rows], q, values, scale=scale, accuracy=accuracy)[0, 0]


def with_torch(x: np.ndarray, v: np.ndarray, scale: float) -> Attend:
    """v padded with zeros to q's width: only so does SDPA take its fused kernel, twice as fast as its other ways here."""
    import torch

    q = torch.from_numpy(x)[None, None]
    values = torch.nn.functional.pad(torch.from_numpy(v)[None, None], (0, x.shape[1] - v.shape[1]))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return lambda rows: sdpa(q[:, :, rows], q, values, scale=scale)[0, 0, :, :3].numpy()


# ---- showing ----------------------------------------------------------------------------------------------------------


def picture(panels: list[tuple[str, str, np.ndarray]], path: Path) -> None:
    """Panels side by side, a caption of two lines under each."""
    side, gap, foot = panels[0][2].shape[0], 8, 46
    sheet = Image.new("RGB", (len(panels) * (side + gap) - gap, side + foot), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for i, (title, line, image) in enumerate(panels):
        x = i * (side + gap)
        sheet.paste(Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)), (x, 0))
        for at, text in ((5, title), (24, line)):
            draw.text((x + (side - draw.textlength(text, font)) / 2, side + at), text, "black", font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def table(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    places = [str.ljust] + [str.rjust] * (len(widths) - 1)
    return "\n".join("  ".join(put(c, w) for put, c, w in zip(places, row, widths)).rstrip() for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./dev demo", description="denoise a photograph by attention over all its pixels"
    )
    parser.add_argument(
        "--photo", type=Path, metavar="FILE", help="your own picture instead of the one matplotlib ships"
    )
    parser.add_argument(
        "--size", type=int, default=256, metavar="PIXELS", help="side of the square; its square is the tokens"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build/demo.png", metavar="FILE", help="the picture (build/demo.png)"
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON on stdout")
    parser.add_argument(
        "--torch", action="store_true", help="fail where torch is missing (./dev demo --torch installs it)"
    )
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        torch = None  # type: ignore[assignment]
        if args.torch:
            raise

    clean = photograph(args.photo, args.size)
    noisy = clean + np.random.default_rng(0).normal(0, SIGMA, clean.shape).astype(np.float32)
    x, v = patch_vectors(noisy), noisy.reshape(-1, 3)
    n, width = x.shape
    scale = 1 / (BANDWIDTH * 2 * 3 * SIGMA**2)
    rows = np.sort(np.random.default_rng(1).choice(n, min(n, CHECKED), replace=False))
    threads = clary.info()["cpu"]["threads"]
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    say(
        f"{args.size} x {args.size} pixels: attention of {n} queries over {n} keys, head_dim {width}, {threads} threads"
    )

    ways: dict[str, tuple[Attend, float]] = {
        word: (with_clary(x, v, scale, word), float("inf")) for word in ("exact", "standard")
    }
    if torch is not None:
        torch.set_num_threads(threads)
        ways["torch SDPA"] = with_torch(x, v, scale), PATIENCE
    outputs, figures = {}, {}
    for name, (attend, patience) in ways.items():
        out, seconds, count = timed(name, attend, n, patience)
        outputs[name] = out
        figures[name] = {"seconds": seconds, "rows_computed": count}
    with Bar(f"f64, {len(rows)} rows", 3):
        truth = exact_rows(x, v, scale, rows)
    base = "torch SDPA" if torch is not None else "exact"
    for name, out in outputs.items():
        have = rows < len(out)
        error = out[rows[have]] - truth[have]
        at = figures[name]
        at["speedup"] = figures[base]["seconds"] / at["seconds"]
        at["relative_error"] = float(np.linalg.norm(error) / np.linalg.norm(truth[have]))
        at["largest_error"] = float(np.abs(error).max())
        if len(out) == n:
            at["psnr"] = psnr(out.reshape(clean.shape), clean)

    images = {name: outputs[name].reshape(clean.shape) for name in ("exact", "standard")}
    difference = images["standard"] - images["exact"]
    captions = {name: f"{figures[name]['psnr']:.2f} dB, {figures[name]['seconds']:.1f} s" for name in images}
    panels = [("noisy", f"{psnr(noisy, clean):.2f} dB", noisy)]
    panels += [(f"clary, {name}", captions[name], image) for name, image in images.items()]
    rms = 255 * float(np.sqrt(np.mean(difference**2)))
    panels.append(("difference x 16", f"rms {rms:.2f} of 255 levels", 0.5 + 16 * difference))
    picture(panels, args.out)

    if args.json:
        shape = {
            "tokens": n,
            "head_dim": width,
            "threads": threads,
            "checked_rows": len(rows),
            "noisy_psnr": psnr(noisy, clean),
        }
        print(json.dumps({**shape, "picture": str(args.out), "results": figures}, indent=1))
        return 0
    lines = [["", "time", f"over {base}", f"error to f64 ({len(rows)} rows)", "largest, of 255 levels", "PSNR"]]
    lines.append(["noisy", "", "", "", "", f"{psnr(noisy, clean):.2f} dB"])
    for name, at in figures.items():
        label = f"{name}, f32, {threads} threads" if name.startswith("torch") else f"clary, {name}"
        numbers = [f"{at['seconds']:.2f} s", f"{at['speedup']:.2f}x", f"{at['relative_error']:.1e}"]
        quality = f"{at['psnr']:.2f} dB" if "psnr" in at else f"({at['rows_computed']} rows run, time scaled)"
        lines.append([label, *numbers, f"{255 * at['largest_error']:.3f}", quality])
    print(table(lines))
    if torch is None:
        print("torch's SDPA: not installed. ./dev demo --torch installs it into .venv (3 GB)")
    path = args.out.resolve()
    print(f"picture: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
