"""The model bench: whole passes of diffusers and transformers networks on clary, beside the same on torch's attention.

Speed: networks of one or two layers in the sizes of published ones, random weights; torch's attention and clary's run in
turn, one thread by the process's CPU clock, and a ratio is the median over the rounds of torch's time over clary's within
the round. Accuracy: the small networks and pipelines of tests/models, which tests hold to bounds.

    ./dev bench models [--only SUBSTRING] [--rounds N] [--json FILE]     measure
    ./dev bench models --docs FILE                                       tables of docs/{transformers,diffusers}.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/models"), str(ROOT / "tests/python")]
os.environ |= {"OMP_NUM_THREADS": "1", "CLARY_THREADS": "1", "HF_HUB_OFFLINE": "1"}
warnings.filterwarnings("ignore")

import clary  # noqa: E402

clary.enable("transformers", "diffusers")

import diffusers as D  # noqa: E402
import pipelines  # noqa: E402
import torch  # noqa: E402
import transformers as T  # noqa: E402
import zoo  # noqa: E402
from lib import report  # noqa: E402

ACCURACIES = {"exact": "clary_exact", "high": "clary_high", "standard": "clary"}

# ---- speed ------------------------------------------------------------------------------------------------------------

Run = Callable[[str], None]  # of an accuracy, or "torch"


def llama(dtype: torch.dtype) -> Run:
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_key_value_heads": 4}
    config = T.LlamaConfig(vocab_size=256, num_hidden_layers=1, max_position_embeddings=8192, **sizes)
    return by_implementation(T.LlamaForCausalLM(config).model, dtype, input_ids=zoo.ids(1, 4096))


def vit(dtype: torch.dtype) -> Run:
    config = T.ViTConfig(num_hidden_layers=1, image_size=512, patch_size=16)
    return by_implementation(T.ViTModel(config), dtype, pixel_values=zoo.noise(1, 3, 512, 512).to(dtype))


def by_implementation(network: Any, dtype: torch.dtype, **inputs: Any) -> Run:
    network = network.eval().to(dtype)

    def run(accuracy: str) -> None:
        network.set_attn_implementation(ACCURACIES.get(accuracy, "sdpa"))
        network(**inputs)

    return run


def unet(dtype: torch.dtype) -> Run:
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    sizes = {"block_out_channels": (320,), "attention_head_dim": 8, "cross_attention_dim": 768, "layers_per_block": 1}
    network = D.UNet2DConditionModel(sample_size=64, **blocks, **sizes).eval().to(dtype)
    inputs = zoo.noise(1, 4, 64, 64).to(dtype), 10, zoo.noise(1, 77, 768).to(dtype)

    def run(accuracy: str) -> None:
        if accuracy == "torch":
            network(*inputs)
        else:
            with clary.enable("sdpa", accuracy=accuracy):
                network(*inputs)

    return run


def by_backend(network: Any, dtype: torch.dtype, **inputs: Any) -> Run:
    network = network.eval().to(dtype)
    inputs = {name: x.to(dtype) if torch.is_floating_point(x) else x for name, x in inputs.items()}

    def run(accuracy: str) -> None:
        network.set_attention_backend(ACCURACIES.get(accuracy, "native"))
        network(**inputs)

    return run


def flux(dtype: torch.dtype) -> Run:
    network = D.FluxTransformer2DModel(num_layers=1, num_single_layers=1, num_attention_heads=6)
    ids, text = torch.zeros(4096, 3), torch.zeros(512, 3)
    inputs = {"hidden_states": zoo.noise(1, 4096, 64), "encoder_hidden_states": zoo.noise(1, 512, 4096)}
    inputs |= {"pooled_projections": zoo.noise(1, 768), "timestep": torch.ones(1), "img_ids": ids, "txt_ids": text}
    return by_backend(network, dtype, **inputs)


def wan(dtype: torch.dtype) -> Run:
    network = D.WanTransformer3DModel(num_attention_heads=6, num_layers=1, ffn_dim=3072)
    inputs = {"hidden_states": zoo.noise(1, 16, 5, 64, 64), "encoder_hidden_states": zoo.noise(1, 512, 4096)}
    return by_backend(network, dtype, **inputs, timestep=torch.ones(1, dtype=torch.long))


SPEED = {
    "llama": ("Llama: 1 layer of 16:4 heads, causal", "4096", 64, llama),
    "vit": ("ViT-B: 1 layer of 12 heads", "1025", 64, vit),
    "unet": ("Stable Diffusion 1.5: first block, 8 heads", "4096", 40, unet),
    "flux": ("Flux: 1 double and 1 single layer, 6 of 24 heads", "4608", 128, flux),
    "wan": ("Wan 14B: 1 layer, 6 of 40 heads", "5120", 128, wan),
}


@torch.no_grad()
def speed(name: str, rounds: int) -> list[dict[str, Any]]:
    title, tokens, head_dim, build = SPEED[name]
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        run = build(dtype)
        seconds: dict[str, list[float]] = {"torch": [], **{accuracy: [] for accuracy in ACCURACIES}}
        for turn in range(rounds + 1):
            for accuracy, spent in seconds.items():
                begin = time.process_time()
                run(accuracy)
                if turn:  # the first warms up
                    spent.append(time.process_time() - begin)
        over = {a: statistics.median(t / s for t, s in zip(seconds["torch"], seconds[a])) for a in ACCURACIES}
        row = {"name": name, "title": title, "tokens": tokens, "D": head_dim, "dtype": str(dtype)[6:], "over": over}
        found.append(row | {"seconds": statistics.median(seconds["torch"])})
        print(found[-1], file=sys.stderr, flush=True)
    return found


# ---- accuracy ---------------------------------------------------------------------------------------------------------


def outputs(name: str) -> dict[str, Any]:
    want = zoo.run(name, zoo.CASES[name].reference)
    errors = {a: zoo.error(zoo.run(name, word), want) for a, word in ACCURACIES.items()}
    return {"name": name, "title": zoo.CASES[name].model, "error": errors}


def pictures(name: str) -> dict[str, Any]:
    want, db = pipelines.picture(name), {}
    for accuracy in ACCURACIES:
        with pipelines.on_clary(name, accuracy):
            db[accuracy] = pipelines.psnr(pipelines.picture(name), want)
    return {"name": name, "title": type(pipelines.make(name)[0]).__name__, "psnr": db}


# ---- tables -----------------------------------------------------------------------------------------------------------

OURS = {"transformers": ("llama", "vit"), "diffusers": ("unet", "flux", "wan")}


def speed_table(rows: list[dict[str, Any]]) -> str:
    head = ["network", "tokens", "D", "dtype", *ACCURACIES]
    lines = [
        [r["title"], r["tokens"], r["D"], r["dtype"], *(report.times(r["over"][a]) for a in ACCURACIES)] for r in rows
    ]
    return report.table(head, lines, left=1)


def tables(result: dict[str, Any], package: str) -> dict[str, str]:
    kind, style = ("outputs", "{:.1e}") if package == "transformers" else ("pictures", "{:.0f} dB")
    value = "error" if package == "transformers" else "psnr"
    lines = [[r["title"], *(style.format(r[value][a]) for a in ACCURACIES)] for r in result[kind]]
    return {
        "source": f"`{result['command']}` on {result['machine']}",
        "speed": speed_table([r for r in result["speed"] if r["name"] in OURS[package]]),
        "accuracy": report.table(["", *ACCURACIES], lines, left=1),
    }


def machine() -> str:
    name = clary.info()["cpu"]["name"].strip()
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, D, T, clary))
    return f"{name}, one thread, {versions}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="of a network's name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--docs", metavar="FILE")
    args = parser.parse_args()
    if args.docs:
        result = json.loads(Path(args.docs).read_text())
        for package in OURS:
            report.fill(ROOT / f"docs/{package}.md", tables(result, package))
        return 0
    torch.set_num_threads(1)
    result = {"machine": machine(), "command": report.command("models")}
    result["outputs"] = [outputs(name) for name in zoo.CASES if args.only in name]
    result["pictures"] = [pictures(name) for name in pipelines.PIPELINES if args.only in name]
    result["speed"] = [row for name in SPEED if args.only in name for row in speed(name, args.rounds)]
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    for package in OURS:
        print(*tables(result, package).values(), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
