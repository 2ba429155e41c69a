"""Calls as projects make them, one row each: where the call stands, the call, the shapes it gets there, and what it means.

`where` names the project and its file. `call` gets the function and a namespace of inputs (`Inputs` says which). `means` is
the same in the words of the float64 reference, and `layout` how q, k and v lie. A refused call raises what `refused` names.
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
    )  # causal, scale, mask ("bool", "float", "padding"), window, lse, blocks
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

SAGE = "sageattention:sageattn"
FP16, TRITON = "sageattention:sageattn_qk_int8_pv_fp16_cuda", "sageattention:sageattn_qk_int8_pv_fp16_triton"
FP8, SM90 = "sageattention:sageattn_qk_int8_pv_fp8_cuda", "sageattention:sageattn_qk_int8_pv_fp8_cuda_sm90"
VARLEN = "sageattention:sageattn_varlen"
SAGE3 = "sageattn3:sageattn3_blackwell"

COMFY = "ComfyUI comfy/ldm/modules/attention.py"
KJ = "ComfyUI-KJNodes nodes/model_optimization_nodes.py"
LTXV = "ComfyUI-KJNodes nodes/ltxv_nodes.py"
DIFFUSERS = "diffusers models/attention_dispatch.py"
YUNCHANG = "long-context-attention yunchang/kernels/__init__.py"
WAN2GP = "Wan2GP shared/attention.py"
LIGHTX2V = "LightX2V lightx2v/common/ops/attn/sage_attn.py"
OMNI = "vLLM-Omni diffusion/attention/backends/sage_attn.py"
SGLANG = "SGLang multimodal_gen/runtime/layers/attention/backends/sage_attn.py"
UPSTREAM = "SageAttention README.md"
PATCHED = "TRELLIS F.scaled_dot_product_attention = sageattn"
SPARGE = "SpargeAttn README.md"


def _comfy() -> Iterator[Row]:
    for layout, shapes in (("HND", SD15 + VIDEO), ("NHD", SDXL + FLUX + CROSS + F32)):
        yield Row(
            COMFY, SAGE,
            lambda f, t, layout=layout: f(t.q, t.k, t.v, is_causal=False, tensor_layout=layout, sm_scale=None, smooth_k=False),
            shapes, layout,
        )  # fmt: skip
        yield Row(
            COMFY, SAGE,
            lambda f, t, layout=layout: f(
                t.q, t.k, t.v, attn_mask=t.mask, is_causal=False, tensor_layout=layout, sm_scale=0.11, smooth_k=False
            ),
            CROSS, layout, {"mask": "float", "scale": 0.11},
        )  # fmt: skip
    yield Row(
        COMFY,
        SAGE,
        lambda f, t: f(t.q, t.k, t.v, attn_mask=t.mask, is_causal=False, tensor_layout="HND"),
        CROSS,
        means={"mask": "bool"},
    )
    yield Row(COMFY, SAGE3, lambda f, t: f(t.q, t.k, t.v, is_causal=False), FLUX + VIDEO, accuracy="fast")


def _kjnodes() -> Iterator[Row]:
    modes: list[tuple[str, str, dict[str, Any]]] = [
        (SAGE, "standard", {}),
        (FP16, "high", {"pv_accum_dtype": "fp32"}),
        (TRITON, "high", {}),
        (FP8, "standard", {"pv_accum_dtype": "fp32+fp32"}),
        (FP8, "standard", {"pv_accum_dtype": "fp32+fp16"}),
    ]
    for function, accuracy, words in modes:
        for layout in ("HND", "NHD"):
            for mask in (None, "bool"):
                yield Row(
                    KJ, function,
                    lambda f, t, layout=layout, words=words: f(
                        t.q, t.k, t.v, is_causal=False, attn_mask=t.mask, tensor_layout=layout, **words
                    ),
                    (VIDEO[0], CROSS[0]) if mask is None else CROSS[:1], layout, {"mask": mask} if mask else {}, accuracy,
                )  # fmt: skip
    for mean in (False, True):
        yield Row(
            KJ, SAGE3,
            lambda f, t, mean=mean: f(t.q, t.k, t.v, is_causal=False, attn_mask=t.mask, per_block_mean=mean),
            VIDEO, accuracy="fast",
        )  # fmt: skip
    yield Row(
        KJ,
        SAGE3,
        lambda f, t: f(t.q, t.k, t.v, is_causal=False, attn_mask=t.mask, per_block_mean=True),
        CROSS,
        means={"mask": "bool"},
        accuracy="fast",
    )


def _diffusers() -> Iterator[Row]:
    for function, accuracy in (
        (SAGE, "standard"),
        (FP8, "standard"),
        (SM90, "standard"),
        (FP16, "high"),
        (TRITON, "high"),
    ):
        for causal in (False, True):
            yield Row(
                DIFFUSERS, function,
                lambda f, t, causal=causal: f(q=t.q, k=t.k, v=t.v, tensor_layout="NHD", is_causal=causal, sm_scale=None),
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
    for function, accum, accuracy in ((FP16, "fp32", "high"), (FP8, "fp32+fp32", "standard")):
        for causal in (False, True):
            yield Row(
                YUNCHANG, function,
                lambda f, t, accum=accum, causal=causal: partial(f, pv_accum_dtype=accum, tensor_layout="NHD", return_lse=True)(
                    t.q, t.k, t.v, dropout_p=0.0, softmax_scale=0.1, causal=causal, window_size=(-1, -1), softcap=0.0,
                    alibi_slopes=None, return_softmax=False,
                ),
                VIDEO + GQA[1:], "NHD", {"causal": causal, "scale": 0.1, "lse": True}, accuracy,
            )  # fmt: skip
    yield Row(
        "xDiT xfuser/core/long_ctx_attention/ring/ring_flash_attn.py", FP8,
        lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD", window_size=(20, 10), return_lse=True, deterministic=True),
        VIDEO, "NHD", {"window": (20, 10), "lse": True},
    )  # fmt: skip


def _packed() -> Iterator[Row]:
    shapes = (S(1, 4, 4, 300, 300, 128), S(1, 6, 2, 260, 180, 64, "f16"))
    for where in (
        WAN2GP,
        "FramePack diffusers_helper/models/hunyuan_video_packed.py",
        "ComfyUI-HunyuanVideoWrapper hyvideo/modules/attention.py",
    ):
        yield Row(where, VARLEN, lambda f, t: f(t.q, t.k, t.v, t.cu_q, t.cu_k, t.max_q, t.max_k), shapes, "packed")
    yield Row(
        LIGHTX2V, VARLEN,
        lambda f, t: f(t.q, t.k, t.v, t.cu_q, t.cu_k, t.max_q, t.max_k, is_causal=False, sm_scale=0.09, smooth_k=False),
        shapes, "packed", {"scale": 0.09},
    )  # fmt: skip
    yield Row(
        "ComfyUI-SeedVR2_VideoUpscaler src/optimization/compatibility.py", VARLEN,
        lambda f, t: f(t.q, t.k, t.v, t.cu_q, t.cu_k, t.max_q, t.max_k, True, 0.125), shapes[:1], "packed",
        {"scale": 0.125, "causal": True},
    )  # fmt: skip
    yield Row(
        "ComfyUI-WanVideoWrapper wanvideo/modules/attention.py", VARLEN,
        lambda f, t: f(t.q, t.k, t.v, t.cu_q, t.cu_k, t.max_q, t.max_k, dropout_p=0, is_causal=False), shapes, "packed",
    )  # fmt: skip
    yield Row(
        "VideoX-Fun videox_fun/models/attention_utils.py", VARLEN,
        lambda f, t: f(t.q, t.k, t.v, t.cu_q, t.cu_k, t.max_q, t.max_k, is_causal=False, tensor_layout="NHD"), shapes, "packed",
    )  # fmt: skip


def _servers() -> Iterator[Row]:
    for where, function, accuracy in ((LIGHTX2V, SAGE, "standard"), (LIGHTX2V, TRITON, "high")):
        yield Row(where, function, lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD"), VIDEO, "NHD", {}, accuracy)
    yield Row(
        LIGHTX2V, SAGE,
        lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD", is_causal=False, sm_scale=None, return_lse=True),
        VIDEO, "NHD", {"lse": True},
    )  # fmt: skip
    yield Row(LIGHTX2V, SAGE3, lambda f, t: f(t.q, t.k, t.v), VIDEO, accuracy="fast")
    heads = tuple(S(1, 2, 2, 150, 150, d) for d in (32, 64, 96, 128, 160, 192, 224, 256))  # what their lists declare
    yield Row(
        OMNI,
        SAGE,
        lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD", is_causal=False, sm_scale=0.1),
        heads + GQA,
        "NHD",
        {"scale": 0.1},
    )
    for lse in (False, True):
        yield Row(
            SGLANG, SAGE,
            lambda f, t, lse=lse: f(t.q, t.k, t.v, tensor_layout="NHD", is_causal=True, sm_scale=0.1, return_lse=lse),
            VIDEO + GQA, "NHD", {"scale": 0.1, "causal": True, "lse": lse},
        )  # fmt: skip
    for where in (
        "FastVideo fastvideo/attention/backends/sage_attn.py",
        "Cosmos-Predict2.5 cosmos_predict2/_src/imaginaire/attention.py",
        "Kandinsky-5 kandinsky/models/attention.py",
        "musubi-tuner src/musubi_tuner/modules/attention.py",
    ):
        yield Row(where, SAGE, lambda f, t: f(t.q, t.k, t.v, tensor_layout="NHD"), FLUX + GQA[:1], "NHD")
    yield Row("DiffSynth-Studio diffsynth/models/wan_video_dit.py", SAGE, lambda f, t: f(t.q, t.k, t.v), VIDEO)
    yield Row(WAN2GP, "sageattn3:sageattn3_blackwell", lambda f, t: f(t.q, t.k, t.v), VIDEO, accuracy="fast")
    yield Row(WAN2GP, "sageattn:sageattn_blackwell", lambda f, t: f(t.q, t.k, t.v), VIDEO, accuracy="fast")
    yield Row(UPSTREAM, SAGE, lambda f, t: f(t.q, t.k, t.v, tensor_layout="HND", is_causal=False), VIDEO + F32)
    yield Row(
        UPSTREAM,
        SAGE,
        lambda f, t: f(t.q, t.k, t.v, "NHD", True, 0.1, True),
        VIDEO,
        "NHD",
        {"causal": True, "scale": 0.1, "lse": True},
    )


def _in_torchs_place() -> Iterator[Row]:
    every = (SAGE, FP8)
    for function in every:
        yield Row(PATCHED, function, lambda f, t: f(t.q, t.k, t.v), SDXL)
        yield Row(PATCHED, function, lambda f, t: f(t.q, t.k, t.v, t.mask), CROSS, means={"mask": "bool"})
        yield Row(PATCHED, function, lambda f, t: f(t.q, t.k, t.v, t.mask, 0.0, False), CROSS, means={"mask": "float"})
        yield Row(PATCHED, function, lambda f, t: f(t.q, t.k, t.v, None, 0.0, True), VIDEO, means={"causal": True})
        yield Row(
            PATCHED,
            function,
            lambda f, t: f(t.q, t.k, t.v, attn_mask=None, dropout_p=0.0, is_causal=True, scale=0.1),
            VIDEO,
            means={"causal": True, "scale": 0.1},
        )
        yield Row(
            "CogVideoX " + DIFFUSERS + " _native_attention", function,
            lambda f, t: f(
                query=t.q, key=t.k, value=t.v, attn_mask=t.mask, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
            ),
            CROSS, means={"mask": "bool"},
        )  # fmt: skip
        yield Row(
            "VibeVoice-ComfyUI issue 98", function,
            lambda f, t: f(t.q, t.k, t.v, attn_mask=t.mask, dropout_p=0.0, scale=0.1, is_causal=False, enable_gqa=True),
            GQA, means={"mask": "float", "scale": 0.1},
        )  # fmt: skip
    yield Row(
        PATCHED,
        SAGE,
        lambda f, t: f(t.q, t.k, t.v, None, 0.5, False),
        F32,
        by_torch="sdpa: dropout",
        means={"random": True},
    )
    yield Row(
        PATCHED,
        SAGE,
        lambda f, t: f(t.q, t.k, t.v),
        (S(1, 1, 1, 64, 64, 512, "f32"),),
        by_torch="256",
        accuracy="exact",
    )


def _blocks() -> Iterator[Row]:
    function = "spas_sage_attn:block_sparse_sage2_attn_cuda"
    shapes = (S(1, 2, 2, 300, 300, 128), S(1, 4, 2, 256, 400, 64, "f16"))
    yield Row(WAN2GP, function, lambda f, t: f(t.q, t.k, t.v, mask_id=t.blocks), shapes, means={"blocks": (128, 64)})
    yield Row(
        SPARGE,
        function,
        lambda f, t: f(t.q, t.k, t.v, t.blocks, tensor_layout="NHD"),
        shapes,
        "NHD",
        {"blocks": (128, 64)},
    )
    yield Row(
        "LightX2V lightx2v/common/ops/attn/radial_attn.py", function, lambda f, t: f(t.q, t.k, t.v, t.blocks, return_lse=True),
        shapes, means={"blocks": (64, 128), "lse": True},
    )  # fmt: skip
    for name in ("spas_sage2_attn_meansim_cuda", "spas_sage_attn_meansim_cuda"):
        yield Row(
            SPARGE, "spas_sage_attn:" + name,
            lambda f, t: f(t.q, t.k, t.v, simthreshd1=-0.1, cdfthreshd=1.0, pvthreshd=50, is_causal=True),
            shapes[:1], means={"causal": True}, accuracy="standard" if "sage2" in name else "high",
        )  # fmt: skip
    for name in ("spas_sage2_attn_meansim_topk_cuda", "spas_sage_attn_meansim_topk_cuda"):
        yield Row(
            SPARGE, "spas_sage_attn:" + name, lambda f, t: f(t.q, t.k, t.v, simthreshd1=-0.1, topk=1.0, tensor_layout="NHD"),
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
        (WAN2GP, SAGE3, lambda f, t: f(t.q, t.k, t.v, None, 0.0, True), TypeError),
        (YUNCHANG, "spas_sage_attn.autotune:SparseAttentionMeansim", lambda f, t: f(l1=0.07, pv_l1=0.08, tune_pv=True), NotImplementedError),
        ("SageAttention sageattn3/api.py", "sageattn3.api:preprocess_qkv", lambda f, t: f(t.q, t.k, t.v), NotImplementedError),
        ("SageAttention sageattention/core.py", "sageattention.core:attn_false_varlen", lambda f, t: f(t.q), NotImplementedError),
    ]  # fmt: skip
    for where, function, call, error in calls:
        yield Row(where, function, call, (S(1, 2, 2, 40, 40, 64),), refused=error)


ROWS = [
    row
    for make in (_comfy, _kjnodes, _diffusers, _ring, _packed, _servers, _in_torchs_place, _blocks, _refused)
    for row in make()
]
CALLS = [(row, shape) for row in ROWS for shape in row.shapes]
