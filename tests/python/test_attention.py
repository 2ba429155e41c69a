"""clary.attention on NumPy arrays and torch tensors, against float64 attention."""

from __future__ import annotations

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

import clary
from clary import _call, _lib

KIND_DTYPES = [("numpy", "f32"), ("numpy", "f16"), ("torch", "f32"), ("torch", "f16"), ("torch", "bf16")]
each_dtype = pytest.mark.parametrize("kind,dtype", KIND_DTYPES, indirect=["kind"])


def arrays(kind: Any, xs: Any, dtype: str = "f32") -> tuple[list[Any], list[np.ndarray]]:
    """The inputs, and what they are in float64 after rounding to dtype."""
    inputs = [kind.array(x, dtype) for x in xs]
    return inputs, [kind.back(x) for x in inputs]


# ---- dtypes, layouts, accuracy --------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("layout", ["HND", "NHD"])
@pytest.mark.parametrize("ndim", [3, 4])
def test_dtype_and_layout(kind: Any, qkv: Any, dtype: str, layout: str, ndim: int) -> None:
    inputs, exact = arrays(kind, qkv(batch=2 if ndim == 4 else 1), dtype)
    want, want_lse = reference.attention(*exact)
    if ndim == 3:
        inputs, want, want_lse = [x[0] for x in inputs], want[0], want_lse[0]
    if layout == "NHD":
        inputs, want = [kind.array(kind.back(kind.swap(x)), dtype) for x in inputs], np.swapaxes(want, -3, -2)
    out, lse = clary.attention(*inputs, layout=layout, return_lse=True)
    assert out.dtype == inputs[0].dtype and kind.contiguous(out)
    assert str(lse.dtype).endswith("float32") and kind.contiguous(lse)
    reference.assert_out(kind.back(out), want, dtype=dtype)
    reference.assert_lse(kind.back(lse), want_lse)
    assert kind.bits(clary.attention(*inputs, layout=layout)) == kind.bits(out)


@pytest.mark.parametrize("accuracy", ["exact", "high", "standard", "fast"])
def test_accuracy(kind: Any, qkv: Any, accuracy: str) -> None:
    if kind.device == "cuda" and accuracy == "exact":
        pytest.skip("torch's own attention on a GPU")
    inputs, exact = arrays(kind, qkv(queries=130, keys=200, dim=64, v_dim=64))
    out, lse = clary.attention(*inputs, accuracy=accuracy, return_lse=True)
    want, want_lse = reference.attention(*exact)
    reference.assert_out(kind.back(out), want, accuracy)
    reference.assert_lse(kind.back(lse), want_lse, accuracy)


def test_bfloat16_of_ml_dtypes(qkv: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    inputs = [x.astype(ml_dtypes.bfloat16) for x in qkv()]
    out = clary.attention(*inputs)
    assert out.dtype == ml_dtypes.bfloat16
    want, _ = reference.attention(*(x.astype(np.float64) for x in inputs))
    reference.assert_out(out.astype(np.float64), want, dtype="bf16")


@pytest.mark.parametrize("dim,v_dim", [(1, 1), (1, 64), (8, 1), (72, 72), (256, 256), (256, 3)])
def test_head_dims(kind: Any, qkv: Any, dim: int, v_dim: int) -> None:
    inputs, exact = arrays(kind, qkv(dim=dim, v_dim=v_dim))
    reference.assert_out(kind.back(clary.attention(*inputs)), reference.attention(*exact)[0])


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_fused_qkv_view_is_not_copied(kind: Any, qkv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    xs = qkv(heads=3, kv_heads=3, queries=50, keys=50, dim=40, v_dim=40)
    fused = kind.array(np.stack([x.swapaxes(1, 2) for x in xs], axis=2))  # [B, L, 3, H, D]
    views = [fused[:, :, i] for i in range(3)]
    want = clary.attention(*(kind.array(kind.back(x)) for x in views), layout="NHD")
    owners = []
    pack = _call.pack
    monkeypatch.setattr(_call, "pack", lambda *a, **b: owners.append((answer := pack(*a, **b))[3]) or answer)
    got = clary.attention(*views, layout="NHD", scale=40**-0.5)
    assert all(owner is view for owner, view in zip(owners[0], views))
    assert kind.bits(got) == kind.bits(want)
    swapped = clary.attention(*(kind.swap(x) for x in views))
    assert kind.contiguous(swapped) and kind.bits(kind.swap(swapped)) == kind.bits(want)


def test_broadcast_inputs(kind: Any, qkv: Any) -> None:
    q, k, v = qkv(batch=1, kv_heads=1)
    inputs, _ = arrays(kind, (q, k, v))
    broadcast = np.broadcast_to if kind.name == "numpy" else lambda x, shape: x.expand(shape)
    views = [inputs[0], *(broadcast(x, (1, 4, *x.shape[2:])) for x in inputs[1:])]
    assert kind.bits(clary.attention(*views)) == kind.bits(clary.attention(*(kind.array(kind.back(x)) for x in views)))


def test_last_stride_is_copied(kind: Any, qkv: Any) -> None:
    inputs, _ = arrays(kind, qkv())
    want = clary.attention(*inputs)
    odd = [kind.array(np.repeat(kind.back(x), 2, axis=-1))[..., ::2] for x in inputs]
    for _ in range(2):
        assert kind.bits(clary.attention(*odd)) == kind.bits(want)


def test_numpy_oddities(qkv: Any) -> None:
    q, k, v = (x.astype(np.float32) for x in qkv())
    want = clary.attention(q, k, v)
    backwards = [np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1] for x in (q, k, v)]
    assert (clary.attention(*backwards) == want).all()
    records = np.zeros(k.shape[:3], [("flag", "u1"), ("k", "f4", k.shape[3:])])
    records["k"] = k
    assert (clary.attention(q, records["k"], v) == want).all()
    buffer = np.zeros(q.nbytes + 1, np.uint8)
    unaligned = np.ndarray(q.shape, np.float32, buffer, 1)
    unaligned[:] = q
    assert (clary.attention(unaligned, k, v) == want).all()
    frozen = q.copy()
    frozen.flags.writeable = False
    assert (clary.attention(frozen, k, v) == want).all()
    assert type(clary.attention(q.view(np.memmap), k, v)) is np.ndarray


def test_inputs_are_not_written(kind: Any, qkv: Any) -> None:
    inputs, exact = arrays(kind, qkv())
    clary.attention(*inputs)
    assert all((kind.back(x) == y).all() for x, y in zip(inputs, exact))


def test_dlpack(kind: Any, qkv: Any) -> None:
    class Box:
        def __init__(self, x: Any) -> None:
            self.x = x

        def __dlpack__(self, **options: Any) -> Any:
            return self.x.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.x.__dlpack_device__()

    class Named(Box):
        def __array_namespace__(self) -> Any:
            class Namespace:
                @staticmethod
                def from_dlpack(x: Any) -> Named:
                    return Named(x)

            return Namespace

    inputs, _ = arrays(kind, qkv(), "f16")
    want = kind.bits(clary.attention(*inputs))
    bits = kind.bits if kind.device == "cuda" else lambda x: x.tobytes()
    assert bits(clary.attention(*map(Box, inputs))) == want
    out, lse = clary.attention(*map(Named, inputs), return_lse=True)
    assert bits(out.x) == want and isinstance(lse, Named)
    assert clary.explain(*map(Box, inputs)).variant == clary.explain(*inputs).variant
    if kind.name == "torch":
        inputs, _ = arrays(kind, qkv(), "bf16")
        assert kind.bits(clary.attention(*map(Box, inputs))) == kind.bits(clary.attention(*inputs))


# ---- what a query sees: on a CPU in f32, where the bound is tight for any row ---------------------------------------


@pytest.mark.parametrize("heads,kv_heads", [(6, 6), (6, 3), (6, 1)])
def test_grouped_heads(kind: Any, qkv: Any, heads: int, kv_heads: int) -> None:
    inputs, exact = arrays(kind, qkv(heads=heads, kv_heads=kv_heads))
    out = clary.attention(*inputs, accuracy=kind.tight)
    reference.assert_out(kind.back(out), reference.attention(*exact)[0], kind.tight)


@pytest.mark.parametrize("causal", [False, True, "upper_left", "lower_right"])
@pytest.mark.parametrize("window", [None, 5, (7, None), (None, 3), (-1, -1), (0, 0)])
@pytest.mark.parametrize("queries,keys", [(33, 65), (65, 33)])
def test_causal_and_window(kind: Any, qkv: Any, causal: Any, window: Any, queries: int, keys: int) -> None:
    inputs, exact = arrays(kind, qkv(queries=queries, keys=keys))
    out, lse = clary.attention(*inputs, causal=causal, window=window, accuracy=kind.tight, return_lse=True)
    want, want_lse = reference.attention(*exact, causal=causal, window=window)
    reference.assert_out(kind.back(out), want, kind.tight)
    reference.assert_lse(kind.back(lse), want_lse, kind.tight)


@pytest.mark.parametrize("shape", [(65,), (1,), (33, 1), (33, 65), (1, 65), (4, 1, 65), (2, 1, 1, 65), (2, 4, 33, 65)])
@pytest.mark.parametrize("kind,dtype", [("numpy", "bool"), ("torch", "bool"), *KIND_DTYPES], indirect=["kind"])
def test_mask(kind: Any, qkv: Any, shape: tuple[int, ...], dtype: str) -> None:
    inputs, exact = arrays(kind, qkv())
    bias = np.random.default_rng(1).standard_normal(shape)
    if dtype == "bool":
        mask, bias = kind.raw(bias > -0.5), bias > -0.5
    else:
        (mask,), (bias,) = arrays(kind, [np.where(bias > 1.5, -np.inf, bias)], dtype)
    out, lse = clary.attention(*inputs, mask=mask, accuracy=kind.tight, return_lse=True)
    want, want_lse = reference.attention(*exact, mask=bias)
    reference.assert_out(kind.back(out), want, kind.tight)
    reference.assert_lse(kind.back(lse), want_lse, kind.tight)


def test_mask_views(kind: Any, qkv: Any) -> None:
    inputs, _ = arrays(kind, qkv())
    mask = kind.raw(np.random.default_rng(1).random((65, 33)) > 0.3)
    turned = mask.T
    want = clary.attention(*inputs, mask=kind.raw(np.array(turned.tolist())))
    assert kind.bits(clary.attention(*inputs, mask=turned)) == kind.bits(want)
    one = [x[0] for x in inputs]
    want = clary.attention(*(x[:1] for x in inputs), mask=turned)[0]
    for view in (turned, turned[None], turned[None, None]):
        assert kind.bits(clary.attention(*one, mask=view)) == kind.bits(want)


@pytest.mark.parametrize("causal", [False, True, "lower_right"])
def test_kv_lens(kind: Any, qkv: Any, causal: Any) -> None:
    lens = [65, 0, 17]
    q, k, v = qkv(batch=3)
    inputs, exact = arrays(kind, (q, k, v))
    want, want_lse = reference.attention(*exact, kv_lens=lens, causal=causal)
    out, lse = clary.attention(*inputs, kv_lens=lens, causal=causal, accuracy=kind.tight, return_lse=True)
    reference.assert_out(kind.back(out), want, kind.tight)
    reference.assert_lse(kind.back(lse), want_lse, kind.tight)
    for b, n in enumerate(lens):
        k[b, :, n:], v[b, :, n:] = np.nan, np.inf
    poisoned, _ = arrays(kind, (q, k, v))
    for x in (np.array(lens), np.array(lens, np.int32), np.array(lens, np.int32).repeat(2)[::2]):
        for accuracy in (kind.tight, "standard"):
            want = clary.attention(*inputs, kv_lens=lens, causal=causal, accuracy=accuracy)
            got = clary.attention(*poisoned, kv_lens=kind.raw(x), causal=causal, accuracy=accuracy)
            assert kind.bits(got) == kind.bits(want)


@pytest.mark.parametrize("layout", ["HND", "NHD"])
@pytest.mark.parametrize("causal", [False, "lower_right"])
def test_varlen_equals_dense(kind: Any, qkv: Any, layout: str, causal: Any) -> None:
    cu_q, cu_k = [0, 5, 5, 40], [0, 30, 41, 41]
    (q, k, v), _ = arrays(kind, qkv(batch=1, queries=40, keys=41))
    dense, dense_lse = [], []
    for q0, q1, k0, k1 in zip(cu_q, cu_q[1:], cu_k, cu_k[1:]):
        out, lse = clary.attention(q[:, :, q0:q1], k[:, :, k0:k1], v[:, :, k0:k1], causal=causal, return_lse=True)
        dense.append(kind.back(out)[0])
        dense_lse.append(kind.back(lse)[0])
    packed = [x[0] if layout == "HND" else kind.swap(x[0]) for x in (q, k, v)]
    for longest in (None, 40):
        lens = {"cu_seqlens_q": kind.raw(cu_q), "cu_seqlens_k": kind.raw(np.array(cu_k, np.int32))}
        out, lse = clary.attention(
            *packed, layout=layout, causal=causal, return_lse=True, max_seqlen_q=longest, max_seqlen_k=longest, **lens
        )
        assert kind.contiguous(out)
        out = out if layout == "HND" else kind.swap(out)
        assert (kind.back(out) == np.concatenate(dense, axis=1)).all()
        assert (kind.back(lse) == np.concatenate(dense_lse, axis=1)).all()


# ---- edges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"queries": 0}, {"keys": 0}, {"keys": 1}, {"queries": 1}])
def test_empty_and_single(kind: Any, qkv: Any, sizes: dict[str, int]) -> None:
    inputs, exact = arrays(kind, qkv(**sizes))
    out, lse = clary.attention(*inputs, return_lse=True)
    want, want_lse = reference.attention(*exact)
    reference.assert_out(kind.back(out), want)
    reference.assert_lse(kind.back(lse), want_lse)


def test_row_without_keys_is_zero(kind: Any, qkv: Any) -> None:
    inputs, _ = arrays(kind, qkv())
    out, lse = clary.attention(*inputs, mask=kind.raw(np.arange(33)[:, None] > 3), return_lse=True)
    assert (kind.back(out)[:, :, :4] == 0).all() and np.isneginf(kind.back(lse)[:, :, :4]).all()


@pytest.mark.parametrize("scale", [0.0, 0, 0.3, np.float32(0.7)])
def test_scale(kind: Any, qkv: Any, scale: Any) -> None:
    inputs, exact = arrays(kind, qkv())
    out = clary.attention(*inputs, scale=scale, accuracy=kind.tight)
    reference.assert_out(kind.back(out), reference.attention(*exact, scale=scale)[0], kind.tight)


@each_dtype
@pytest.mark.parametrize("layout", ["HND", "NHD"])
def test_out(kind: Any, qkv: Any, dtype: str, layout: str) -> None:
    inputs, exact = arrays(kind, qkv(batch=3))
    big = kind.empty((3, 4, 33, 24 + 3), dtype)
    out = kind.swap(big)[..., :24] if layout == "NHD" else big[..., :24]
    inputs = [kind.swap(x) for x in inputs] if layout == "NHD" else inputs
    result, lse = clary.attention(*inputs, layout=layout, out=out, return_lse=True)
    assert result is out and lse.shape == (3, 4, 33)
    reference.assert_out(kind.back(big)[..., :24], reference.attention(*exact)[0], dtype=dtype)
    assert (kind.back(big)[..., 24:] == 7).all()


def test_same_signature_different_words(kind: Any, qkv: Any) -> None:
    """A call packed once must not answer for another."""
    inputs, exact = arrays(kind, qkv())
    calls: list[dict[str, Any]] = [{}, {"causal": True}, {"causal": "lower_right"}, {"scale": 0.0}, {"scale": 0.5}]
    calls += [{"window": 3}, {"window": (3, 0)}, {"window": [3, 0]}, {"causal": 1}]
    for _ in range(3):
        for call in calls:
            out = clary.attention(*inputs, accuracy=kind.tight, **call)
            reference.assert_out(kind.back(out), reference.attention(*exact, **call)[0], kind.tight)
        with_mask = clary.attention(*inputs, mask=kind.raw(np.zeros(65, bool)))
        assert (kind.back(with_mask) == 0).all()
    fresh, exact = arrays(kind, [x + 1 for x in exact])
    reference.assert_out(kind.back(clary.attention(*fresh)), reference.attention(*exact)[0])


def test_threads_do_not_change_bits(kind: Any, qkv: Any) -> None:
    inputs, _ = arrays(kind, qkv(queries=200, keys=300))
    want = kind.bits(clary.attention(*inputs))
    try:
        for count in (1, 2, 3):
            assert clary.set_threads(count) == count
            assert kind.bits(clary.attention(*inputs)) == want
    finally:
        assert clary.set_threads(0) >= 1


def test_a_workspace_for_one_thread_is_replaced(kind: Any, qkv: Any) -> None:
    if kind.device == "cuda":
        pytest.skip("threads are the CPU's; a GPU's workspace is torch's")
    (q, k, v), _ = arrays(kind, qkv(queries=512, keys=512))
    try:
        clary.set_threads(1)
        clary.attention(q, k, v)
        clary.set_threads(2)
        clary.attention(q, k, v)
        assert _lib.idle[-1].workspace_size() <= len(_lib.idle[-1].workspace)
    finally:
        clary.set_threads(0)


def test_calls_at_the_same_time(kind: Any, qkv: Any) -> None:
    problems = [arrays(kind, qkv(queries=n, keys=2 * n))[0] for n in (5, 17, 40, 64)]
    want = [kind.bits(clary.attention(*p)) for p in problems]
    before, wrong = clary.stats()["calls"], []

    def work(i: int) -> None:
        for _ in range(50):
            if kind.bits(clary.attention(*problems[i])) != want[i]:
                wrong.append(i)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not wrong
    assert clary.stats()["calls"] == before + 200


def test_large_workspace_lives_for_one_call(kind: Any, qkv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = arrays(kind, qkv())
    want = kind.bits(clary.attention(*inputs))
    monkeypatch.setattr(_lib, "CACHED_WORKSPACE", 0)
    monkeypatch.setattr(_lib, "idle", idle := [])
    monkeypatch.setattr(_call, "idle", idle)
    for _ in range(3):
        assert kind.bits(clary.attention(*inputs)) == want
        assert [frame.workspace for frame in idle] == [None]


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error,words",
    [
        (TypeError, {"casual": True}),
        (ValueError, {"layout": "BHLD"}),
        (ValueError, {"causal": "lower_left"}),
        (ValueError, {"accuracy": "best"}),
        (ValueError, {"window": -2}),
        (TypeError, {"window": 2.5}),
        (TypeError, {"max_seqlen_q": "long", "cu_seqlens_q": [0, 33], "cu_seqlens_k": [0, 65]}),
        (ValueError, {"scale": float("nan")}),
        (ValueError, {"kv_lens": [1]}),
        (ValueError, {"kv_lens": [1, 66]}),
        (ValueError, {"kv_lens": [1, -1]}),
        (ValueError, {"kv_lens": [1, 2**32 + 1]}),
        (TypeError, {"kv_lens": [1.0, 2.0]}),
        (ValueError, {"cu_seqlens_q": [0, 33]}),
        (ValueError, {"cu_seqlens_q": [0, 33], "cu_seqlens_k": [0, 65]}),
        (ValueError, {"cu_seqlens_q": [0, 33], "cu_seqlens_k": [0, 5, 65]}),
    ],
    ids=str,
)
def test_refused_words(kind: Any, qkv: Any, error: type, words: dict[str, Any]) -> None:
    if kind.device == "cuda" and re.search("kv_lens|cu_seqlens_k", str(words)) and error is ValueError:
        pytest.skip("the host does not read lengths on a GPU")
    inputs, _ = arrays(kind, qkv())
    with pytest.raises(error):
        clary.attention(*inputs, **words)
    if "kv_lens" not in words or len(words["kv_lens"]) == 1:  # explain reads no element
        with pytest.raises(error):
            clary.explain(*inputs, **words)


@pytest.mark.parametrize("cu", [[1, 20, 33], [0, 20, 32], [0, 34, 33], [0, -1, 33]], ids=str)
def test_refused_cu_seqlens(kind: Any, qkv: Any, cu: list[int]) -> None:
    if kind.device == "cuda":
        pytest.skip("the host does not read lengths on a GPU")
    inputs, _ = arrays(kind, qkv(batch=1, keys=33))
    with pytest.raises(ValueError, match="cu_seqlens"):
        clary.attention(*inputs, cu_seqlens_q=cu, cu_seqlens_k=cu)


@pytest.mark.parametrize("shape", [(64,), (33, 64), (3, 1, 33, 65), (1, 2, 4, 33, 65)], ids=str)
def test_refused_mask_shapes(kind: Any, qkv: Any, shape: tuple[int, ...]) -> None:
    inputs, _ = arrays(kind, qkv())
    with pytest.raises(ValueError, match="broadcast"):
        clary.attention(*inputs, mask=kind.raw(np.zeros(shape, bool)))


def test_refused_dtypes(kind: Any, qkv: Any) -> None:
    (q, k, v), _ = arrays(kind, qkv())
    half = kind.array(kind.back(k), "f16")
    wide = kind.raw(kind.back(q))
    for inputs in [(wide, k, v), (q, half, v), (q, k, kind.raw(kind.back(v).astype(np.int32)))]:
        with pytest.raises(TypeError):
            clary.attention(*inputs)
    for mask in (np.zeros(65), np.zeros(65, np.int64)):
        with pytest.raises(TypeError, match="mask is .*float32"):
            clary.attention(q, k, v, mask=kind.raw(mask))
    with pytest.raises(TypeError):
        clary.attention(q, k, v, out=kind.raw(np.zeros((2, 4, 33, 24))))
    with pytest.raises(TypeError):
        clary.attention(q, k, [1.0])
    with pytest.raises(TypeError):
        clary.attention([1.0], k, v)
    if kind.name == "torch":
        for inputs in [(q.cpu().numpy(), k, v), (q, k.cpu().numpy(), v)]:
            with pytest.raises(TypeError):
                clary.attention(*inputs)


def test_refused_shapes(kind: Any, qkv: Any) -> None:
    (q, k, v), _ = arrays(kind, qkv())
    for inputs in [
        (q, k[:1], v),
        (q, k, v[:, :, :3]),
        (q[:, :3], k, v),
        (q, k[..., :8], v),
        (q, k[0], v),
        (q[0, 0],) * 3,
    ]:
        with pytest.raises(ValueError):
            clary.attention(*inputs)
    for out in [q, kind.empty((2, 4, 33, 23), "f32"), kind.empty((2, 4, 33, 48), "f32")[..., ::2]]:
        with pytest.raises(ValueError):
            clary.attention(q, k, v, out=out)
    frozen = np.zeros((2, 4, 33, 24), np.float32)
    frozen.flags.writeable = False
    with pytest.raises((ValueError, TypeError)):
        clary.attention(q, k, v, out=frozen)


def test_errors_say_how_to_repair(qkv: Any) -> None:
    q, k, v = (x.astype(np.float32) for x in qkv())
    with pytest.raises(ValueError) as caught:
        clary.attention(q[:, :3], k, v)
    sentence, hint = str(caught.value).split(". ", 1)
    assert sentence and hint.endswith(".")


def test_numpy_has_no_fallback(qkv: Any) -> None:
    q, k, v = (x.astype(np.float32) for x in qkv(dim=300))
    with pytest.raises(NotImplementedError, match="256"):
        clary.attention(q, k, v)
    answer = clary.explain(q, k, v)
    assert answer.variant == "NotImplementedError" and "256" in answer.reason


# ---- accounts -------------------------------------------------------------------------------------------------------


def test_stats_account_for_every_call(kind: Any, qkv: Any) -> None:
    inputs, _ = arrays(kind, qkv())
    clary.stats(reset=True)
    assert clary.stats() == {"calls": 0, "variants": {}, "fallbacks": {}, "errors": {}}
    variant = clary.explain(*inputs).variant
    for _ in range(3):
        clary.attention(*inputs)
    with pytest.raises(ValueError):
        clary.attention(*inputs, layout="?")
    with pytest.raises(ValueError):
        clary.attention(inputs[0], inputs[1][:1], inputs[2])
    assert clary.stats(reset=True) == {
        "calls": 5,
        "variants": {variant: 3},
        "fallbacks": {},
        "errors": {"ValueError": 2},
    }
    assert clary.stats()["calls"] == 0


def test_explain(kind: Any, qkv: Any) -> None:
    inputs, _ = arrays(kind, qkv())
    for words in (
        {},
        {"causal": True, "accuracy": kind.tight},
        {"return_lse": True, "mask": kind.raw(np.ones(65, bool))},
    ):
        answer = clary.explain(*inputs, **words)
        clary.stats(reset=True)
        clary.attention(*inputs, **words)
        assert list(clary.stats()["variants"]) == [answer.variant]
        assert answer.reason and answer.plan["variant"] == answer.variant and answer.variant in str(answer)


def test_one_list_of_arguments() -> None:
    parameters = [p for p in inspect.signature(clary.attention).parameters.values() if p.name != "grad"]  # no backend's
    assert [(p.name, p.default) for p in parameters if p.default is not p.empty] == list(
        _call.Arguments._field_defaults.items()
    )
    assert _call.Arguments._fields == tuple(p.name for p in parameters)


# ---- anything -------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    groups = number(1, 3)
    keys = number(0, 70)
    batch = number(1, 3)
    side = st.one_of(st.none(), st.integers(-1, 40))
    return {
        "sizes": {
            "batch": batch,
            "heads": groups * number(1, 3),
            "kv_heads": groups,
            "queries": number(0, 70),
            "keys": keys,
            "dim": number(1, 80),
            "v_dim": number(1, 80),
        },
        "layout": draw(st.sampled_from(["HND", "NHD"])),
        "causal": draw(st.sampled_from([False, True, "lower_right"])),
        "window": draw(st.one_of(st.none(), st.tuples(side, side))),
        "mask": draw(st.sampled_from([None, "bool", "float"])),
        "kv_lens": draw(st.one_of(st.none(), st.lists(st.integers(0, keys), min_size=batch, max_size=batch))),
    }


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problem=problems())
def test_any_problem_exactly(problem: dict[str, Any]) -> None:
    from conftest import qkv

    q, k, v = (x.astype(np.float32) for x in qkv(**problem["sizes"]))
    mask = None
    if problem["mask"]:
        mask = np.random.default_rng(2).standard_normal((q.shape[2], k.shape[2])).astype(np.float32)
        mask = mask > 0 if problem["mask"] == "bool" else mask
    words = {name: problem[name] for name in ("causal", "window", "kv_lens")}
    nhd = problem["layout"] == "NHD"
    inputs = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v)] if nhd else (q, k, v)
    out, lse = clary.attention(*inputs, layout=problem["layout"], mask=mask, accuracy="exact", return_lse=True, **words)
    want, want_lse = reference.attention(*(x.astype(np.float64) for x in (q, k, v)), mask=mask, **words)
    reference.assert_out(out.swapaxes(1, 2) if nhd else out, want, "exact")
    reference.assert_lse(lse, want_lse, "exact")
