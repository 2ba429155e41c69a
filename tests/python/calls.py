"""Calls as projects make them, one row each: where the call stands, the call, the shapes it gets there, and what it means.

A row is cited as "owner/name path" on GitHub; READ_AT names the commit at which that file was read, so that anyone can find
the call there. `call` gets the function and a namespace of inputs (`Inputs` of test_calls.py says which): the words, their
order and their positions are the project's, the sizes ours. A call that a project makes on views of tensors in another
layout is made on such views. `means` is the same in the words of the float64 reference, and `layout` how q, k and v lie.
A refused call raises what `refused` names; it is cited by the signature that it breaks, or by the program that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple


class Shape(NamedTuple):
    """Of one problem; dtype is a word of tests/numerics.def."""

    B: int
    Hq: int
    Hkv: int
    Lq: int
    Lk: int
    D: int
    dtype: str = "bf16"

    def __str__(self) -> str:
        return f"{self.B}x{self.Hq}:{self.Hkv}x{self.Lq}:{self.Lk}x{self.D}-{self.dtype}"


@dataclass
class Row:
    where: str
    function: str  # package.module:name
    call: Callable[[Any, Any], Any]
    shapes: tuple[Shape, ...]
    layout: str = "HND"  # or NHD, or packed
    means: dict[str, Any] = field(
        default_factory=dict
    )  # causal, scale, mask ("bool", "float"), window, lse, blocks, same_lengths, random
    accuracy: str = "standard"
    by_torch: str | None = None  # why torch's SDPA serves it, where it does
    refused: type[Exception] | None = None


S = Shape
VIDEO = (S(1, 3, 3, 330, 330, 128), S(2, 2, 2, 257, 257, 128, "f16"))
CROSS = (S(2, 4, 4, 300, 77, 64, "f16"), S(1, 3, 3, 200, 512, 128))
SD15 = (S(2, 8, 8, 256, 256, 40, "f16"), S(2, 8, 8, 256, 77, 80, "f16"), S(2, 8, 8, 64, 64, 160, "f16"))
SDXL = (S(2, 5, 5, 256, 256, 64, "f16"), S(2, 5, 5, 256, 77, 64, "f16"))
FLUX = (S(1, 4, 4, 320, 320, 128),)
GQA = (S(1, 7, 1, 200, 200, 128), S(1, 8, 2, 130, 130, 64, "f16"))
F32 = (S(1, 2, 2, 200, 200, 64, "f32"),)
PACKED = (S(1, 4, 4, 300, 300, 128), S(1, 6, 2, 260, 180, 64, "f16"))
HEAD_SIZES = tuple(S(1, 2, 2, 150, 150, d) for d in (32, 64, 96, 128, 160, 192, 224, 256))

SAGE = "sageattention:sageattn"
FP16, TRITON = "sageattention:sageattn_qk_int8_pv_fp16_cuda", "sageattention:sageattn_qk_int8_pv_fp16_triton"
FP8, SM90 = "sageattention:sageattn_qk_int8_pv_fp8_cuda", "sageattention:sageattn_qk_int8_pv_fp8_cuda_sm90"
VARLEN = "sageattention:sageattn_varlen"
SAGE3, BLACKWELL = "sageattn3:sageattn3_blackwell", "sageattn:sageattn_blackwell"
ACCURACY = {
    SAGE: "standard",
    FP8: "standard",
    SM90: "standard",
    FP16: "high",
    TRITON: "high",
}  # the five on dense tensors

READ_AT = {
    "Comfy-Org/ComfyUI": "05080f6, attn_mask always given at a125cd8",
    "Enemyx-net/VibeVoice-ComfyUI": "9185f53",
    "Haoming02/sd-webui-forge-classic": "1f95d71",
    "KingKrab23/comfyui-wan22-docker": "1472a95",
    "MeiGen-AI/InfiniteTalk": "0107cd9",
    "ModelTC/LightX2V": "f8aee98",
    "Tencent-Hunyuan/Hunyuan3D-2": "9bcf302",
    "Tencent-Hunyuan/HunyuanVideo-1.5": "60783e7",
    "aigc-apps/VideoX-Fun": "804a425",
    "axolotl-ai-cloud/axolotl": "067b021",
    "bghira/SimpleTuner": "bc8e6ab",
    "blepping/ComfyUI-bleh": "b889683",
    "daydreamlive/scope": "68b0f95",
    "deepbeepmeep/Wan2GP": "8681e9f",
    "feifeibear/long-context-attention": "56118e0",
    "hao-ai-lab/FastVideo": "2f3d407",
    "huggingface/diffusers": "58eb52c",
    "huggingface/transformers": "00c238b",
    "kandinskylab/kandinsky-5": "6e2a805",
    "kijai/ComfyUI-HunyuanVideoWrapper": "3ce9640",
    "kijai/ComfyUI-KJNodes": "3f20054",
    "kijai/ComfyUI-WanVideoWrapper": "721cd65",
    "kohya-ss/musubi-tuner": "30c658c",
    "lllyasviel/FramePack": "97fe5db",
    "mit-han-lab/radial-attention": "72788d4",
    "modelscope/DiffSynth-Studio": "fed7b18",
    "numz/ComfyUI-SeedVR2_VideoUpscaler": "4490bd1",
    "sgl-project/sglang": "0fc1a4f, sage_attn3.py at 09271eb",
    "thu-ml/SageAttention": "d1a57a5",
    "thu-ml/SpargeAttn": "bfd980b",
    "vllm-project/vllm-omni": "094296c",
    "xdit-project/xDiT": "175e0bf",
}

COMFY = "Comfy-Org/ComfyUI comfy/ldm/modules/attention.py"
KJ = "kijai/ComfyUI-KJNodes nodes/model_optimization_nodes.py"
DIFFUSERS = "huggingface/diffusers src/diffusers/models/attention_dispatch.py"
PROCESSOR = "huggingface/diffusers src/diffusers/models/attention_processor.py"
YUNCHANG = "feifeibear/long-context-attention yunchang/ring/ring_flash_attn.py"
WAN2GP = "deepbeepmeep/Wan2GP shared/attention.py"
LIGHTX2V = "ModelTC/LightX2V lightx2v/common/ops/attn/sage_attn.py"
OMNI = "vllm-project/vllm-omni vllm_omni/diffusion/attention/backends/sage_attn.py"
SGLANG = "sgl-project/sglang python/sglang/multimodal_gen/runtime/layers/attention/backends/sage_attn.py"
MUSUBI = "kohya-ss/musubi-tuner src/musubi_tuner/"
AXOLOTL = "axolotl-ai-cloud/axolotl src/axolotl/monkeypatch/attention/sage_attn.py"
SEEDVR2 = "numz/ComfyUI-SeedVR2_VideoUpscaler src/optimization/compatibility.py"
UPSTREAM = "thu-ml/SageAttention sageattention/core.py"
SPARGE = "thu-ml/SpargeAttn spas_sage_attn/core.py"


def _on_views(f: Any, t: Any, **words: Any) -> Any:
    """f on heads-first views of heads-last tensors, and back, as programs have it whose tensors are [B, L, H, D]."""
    return f(*(x.transpose(1, 2) for x in (t.q, t.k, t.v)), **words).transpose(1, 2).contiguous()


def _comfy() -> Iterator[Row]:
    for layout, shapes in (("HND", SD15 + VIDEO), ("NHD", SDXL + FLUX + CROSS + F32)):
        yield Row(
            COMFY, SAGE,
            lambda f, t, layout=layout: f(t.q, t.k, t.v, is_causal=False, tensor_layout=layout, sm_scale=None, smooth_k=False),
            shapes, layout,
        )  # fmt: skip
        for mask in ("bool", "float"):
            yield Row(
                COMFY, SAGE,
                lambda f, t, layout=layout: f(
                    t.q, t.k, t.v, is_causal=False, tensor_layout=layout, sm_scale=0.11, smooth_k=False, attn_mask=t.mask
                ),
                CROSS, layout, {"mask": mask, "scale": 0.11},
            )  # fmt: skip
        yield Row(
            COMFY, SAGE,
            lambda f, t, layout=layout: f(t.q, t.k, t.v, attn_mask=t.mask, is_causal=False, tensor_layout=layout),
            CROSS[:1], layout, {"mask": "bool"},
        )  # fmt: skip
    long = (S(1, 2, 2, 1040, 1040, 128), S(1, 2, 2, 1100, 1100, 64, "f16"))  # it asks for more than 1024 tokens
    yield Row(COMFY, SAGE3, lambda f, t: f(t.q, t.k, t.v, is_causal=False), long, accuracy="fast")
    yield Row(
        "Haoming02/sd-webui-forge-classic ldm_patched/ldm/modules/attention.py", SAGE,
        lambda f, t: f(t.q, t.k, t.v, attn_mask=t.mask, is_causal=False, tensor_layout="NHD"), SDXL, "NHD",
    )  # fmt: skip
    for mask in (None, "bool"):
        yield Row(
            "blepping/ComfyUI-bleh py/nodes/sageAttention.py", SAGE,
            lambda f, t: f(t.q, t.k, t.v, is_causal=False, dropout_p=0.0, attn_mask=t.mask, tensor_layout="NHD", sm_scale=0.2),
            CROSS, "NHD", {"scale": 0.2} | ({"mask": mask} if mask else {}),
        )  # fmt: skip


def _kjnodes() -> Iterator[Row]:
    modes: list[tuple[str, dict[str, Any]]] = [
        (SAGE, {}),
        (FP16, {"pv_accum_dtype": "fp32"}),
        (TRITON, {}),
        (FP8, {"pv_accum_dtype": "fp32+fp32"}),
        (FP8, {"pv_accum_dtype": "fp32+fp16"}),
    ]
    for function, words in modes:
        for layout in ("HND", "NHD"):
            for mask in (None, "bool"):
                yield Row(
                    KJ, function,
                    lambda f, t, layout=layout, words=words: f(
                        t.q, t.k, t.v, is_causal=False, attn_mask=t.mask, tensor_layout=layout, **words
                    ),
                    (VIDEO[0], CROSS[0]) if mask is None else CROSS[:1], layout, {"mask": mask} if mask else {},
                    ACCURACY[function],
                )  # fmt: skip
    for mean in (False, True):
        yield Row(
            KJ, SAGE3,
            lambda f, t, mean=mean: f(t.q, t.k, t.v, is_causal=False, attn_mask=t.mask, per_block_mean=mean),
            VIDEO, accuracy="fast",
        )  # fmt: skip
        yield Row(
            KJ, SAGE3,
            lambda f, t, mean=mean: _on_views(f, t, is_causal=False, attn_mask=t.mask, per_block_mean=mean),
            CROSS, "NHD", {"mask": "bool"}, "fast",
        )  # fmt: skip


def _diffusers() -> Iterator[Row]:
    for function, accuracy in ACCURACY.items():
        for causal in (False, True):
            yield Row(
                DIFFUSERS, function,
                lambda f, t, causal=causal: f(
                    q=t.q, k=t.k, v=t.v, tensor_layout="NHD", is_causal=causal, sm_scale=None, return_lse=False
                ),
                (VIDEO[1], SD15[0]) if not causal else VIDEO[1:], "NHD", {"causal": causal}, accuracy,
            )  # fmt: skip
    yield Row(
        DIFFUSERS, SAGE,
        lambda f, t: f(q=t.q, k=t.k, v=t.v, tensor_layout="NHD", is_causal=False, sm_scale=0.2, return_lse=True),
        VIDEO + CROSS, "NHD", {"scale": 0.2, "lse": True},
    )  # fmt: skip
    for causal in (False, True):
        yield Row(
            DIFFUSERS, VARLEN,
            lambda f, t, causal=causal: f(
                q=t.q, k=t.k, v=t.v, cu_seqlens_q=t.cu_q, cu_seqlens_k=t.cu_k, max_seqlen_q=t.max_q, max_seqlen_k=t.max_k,
                is_causal=causal, sm_scale=None,
            ),
            (S(1, 4, 4, 300, 300, 64, "f16"),), "packed", {"causal": causal},
        )  # fmt: skip


def _ring() -> Iterator[Row]:
    """yunchang/kernels/__init__.py makes the partials, which the ring calls in FlashAttention's words."""
    accum: dict[str, dict[str, Any]] = {
        FP16: {"pv_accum_dtype": "fp32"}, FP8: {"pv_accum_dtype": "fp32+fp32"}, SM90: {"pv_accum_dtype": "fp32+fp32"},
    }  # fmt: skip
    for function, accuracy in ACCURACY.items():
        words = accum.get(function, {})
        for causal in (False, True):
            yield Row(
                YUNCHANG, function,
                lambda f, t, words=words, causal=causal: partial(
                    f, tensor_layout="NHD", return_lse=True, **words
                )(
                    t.q, t.k, t.v, dropout_p=0, softmax_scale=0.1, causal=causal, window_size=(-1, -1), softcap=0.0,
                    alibi_slopes=None, return_softmax=False,
                ),
                VIDEO[1:] + GQA[1:], "NHD", {"causal": causal, "scale": 0.1, "lse": True}, accuracy,
            )  # fmt: skip
    for where, shapes, window in (
        (YUNCHANG, VIDEO, (20, 10)),
        ("xdit-project/xDiT xfuser/core/long_ctx_attention/ring/ring_flash_attn.py", CROSS[1:], (-1, -1)),  # joint keys
    ):
        yield Row(
            where, FP8,
            lambda f, t, window=window: partial(f, pv_accum_dtype="fp32+fp32", tensor_layout="NHD", return_lse=True)(
                t.q, t.k, t.v, dropout_p=0, softmax_scale=0.1, causal=False, window_size=window, softcap=0.0,
                alibi_slopes=None, return_softmax=False,
            ),
            shapes, "NHD", {"scale": 0.1, "lse": True} | ({"window": window} if window[0] >= 0 else {}),
        )  # fmt: skip
    for causal in (False, True):
        yield Row(
            "xdit-project/xDiT xfuser/core/distributed/attention_backend.py", SAGE,
            lambda f, t, causal=causal: f(t.q, t.k, t.v, is_causal=causal, return_lse=True),
            FLUX, means={"causal": causal, "lse": True},
        )  # fmt: skip


def _packed() -> Iterator[Row]:
    for where in (
        WAN2GP,
        "deepbeepmeep/Wan2GP models/hyvideo/modules/attenion.py",
        "lllyasviel/FramePack diffusers_helper/models/hunyuan_video_packed.py",
        "kijai/ComfyUI-HunyuanVideoWrapper hyvideo/modules/attention.py",
        MUSUBI + "hunyuan_model/attention.py",
        MUSUBI + "frame_pack/hunyuan_video_packed.py",
    ):
        yield Row(where, VARLEN, lambda f, t: f(t.q, t.k, t.v, t.cu_q, t.cu_k, t.max_q, t.max_k), PACKED, "packed")
    yield Row(
        MUSUBI + "modules/attention.py", VARLEN, lambda f, t: f(t.q, t.k, t.v, t.cu_q, t.cu_q, t.max_q, t.max_q),
        (S(1, 12, 3, 300, 300, 128),), "packed", {"same_lengths": True},
    )  # fmt: skip
    yield Row(
        MUSUBI + "wan/modules/attention.py", VARLEN,
        lambda f, t: f(
            q=t.q, k=t.k, v=t.v, cu_seqlens_q=t.cu_q, cu_seqlens_k=t.cu_k, max_seqlen_q=t.max_q, max_seqlen_k=t.max_k,
            sm_scale=None,
        ),
        PACKED, "packed",
    )  # fmt: skip
    yield Row(
        SEEDVR2, VARLEN,
        lambda f, t: f(t.q, t.k, t.v, t.cu_q, t.cu_k, t.max_q, t.max_k, False, 1.0 / (t.q.shape[-1] ** 0.5)), PACKED, "packed",
    )  # fmt: skip
    for words in ({"smooth_k": False}, {}):
        yield Row(
            AXOLOTL, VARLEN,
            lambda f, t, words=words: f(
                q=t.q, k=t.k, v=t.v, cu_seqlens_q=t.cu_q, cu_seqlens_k=t.cu_k, max_seqlen_q=t.max_q, max_seqlen_k=t.max_k,
                is_causal=True, sm_scale=0.1, tensor_layout="NHD", **words,
            ),
            PACKED[:1], "packed", {"causal": True, "scale": 0.1},
        )  # fmt: skip


def _servers() -> Iterator[Row]:
    for function in (SAGE, TRITON):
        yield Row(
            LIGHTX2V, function, lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD"), VIDEO, "NHD", {}, ACCURACY[function]
        )
    yield Row(
        LIGHTX2V, SAGE,
        lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD", is_causal=False, sm_scale=None, return_lse=True),
        VIDEO, "NHD", {"lse": True},
    )  # fmt: skip
    yield Row(
        OMNI, SAGE, lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD", is_causal=False, sm_scale=0.1),
        HEAD_SIZES + GQA, "NHD", {"scale": 0.1},
    )  # fmt: skip
    for lse in (False, True):
        yield Row(
            SGLANG, SAGE,
            lambda f, t, lse=lse: f(t.q, t.k, t.v, tensor_layout="NHD", is_causal=True, sm_scale=0.1, return_lse=lse),
            VIDEO + GQA, "NHD", {"scale": 0.1, "causal": True, "lse": lse},
        )  # fmt: skip
    for causal in (False, True):
        yield Row(
            "hao-ai-lab/FastVideo fastvideo/attention/backends/sage_attn.py", SAGE,
            lambda f, t, causal=causal: f(t.q, t.k, t.v, tensor_layout="NHD", is_causal=causal),
            FLUX + GQA[:1], "NHD", {"causal": causal},
        )  # fmt: skip
    yield Row(
        "hao-ai-lab/FastVideo fastvideo/attention/backends/sage_attn3.py", SAGE3,
        lambda f, t: f(t.q, t.k, t.v, is_causal=True), VIDEO, means={"causal": True}, accuracy="fast",
    )  # fmt: skip
    yield Row(
        SGLANG.replace("sage_attn", "sage_attn3"),
        SAGE3,
        lambda f, t: _on_views(f, t, is_causal=False),
        VIDEO,
        "NHD",
        {},
        "fast",
    )


def _models() -> Iterator[Row]:
    for where in (
        "Tencent-Hunyuan/HunyuanVideo-1.5 hyvideo/models/transformers/modules/attention.py",
        "kandinskylab/kandinsky-5 kandinsky/models/attention.py",
        MUSUBI + "kandinsky5/models/attention.py",
        "bghira/SimpleTuner simpletuner/helpers/models/hunyuanvideo/modules/attention.py",
    ):
        yield Row(
            where, SAGE, lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD", is_causal=False), VIDEO[:1] + FLUX, "NHD"
        )
    for where in (
        "lllyasviel/FramePack diffusers_helper/models/hunyuan_video_packed.py",
        "deepbeepmeep/Wan2GP models/hyvideo/modules/attenion.py",
        "MeiGen-AI/InfiniteTalk wan/modules/multitalk_model.py",
        "mit-han-lab/radial-attention radial_attn/attn_mask.py",
    ):
        yield Row(where, SAGE, lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD"), CROSS[1:] + FLUX, "NHD")
    for where in (
        "kijai/ComfyUI-WanVideoWrapper wanvideo/modules/attention.py",
        "daydreamlive/scope src/scope/core/pipelines/wan2_1/modules/sage.py",
    ):
        yield Row(where, SAGE, lambda f, t: _on_views(f, t, attn_mask=None, dropout_p=0, is_causal=False), VIDEO, "NHD")
    yield Row(
        "kijai/ComfyUI-HunyuanVideoWrapper hyvideo/modules/attention.py", SAGE,
        lambda f, t: f(t.q.transpose(1, 2), t.k.transpose(1, 2), t.v.transpose(1, 2), attn_mask=t.mask, dropout_p=0, is_causal=False)
        .transpose(1, 2).contiguous(),
        VIDEO, "NHD", {"mask": "bool"},
    )  # fmt: skip
    for mask in (None, "bool"):
        yield Row(
            "aigc-apps/VideoX-Fun videox_fun/models/attention_utils.py", SAGE,
            lambda f, t: f(t.q, t.k, t.v, attn_mask=t.mask, tensor_layout="NHD", is_causal=False, dropout_p=0.0),
            VIDEO if mask is None else CROSS, "NHD", {"mask": mask} if mask else {},
        )  # fmt: skip
    yield Row("modelscope/DiffSynth-Studio diffsynth/models/wan_video_dit.py", SAGE, _on_views, VIDEO, "NHD")
    yield Row(
        "modelscope/DiffSynth-Studio diffsynth/core/attention/attention.py", SAGE,
        lambda f, t: f(t.q, t.k, t.v, sm_scale=None), FLUX,
    )  # fmt: skip
    yield Row(MUSUBI + "modules/attention.py", SAGE, _on_views, GQA, "NHD")
    yield Row(
        "Enemyx-net/VibeVoice-ComfyUI nodes/base_vibevoice.py", SAGE,
        lambda f, t: f(*(x.reshape(-1, *x.shape[2:]) for x in (t.q, t.k, t.v)), is_causal=True, tensor_layout="HND")
        .reshape(t.q.shape),
        (VIDEO[1],), means={"causal": True},
    )  # fmt: skip
    yield Row(
        AXOLOTL, SAGE, lambda f, t: f(q=t.q, k=t.k, v=t.v, tensor_layout="HND", is_causal=True, sm_scale=0.1),
        (S(1, 8, 8, 130, 130, 64),), means={"causal": True, "scale": 0.1},
    )  # fmt: skip
    for where, function in ((LIGHTX2V, SAGE3), (WAN2GP, SAGE3), (WAN2GP, BLACKWELL)):
        yield Row(where, function, _on_views, VIDEO, "NHD", {}, "fast")
    yield Row(SEEDVR2, SAGE3, lambda f, t: _on_views(f, t, per_block_mean=False), VIDEO[1:], "NHD", {}, "fast")


def _upstream() -> Iterator[Row]:
    """What its README and its own dispatcher call."""
    yield Row(
        "thu-ml/SageAttention README.md", SAGE, lambda f, t: f(t.q, t.k, t.v, tensor_layout="HND", is_causal=False),
        VIDEO + F32,
    )  # fmt: skip
    yield Row(
        UPSTREAM, SAGE, lambda f, t: f(t.q, t.k, t.v, "NHD", True, 0.1, True), VIDEO, "NHD",
        {"causal": True, "scale": 0.1, "lse": True},
    )  # fmt: skip
    for function, words in (
        (FP16, {"pv_accum_dtype": "fp32"}),
        (TRITON, {}),
        (FP8, {"pv_accum_dtype": "fp32+fp16"}),
        (SM90, {"pv_accum_dtype": "fp32+fp32"}),
        (FP8, {"qk_quant_gran": "per_warp", "pv_accum_dtype": "fp32+fp16"}),
    ):
        yield Row(
            UPSTREAM, function,
            lambda f, t, words=words: f(
                t.q, t.k, t.v, tensor_layout="HND", is_causal=True, sm_scale=None, return_lse=True, **words
            ),
            FLUX, means={"causal": True, "lse": True}, accuracy=ACCURACY[function],
        )  # fmt: skip
    yield Row(
        "thu-ml/SageAttention example/modify_model/modify_ltx.py", SAGE,
        lambda f, t: f(t.q, t.k, t.v, attn_mask=t.mask, dropout_p=0.0, is_causal=False, tensor_layout="NHD"),
        CROSS, "NHD", {"mask": "bool"},
    )  # fmt: skip


def _in_torchs_place() -> Iterator[Row]:
    """F.scaled_dot_product_attention = one of them (example/cogvideox_infer.py, parallel_sageattn_cogvideo.py); then:"""
    partials: list[Callable[[Any], Any]] = [lambda f: f, lambda f: partial(f, pv_accum_dtype="fp32+fp32")]
    for function, bind in zip((SAGE, FP8), partials):
        yield Row(
            PROCESSOR, function,
            lambda f, t, bind=bind: bind(f)(t.q, t.k, t.v, attn_mask=t.mask, dropout_p=0.0, is_causal=False), SDXL,
        )  # fmt: skip
        yield Row(
            PROCESSOR, function,
            lambda f, t, bind=bind: bind(f)(t.q, t.k, t.v, attn_mask=t.mask, dropout_p=0.0, is_causal=False),
            CROSS, means={"mask": "float"},
        )  # fmt: skip
        yield Row(
            PROCESSOR, function, lambda f, t, bind=bind: bind(f)(t.q, t.k, t.v, dropout_p=0.0, is_causal=False), FLUX
        )
        for mask in (None, "bool"):
            yield Row(
                DIFFUSERS, function,
                lambda f, t, bind=bind: bind(f)(
                    query=t.q, key=t.k, value=t.v, attn_mask=t.mask, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
                ),
                CROSS, means={"mask": mask} if mask else {},
            )  # fmt: skip
        yield Row(
            "huggingface/transformers src/transformers/integrations/sdpa_attention.py", function,
            lambda f, t, bind=bind: bind(f)(
                t.q, t.k, t.v, attn_mask=None, dropout_p=0.0, scale=0.1, is_causal=True, enable_gqa=True
            ),
            GQA, means={"causal": True, "scale": 0.1},
        )  # fmt: skip
        yield Row(
            "huggingface/transformers src/transformers/integrations/sdpa_attention.py", function,
            lambda f, t, bind=bind: bind(f)(t.q, t.k, t.v, attn_mask=t.mask, dropout_p=0.0, scale=0.1, is_causal=False),
            (S(2, 4, 4, 70, 130, 64, "f16"),), means={"mask": "bool", "scale": 0.1},
        )  # fmt: skip
        for name in ("modify_wan.py", "modify_mochi.py"):
            words = {"attn_mask": None} if "wan" in name else {}
            yield Row(
                "thu-ml/SageAttention example/modify_model/" + name, function,
                lambda f, t, words=words: f(t.q, t.k, t.v, dropout_p=0.0, is_causal=False, **words), CROSS,
            )  # fmt: skip
    yield Row(
        "Tencent-Hunyuan/Hunyuan3D-2 hy3dgen/shapegen/models/autoencoders/attention_processors.py", SAGE,
        lambda f, t: f(t.q, t.k, t.v), (S(1, 4, 4, 500, 170, 64, "f16"),),
    )  # fmt: skip
    for mask, causal in ((None, False), (None, True), ("bool", False), ("float", False)):
        yield Row(
            "KingKrab23/comfyui-wan22-docker patches/_SagePatch/__init__.py", SAGE,
            lambda f, t, causal=causal: f(t.q, t.k, t.v, t.mask, 0.0, causal),
            CROSS if mask else VIDEO, means={"causal": causal} | ({"mask": mask} if mask else {}),
        )  # fmt: skip
    for function, accuracy in ACCURACY.items():
        if function != SM90:
            yield Row(
                "bghira/SimpleTuner simpletuner/helpers/training/attention_backend.py", function,
                lambda f, t: f(t.q, t.k, t.v, is_causal=True), VIDEO[:1], means={"causal": True}, accuracy=accuracy,
            )  # fmt: skip
    yield Row(
        "huggingface/transformers src/transformers/integrations/sdpa_attention.py", SAGE,
        lambda f, t: f(t.q, t.k, t.v, attn_mask=None, dropout_p=0.5, scale=None, is_causal=False),
        F32, by_torch="sdpa: dropout", means={"random": True},
    )  # fmt: skip
    yield Row(
        "huggingface/diffusers src/diffusers/models/autoencoders/autoencoder_kl_wan.py", SAGE,
        lambda f, t: f(t.q, t.k, t.v), (S(1, 1, 1, 64, 64, 384, "f32"),), by_torch="256", accuracy="exact",
    )  # fmt: skip


def _blocks() -> Iterator[Row]:
    function = "spas_sage_attn:block_sparse_sage2_attn_cuda"
    shapes = (S(1, 2, 2, 300, 300, 128), S(1, 4, 2, 256, 400, 64, "f16"))
    for size in ((128, 64), (64, 128)):  # the second where the GPU is a Hopper
        for where in (
            "mit-han-lab/radial-attention radial_attn/attn_mask.py",
            "deepbeepmeep/Wan2GP shared/radial_attention/attn_mask.py",
        ):
            yield Row(
                where, function,
                lambda f, t: f(t.q, t.k, t.v, mask_id=t.blocks.char(), tensor_layout="HND"), shapes, means={"blocks": size},
            )  # fmt: skip
    yield Row(
        "deepbeepmeep/Wan2GP postprocessing/flashvsr/attention_backend.py", function,
        lambda f, t: f(t.q, t.k, t.v, mask_id=t.blocks.char(), tensor_layout="HND", output_dtype=t.q.dtype),
        shapes, means={"blocks": (128, 64)},
    )  # fmt: skip
    yield Row(
        SPARGE,
        function,
        lambda f, t: f(t.q, t.k, t.v, t.blocks, tensor_layout="NHD"),
        shapes,
        "NHD",
        {"blocks": (128, 64)},
    )
    yield Row("thu-ml/SpargeAttn README.md", function, lambda f, t: f(t.q, t.k, t.v, mask_id=None), shapes[:1])
    # Thresholds that keep every block, so that the reference is the dense one.
    for name in ("wan", "hunyuan"):
        yield Row(
            f"thu-ml/SpargeAttn inference_examples/modify_model/modify_{name}.py", "spas_sage_attn:spas_sage2_attn_meansim_cuda",
            lambda f, t: f(t.q, t.k, t.v, cdfthreshd=1.0), shapes[:1],
        )  # fmt: skip
    for name in ("ltx", "cogvideox"):
        where = f"thu-ml/SpargeAttn inference_examples/modify_model/modify_{name}.py"
        yield Row(
            where, "spas_sage_attn:spas_sage2_attn_meansim_cuda",
            lambda f, t: f(t.q, t.k, t.v, simthreshd1=-0.1, cdfthreshd=1.0), shapes[:1],
        )  # fmt: skip
        yield Row(
            where,
            "spas_sage_attn:spas_sage2_attn_meansim_topk_cuda",
            lambda f, t: f(t.q, t.k, t.v, topk=1.0),
            shapes[:1],
        )
    yield Row(
        "ModelTC/LightX2V lightx2v/common/ops/attn/sparge_attn.py", "spas_sage_attn.core:spas_sage2_attn_meansim_topk_cuda",
        lambda f, t: _on_views(f, t, topk=1.0), shapes[:1], "NHD",
    )  # fmt: skip
    for name in ("spas_sage2_attn_meansim_topk_cuda", "spas_sage_attn_meansim_topk_cuda"):
        yield Row(
            "thu-ml/SpargeAttn README.md", "spas_sage_attn:" + name, lambda f, t: f(t.q, t.k, t.v, topk=1.0, is_causal=True),
            shapes[:1], means={"causal": True}, accuracy="standard" if "sage2" in name else "high",
        )  # fmt: skip
    for name in ("spas_sage2_attn_meansim_cuda", "spas_sage_attn_meansim_cuda"):
        yield Row(
            SPARGE, "spas_sage_attn:" + name,
            lambda f, t: f(t.q, t.k, t.v, simthreshd1=-0.1, cdfthreshd=1.0, pvthreshd=50, tensor_layout="NHD"),
            shapes, "NHD", accuracy="standard" if "sage2" in name else "high",
        )  # fmt: skip


def _refused() -> Iterator[Row]:
    calls: list[tuple[str, str, Callable[[Any, Any], Any], type[Exception]]] = [
        (UPSTREAM, SAGE, lambda f, t: f(t.q, t.k, t.v, tensor_layout="HDN"), ValueError),
        (UPSTREAM, SAGE, lambda f, t: f(t.q, t.k, t.v, mask=t.q), TypeError),
        (UPSTREAM, SAGE, lambda f, t: f(t.q, t.k), TypeError),
        (UPSTREAM, FP8, lambda f, t: f(t.q, t.k, t.v, pv_accum_dtype="fp16"), ValueError),
        (UPSTREAM, FP16, lambda f, t: f(t.q, t.k, t.v, pv_accum_dtype="fp8"), ValueError),
        (UPSTREAM, FP16, lambda f, t: f(t.q, t.k, t.v, qk_quant_gran="per_block"), ValueError),
        (UPSTREAM, TRITON, lambda f, t: f(t.q, t.k, t.v, quantization_backend="hip"), ValueError),
        (UPSTREAM, SAGE, lambda f, t: f(t.q, t.k.float(), t.v), TypeError),
        (UPSTREAM, SAGE, lambda f, t: f(t.q.double(), t.k.double(), t.v.double()), TypeError),
        (UPSTREAM, SAGE, lambda f, t: f(t.q, t.k[..., :3], t.v), ValueError),
        (UPSTREAM, SAGE, lambda f, t: f(t.q.requires_grad_(), t.k, t.v), RuntimeError),
        (YUNCHANG, FP16, lambda f, t: f(t.q, t.k, t.v, softcap=30.0), NotImplementedError),
        (YUNCHANG, FP16, lambda f, t: f(t.q, t.k, t.v, alibi_slopes=t.q), NotImplementedError),
        (YUNCHANG, FP16, lambda f, t: f(t.q, t.k, t.v, return_softmax=True), NotImplementedError),
        (DIFFUSERS, VARLEN, lambda f, t: f(t.q, t.k, t.v, None, None, 3, 3, dropout_p=0.1), NotImplementedError),
        (DIFFUSERS, VARLEN, lambda f, t: f(t.q, t.k, t.v, None, None, 3, 3, mask=1), TypeError),
        (SPARGE, "spas_sage_attn:block_sparse_sage2_attn_cuda", lambda f, t: f(t.q, t.k, t.v, t.q > 0), ValueError),
        (SPARGE, "spas_sage_attn:spas_sage2_attn_meansim_cuda", lambda f, t: f(t.q, t.k, t.v, t.q), NotImplementedError),
        (SPARGE, "spas_sage_attn:spas_sage2_attn_meansim_topk_cuda", lambda f, t: f(t.q, t.k, t.v, cdfthreshd=0.5), ValueError),
        ("thu-ml/SageAttention sageattention3_blackwell/sageattn3/api.py", SAGE3, lambda f, t: f(t.q, t.k, t.v, None, 0.0, True), TypeError),
        ("thu-ml/SpargeAttn evaluate/modify_model/modify_wan.py", "spas_sage_attn.autotune:SparseAttentionMeansim", lambda f, t: f(l1=0.07, pv_l1=0.08, tune_pv=True), NotImplementedError),
        ("thu-ml/SageAttention sageattention3_blackwell/sageattn3/api.py", "sageattn3.api:preprocess_qkv", lambda f, t: f(t.q, t.k, t.v), NotImplementedError),
        (UPSTREAM, "sageattention.core:attn_false_varlen", lambda f, t: f(t.q), NotImplementedError),
    ]  # fmt: skip
    for where, function, call, error in calls:
        yield Row(where, function, call, (S(1, 2, 2, 40, 40, 64),), refused=error)


ROWS = [
    row
    for make in (
        _comfy,
        _kjnodes,
        _diffusers,
        _ring,
        _packed,
        _servers,
        _models,
        _upstream,
        _in_torchs_place,
        _blocks,
        _refused,
    )
    for row in make()
]
CALLS = [(row, shape) for row in ROWS for shape in row.shapes]
