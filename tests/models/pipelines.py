"""Small random diffusers pipelines, made here, and the pictures they make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import diffusers as D
import numpy as np
import torch
from zoo import noise

import clary

V042 = tuple(int(n) for n in D.__version__.split(".")[:2]) >= (0, 42)
STEPS = 2


class Pipeline(NamedTuple):
    build: Any
    inputs: dict[str, Any]
    by_name: bool  # its attention goes through the dispatcher, in this version; else to torch's SDPA
    calls: int  # of attention in one pass of the network


def picture_vae(**settings: Any) -> Any:
    sizes = {"block_out_channels": (16, 32), "norm_num_groups": 8, "sample_size": 64, "latent_channels": 4}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return D.AutoencoderKL(**sizes, **blocks, **settings)


def unet() -> Any:
    """Stable Diffusion 1.5's head dimensions: 40, 80, 160."""
    network = D.UNet2DConditionModel(
        sample_size=32, layers_per_block=1, block_out_channels=(80, 160, 320), attention_head_dim=2,  # heads
        down_block_types=("CrossAttnDownBlock2D",) * 3, up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=32, norm_num_groups=16,
    )  # fmt: skip
    return D.StableDiffusionPipeline(
        vae=picture_vae(), text_encoder=None, tokenizer=None, unet=network, scheduler=D.EulerDiscreteScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def dit() -> Any:
    network = D.DiTTransformer2DModel(
        sample_size=32, num_layers=2, patch_size=2, attention_head_dim=72, num_attention_heads=2, in_channels=4,
        out_channels=8, num_embeds_ada_norm=1000, norm_elementwise_affine=False,
    )  # fmt: skip
    return D.DiTPipeline(transformer=network, vae=picture_vae(), scheduler=D.DDIMScheduler())


def flux() -> Any:
    network = D.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=64, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[16, 24, 24],
    )  # fmt: skip
    return D.FluxPipeline(
        transformer=network, vae=picture_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        scheduler=D.FlowMatchEulerDiscreteScheduler(),
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip


def wan() -> Any:
    network = D.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=48, in_channels=16, out_channels=16, text_dim=32,
        freq_dim=64, ffn_dim=64, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )  # fmt: skip
    vae = D.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    scheduler = D.FlowMatchEulerDiscreteScheduler(shift=7.0)
    return D.WanPipeline(transformer=network, vae=vae, scheduler=scheduler, text_encoder=None, tokenizer=None)


def hunyuan() -> Any:
    network = D.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=32, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=16,
        pooled_projection_dim=8, rope_axes_dim=(8, 12, 12),
    )  # fmt: skip
    vae = D.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        mid_block_add_attention=False,
    )  # fmt: skip
    return D.HunyuanVideoPipeline(
        transformer=network, vae=vae, scheduler=D.FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip


def text(tokens: int, channels: int, **others: Any) -> dict[str, Any]:
    return {"prompt_embeds": noise(1, tokens, channels), **others}


UNCOND, SMALL = {"negative_prompt_embeds": noise(1, 77, 32, seed=1)}, {"height": 48, "width": 48}
CLIP = {"height": 96, "width": 96, "num_frames": 9}
PADDED = {"prompt_attention_mask": (torch.arange(64) < 40).long()[None]}

PIPELINES = {
    "unet": Pipeline(unet, text(77, 32, **UNCOND, **SMALL), False, 20),
    "dit": Pipeline(dit, {"class_labels": [3]}, False, 2),
    "flux": Pipeline(flux, text(48, 32, pooled_prompt_embeds=noise(1, 32), **SMALL), True, 3),
    "wan": Pipeline(wan, text(77, 32, **UNCOND, **CLIP), True, 8),
    "hunyuan": Pipeline(hunyuan, text(64, 16, pooled_prompt_embeds=noise(1, 8), **PADDED, **CLIP), V042, 2),
}


@lru_cache(maxsize=None)
def make(name: str) -> tuple[Any, Any]:
    """The pipeline and its network. Wide weights of q and k: attention is peaked, as trained attention is."""
    torch.manual_seed(0)
    pipeline = PIPELINES[name].build()
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    network = getattr(pipeline, "unet", None) or pipeline.transformer
    factors = {"to_q.weight": 2.5, "to_k.weight": 2.5, "add_q_proj.weight": 2.5, "add_k_proj.weight": 2.5}
    factors |= {"norm_q.weight": 1.5, "norm_k.weight": 1.5}  # scores of a standard deviation near 2
    for weight, value in network.named_parameters():
        value.data *= next((factor for end, factor in factors.items() if weight.endswith(end)), 1)
    return pipeline, network


def picture(name: str) -> np.ndarray:
    """In 0..1."""
    pipeline, _ = make(name)
    words = {"num_inference_steps": STEPS, "generator": torch.Generator().manual_seed(2), "output_type": "np"}
    answer = pipeline(**PIPELINES[name].inputs, **words)
    return np.asarray(answer.images if hasattr(answer, "images") else answer.frames)


@contextmanager
def on_clary(name: str, accuracy: str) -> Iterator[None]:
    """By set_attention_backend where the network has a dispatcher, else in the place of torch's SDPA."""
    _, network = make(name)
    if PIPELINES[name].by_name:
        network.set_attention_backend(f"clary_{accuracy}" if accuracy != "standard" else "clary")
        yield
        network.set_attention_backend("native")
    else:
        with clary.enable("sdpa", accuracy=accuracy):
            yield


def psnr(got: np.ndarray, want: np.ndarray) -> float:
    """dB of pictures in 0..1."""
    return float(-10 * np.log10(max(((got - want) ** 2).mean(), 1e-20)))
