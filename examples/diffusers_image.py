"""A picture by a diffusers pipeline on clary: python examples/diffusers_image.py [--model NAME] [--prompt TEXT] [--out FILE]

Without --model, a small random Flux, so that nothing is downloaded.
"""

from __future__ import annotations

import argparse
import sys

import clary

clary.enable("diffusers")  # before or after diffusers is imported

import torch  # noqa: E402
from diffusers import (  # noqa: E402
    AutoencoderKL,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)


def small_flux() -> FluxPipeline:
    sizes = {"attention_head_dim": 64, "num_attention_heads": 2, "num_layers": 1, "num_single_layers": 2}
    text = {"joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": [16, 24, 24]}
    return FluxPipeline(
        transformer=FluxTransformer2DModel(in_channels=16, **sizes, **text).eval(),
        vae=AutoencoderKL(norm_num_groups=8, block_out_channels=(16,), shift_factor=0.0).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--prompt", default="a sage in a meadow, oil on canvas")
    parser.add_argument("--out", default="out.png")
    asked = parser.parse_args(args)
    if asked.model:
        pipeline, words = DiffusionPipeline.from_pretrained(asked.model), {"prompt": asked.prompt}
    else:
        pipeline = small_flux()
        words = {"prompt_embeds": torch.randn(1, 40, 32), "pooled_prompt_embeds": torch.randn(1, 32)}
        words |= {"height": 32, "width": 32, "num_inference_steps": 4}

    pipeline.transformer.set_attention_backend("clary")  # or clary_high, clary_exact, clary_fast
    pipeline(**words).images[0].save(asked.out)
    print(clary.stats())  # where every call of attention went


if __name__ == "__main__":
    main(sys.argv[1:])
