"""The compat modules' surface: signatures, pickles, partials, imports, private helpers, torch.compile, gradients, cost."""

from __future__ import annotations

import inspect
import math
import pickle
import timeit
from functools import partial
from typing import Any

import pytest
import reference

import clary
from clary import _call
from clary.compat import sageattention, sageattn3

torch = pytest.importorskip("torch")

from clary import _torch  # noqa: E402
from clary.compat import sdpa, spas_sage_attn  # noqa: E402
from clary.compat.sageattention import core, quant  # noqa: E402
from clary.compat.sageattention.triton import quant_per_thread  # noqa: E402
from clary.compat.spas_sage_attn import blocks  # noqa: E402

LIMIT_MS, LIMIT_US = 50, 15

# Upstream's parameters in order, with their defaults (SageAttention 2.2.0, SageAttention3, SpargeAttn).
SIGNATURES: dict[str, dict[str, Any]] = {
    "sageattention:sageattn": {"tensor_layout": "HND", "is_causal": False, "sm_scale": None, "return_lse": False},
    "sageattention:sageattn_qk_int8_pv_fp16_triton": {
        "tensor_layout": "HND", "quantization_backend": "triton", "is_causal": False, "attn_mask": None, "sm_scale": None,
        "smooth_k": True, "return_lse": False,
    },
    "sageattention:sageattn_qk_int8_pv_fp16_cuda": {
        "tensor_layout": "HND", "is_causal": False, "qk_quant_gran": "per_thread", "sm_scale": None, "pv_accum_dtype": "fp32",
        "smooth_k": True, "smooth_v": False, "return_lse": False,
    },
    "sageattention:sageattn_qk_int8_pv_fp8_cuda": {
        "tensor_layout": "HND", "is_causal": False, "qk_quant_gran": "per_thread", "sm_scale": None,
        "pv_accum_dtype": "fp32+fp16", "smooth_k": True, "smooth_v": False, "return_lse": False,
    },
    "sageattention:sageattn_qk_int8_pv_fp8_cuda_sm90": {
        "tensor_layout": "HND", "is_causal": False, "qk_quant_gran": "per_thread", "sm_scale": None,
        "pv_accum_dtype": "fp32+fp32", "smooth_k": True, "return_lse": False,
    },
    "sageattention:sageattn_varlen": {
        "cu_seqlens_q": inspect.Parameter.empty, "cu_seqlens_k": inspect.Parameter.empty,
        "max_seqlen_q": inspect.Parameter.empty, "max_seqlen_k": inspect.Parameter.empty, "is_causal": False,
        "sm_scale": None, "smooth_k": True,
    },
    "sageattn3:sageattn3_blackwell": {"attn_mask": None, "is_causal": False, "per_block_mean": True},
    "spas_sage_attn:block_sparse_sage2_attn_cuda": {
        "mask_id": None, "dropout_p": 0.0, "scale": None, "smooth_k": True, "pvthreshd": 50, "attention_sink": False,
        "tensor_layout": "HND", "output_dtype": torch.float16, "return_sparsity": False,
    },
    "spas_sage_attn:spas_sage2_attn_meansim_cuda": {
        "attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None, "smooth_k": True, "simthreshd1": 0.6,
        "cdfthreshd": 0.98, "pvthreshd": 50, "attention_sink": False, "tensor_layout": "HND", "output_dtype": torch.float16,
        "return_sparsity": False,
    },
    "spas_sage_attn:spas_sage2_attn_meansim_topk_cuda": {
        "attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None, "smooth_k": True, "simthreshd1": -0.1,
        "cdfthreshd": None, "topk": 0.5, "pvthreshd": 50, "attention_sink": False, "tensor_layout": "HND",
        "output_dtype": torch.float16, "return_sparsity": False,
    },
}  # fmt: skip


def find(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(__import__(f"clary.compat.{module}", fromlist=["_"]), attribute)


def inputs(length: int = 96, dim: int = 64, dtype: Any = torch.float16, heads: int = 2) -> list[Any]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(1, heads, length, dim, generator=generator).to(dtype) for _ in range(3)]


def want64(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=causal)


# ---- the surface ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_is_upstreams(name: str) -> None:
    parameters = list(inspect.signature(find(name)).parameters.values())
    want = {
        "q": inspect.Parameter.empty,
        "k": inspect.Parameter.empty,
        "v": inspect.Parameter.empty,
        **SIGNATURES[name],
    }
    assert {p.name: p.default for p in parameters[: len(want)]} == want
    assert [p.name for p in parameters[: len(want)]] == list(want)
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[: len(want)])
    beyond = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    assert all(p.kind in beyond or p.name == "return_lse" for p in parameters[len(want) :])


def test_comfyuis_probe() -> None:
    assert "attn_mask" in inspect.signature(sageattention.sageattn).parameters


@pytest.mark.parametrize("name", SIGNATURES)
def test_functions_pickle_and_are_documented(name: str) -> None:
    function = find(name)
    assert pickle.loads(pickle.dumps(function)) is function and function.__doc__ and function.__name__ in name
    assert pickle.loads(pickle.dumps(partial(function, is_causal=True))).func is function


def test_import_is_cheap_and_has_no_effect(python: Any) -> None:
    code = (
        "import sys, time; before = set(sys.meta_path); t = time.process_time(); import clary.compat.sageattention; "
        "print(time.process_time() - t, 'torch' in sys.modules, 'ctypes' in sys.modules, before == set(sys.meta_path))"
    )
    runs = [python("-c", code).stdout.split() for _ in range(3)]
    assert all(run[1:] == ["False", "False", "True"] for run in runs)
    assert min(float(run[0]) for run in runs) * 1000 < LIMIT_MS


def test_names_that_others_import() -> None:
    """Of attention-related projects' own import lists: KJNodes' ltxv_nodes, Wan2GP's sage2_core, LightX2V, install tests."""
    for name in (
        "attn_false", "attn_true", "attn_false_varlen", "attn_true_varlen", "per_block_int8_triton", "per_block_int8_cuda",
        "per_warp_int8_cuda", "per_thread_int8_triton", "per_block_int8_varlen_triton", "sub_mean", "per_channel_fp8",
        "get_cuda_arch_versions", "get_cuda_version", "SM80_ENABLED", "SM89_ENABLED", "SM90_ENABLED", "sm80_compile",
        "sm89_compile", "sm90_compile", "_qattn_sm80", "_qattn_sm89", "_qattn_sm90", "_fused",
    ):  # fmt: skip
        assert hasattr(core, name), name
    assert core.get_cuda_arch_versions() == [
        "sm{}{}".format(*torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())
    ]
    assert hasattr(core.sm89_compile, "qk_int8_sv_f8_accum_f16_fuse_v_scale_attn_inst_buf")


# ---- quantised tensors of upstream's shapes -----------------------------------------------------------------------------

# Codes of 8 bits for Q and K, then the engine's own; V of FP8 has 3 bits of fraction.
CODES = 2 * reference.BOUND["standard", "short"]


@pytest.mark.parametrize("layout", ["HND", "NHD"])
@pytest.mark.parametrize("length", [64, 129, 300])
@pytest.mark.parametrize("granularity", ["warp", "thread"])
@pytest.mark.parametrize("causal", [False, True])
def test_quantised_tensors_reach_the_engine(layout: str, length: int, granularity: str, causal: bool) -> None:
    q, k, v = inputs(length)
    want = want64(q, k, v, causal)
    hnd = int(layout == "HND")
    q, k, v = (x if hnd else x.transpose(1, 2).contiguous() for x in (q, k, v))
    km = k.mean(dim=2 if hnd else 1, keepdim=True)
    q64, k64, km64 = (x.double() if hnd else x.double().transpose(1, 2) for x in (q, k, km))
    tail = (hnd, int(causal), 2 if granularity == "warp" else 3, 64**-0.5)
    for module, block_q, warp_q, block_k in (
        ("_qattn_sm80", 128, 32, 64),
        ("_qattn_sm89", 128, 32, 64),
        ("_qattn_sm90", 64, 16, 128),
    ):
        if granularity == "warp":
            codes = quant.per_warp_int8(q, k, km, BLKQ=block_q, WARPQ=warp_q, BLKK=block_k, tensor_layout=layout)
        else:
            codes = quant.per_thread_int8(
                q, k, km, BLKQ=block_q, WARPQ=warp_q, BLKK=block_k, WARPK=block_k, tensor_layout=layout
            )
        q8, q_scale, k8, k_scale = codes
        warps = -(-length // block_q) * (block_q // warp_q)
        assert q8.dtype == k8.dtype == torch.int8 and q8.shape == q.shape
        assert q_scale.shape[2] == warps * (1 if granularity == "warp" else 8)
        kernels = getattr(core, module)
        out = torch.empty_like(q)
        if module == "_qattn_sm80":
            lse = kernels.qk_int8_sv_f16_accum_f32_attn(q8, k8, v, out, q_scale, k_scale, *tail, 1)
            scores = q64 @ (k64 - km64).transpose(2, 3) * 64**-0.5  # of what the codes stand for
            if causal:
                scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
            off = (lse.double() - scores.logsumexp(-1) * math.log2(math.e)).abs().max()
            assert lse.shape == (1, 2, length) and off <= reference.LSE_BOUND["standard", "outlier"]
        else:
            v8, v_scale, _ = quant.per_channel_fp8(v, tensor_layout=layout, smooth_v=False)
            name = "qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf"
            getattr(kernels, name)(q8, k8, v8, out, q_scale, k_scale, v_scale, *tail, 0)
        got = out if hnd else out.transpose(1, 2)
        assert reference.error(got.double().numpy(), want.numpy()) <= CODES


@pytest.mark.parametrize("causal", [False, True])
def test_triton_modules_reach_the_engine(causal: bool) -> None:
    q, k, v = inputs(200)
    q8, q_scale, k8, k_scale = core.per_block_int8_triton(q, k, km=k.mean(2, keepdim=True), sm_scale=0.1)
    out, lse = (core.attn_true if causal else core.attn_false)(q8, k8, v, q_scale, k_scale, output_dtype=torch.bfloat16)
    want = torch.nn.functional.scaled_dot_product_attention(
        *(x.double() for x in (q, k, v)), is_causal=causal, scale=0.1
    )
    assert out.dtype == torch.bfloat16 and lse.numel() == 0
    assert reference.error(out.double().numpy(), want.numpy()) <= CODES


def test_kernels_launched_by_the_caller() -> None:
    """As LightX2V launches the quantiser of queries, on [B, L, H, D]."""
    q, k, _ = inputs(100)
    q = q.transpose(1, 2).contiguous()
    want, want_scale, *_ = quant.per_thread_int8(q, k.transpose(1, 2), BLKQ=64, WARPQ=16, tensor_layout="NHD")
    codes, scale = torch.empty_like(want), torch.empty_like(want_scale)
    strides = [x.stride(i) for x in (q, codes) for i in (0, 2, 1)]
    launch = quant_per_thread.quant_query_per_thread_int8_kernel[(want_scale.shape[2], 2, 1)]
    launch(q, codes, scale, 100, *strides, scale.stride(0), scale.stride(1), C=64, BLK=16)
    assert torch.equal(codes, want) and torch.equal(scale, want_scale)


def test_v_in_fp8_is_restored() -> None:
    _, _, v = inputs(100)
    codes, scale, mean = quant.per_channel_fp8(v, scale_max=2.25)
    assert codes.shape == (1, 2, 64, 128) and codes.dtype == torch.float8_e4m3fn and mean is not None
    order = torch.tensor([0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15])
    first = (codes[..., :16].float() * scale[..., None] + mean[..., None]).transpose(2, 3)
    assert reference.error(first.double().numpy(), v[:, :, order].double().numpy()) < 0.04  # half a unit of 3 bits
    smooth, mean = quant.sub_mean(v)
    assert smooth.dtype == torch.float16 and (smooth.float().mean(2).abs() < 1e-3).all() and mean.shape == (1, 2, 64)


def test_wrong_scales_are_refused() -> None:
    q, k, v = inputs(100)
    q8, q_scale, k8, k_scale = quant.per_warp_int8(q, k)
    out = torch.full_like(q, 7)
    for tail, scales in (((1, 0, 1, 0.1, 0), k_scale), ((1, 0, 2, 0.1, 0), k_scale[..., :0])):
        with pytest.raises(ValueError):
            core._qattn_sm80.qk_int8_sv_f16_accum_f16_attn(q8, k8, v, out, q_scale, scales, *tail)
    assert (out == 7).all()


# ---- SpargeAttn's prediction --------------------------------------------------------------------------------------------


def test_blocks_that_hold_the_weight_are_kept() -> None:
    """Keys of one block answer to each block of queries: topk and cdf both find it, and skip the rest."""
    direction = torch.nn.functional.one_hot(torch.arange(8), 64).float() * 8
    q = direction[:4].repeat_interleave(128, 0)[None, None]
    k = direction.repeat_interleave(64, 0)[None, None]
    v = torch.randn(1, 1, 512, 64, generator=torch.Generator().manual_seed(0))
    for cdf, topk in ((0.5, None), (None, 1 / 8)):
        kept = blocks.predict(q, k, (128, 64), False, 0.5, cdf, topk, False)
        assert (
            kept.shape == (1, 1, 4, 8) and (kept.float().argmax(-1)[0, 0] == torch.arange(4)).all() and kept.sum() == 4
        )
    call = spas_sage_attn.spas_sage2_attn_meansim_topk_cuda
    out, sparsity = call(q, k, v, topk=1 / 8, simthreshd1=0.5, return_sparsity=True)
    seen = v[0, 0].view(8, 64, 64)[:4].mean(1).repeat_interleave(128, 0)  # equal keys: the mean of their values
    assert sparsity == 7 / 8 and reference.error(out[0, 0].double().numpy(), seen.double().numpy()) <= CODES


def test_small_pieces_give_the_same_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = inputs(500, heads=4)
    mask = torch.rand(1, 4, 4, 8, generator=torch.Generator().manual_seed(1)) > 0.5
    mask[0, 1, 2] = False  # rows that see nothing are zero
    want = spas_sage_attn.block_sparse_sage2_attn_cuda(q, k[:, :2], v[:, :2], mask)
    assert (want[0, 1, 256:384] == 0).all() and want.isfinite().all()
    monkeypatch.setattr(blocks, "_MASK_BYTES", 1)
    assert torch.equal(spas_sage_attn.block_sparse_sage2_attn_cuda(q, k[:, :2], v[:, :2], mask), want)


# ---- cost -------------------------------------------------------------------------------------------------------------


def test_host_cost() -> None:
    """What the wrappers add to the C call they make: best of many, in microseconds."""

    def best(function: Any) -> float:
        return min(timeit.repeat(function, number=100, repeat=30)) / 100 * 1e6

    x = [torch.ones(1, 1, 1, 8, dtype=torch.float16) for _ in range(3)]
    with torch.inference_mode():
        out = clary.attention(*x)
        frame = _call.idle[-1]
        _call.pack(frame, _torch, _call.Arguments(*x, out=out))
        inner = best(lambda: frame.run(frame.address))
        for function in (sageattention.sageattn, sageattn3.sageattn3_blackwell, sdpa.scaled_dot_product_attention):
            added = best(lambda f=function: f(*x)) - inner
            print(f"{function.__name__}: {added:.1f} us above the C call")
            assert added <= LIMIT_US
