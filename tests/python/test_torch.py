"""What only torch has: the operator and torch.compile, the fallback, autograd, subclasses, and the road to CUDA."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import reference

import clary

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from clary import _call, _lib, _torch  # noqa: E402

WORDS: list[dict[str, Any]] = [
    {},
    {"causal": True},
    {"causal": "lower_right", "scale": 0.25, "accuracy": "high"},
    {"window": 5, "return_lse": True},
    {"window": (3, None), "accuracy": "exact"},
    {"layout": "NHD", "return_lse": True},
    {"mask": torch.arange(33)[:, None] > 3},
    {"kv_lens": torch.tensor([5, 33])},
]


def tensors(qkv: Any, dtype: Any = torch.float32, **sizes: int) -> list[Any]:
    sizes = {"queries": 33, "keys": 33, **sizes}
    return [torch.tensor(x).to(dtype) for x in qkv(**sizes)]


def for_words(inputs: list[Any], words: dict[str, Any]) -> list[Any]:
    return [x.transpose(1, 2).contiguous() for x in inputs] if words.get("layout") == "NHD" else inputs


def assert_same(got: Any, want: Any) -> None:
    for x, y in zip(*(answer if isinstance(answer, tuple) else (answer,) for answer in (got, want))):
        assert x.dtype == y.dtype and x.stride() == y.stride() and torch.equal(x, y)


# ---- compiled -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", WORDS, ids=lambda words: "-".join(words) or "plain")
def test_compiles_without_a_graph_break(qkv: Any, words: dict[str, Any]) -> None:
    torch._dynamo.reset()
    clary._backends.clear()  # the first call of a process may be a traced one
    inputs = for_words(tensors(qkv), words)
    compiled = torch.compile(lambda q, k, v: clary.attention(q * 1, k, v, **words), fullgraph=True, backend="aot_eager")
    got = compiled(*inputs)
    assert_same(got, clary.attention(*inputs, **words))


def test_compiles_varlen_and_out(qkv: Any) -> None:
    torch._dynamo.reset()
    inputs = [x[0] for x in tensors(qkv, batch=1)]
    cu = torch.tensor([0, 10, 33], dtype=torch.int32)
    words = {"cu_seqlens_q": cu, "cu_seqlens_k": cu, "max_seqlen_q": 23, "max_seqlen_k": 23}
    out = torch.zeros(4, 33, 24)
    compiled = torch.compile(
        lambda q, k, v: clary.attention(q, k, v, out=out, **words), fullgraph=True, backend="aot_eager"
    )
    compiled(*inputs)
    assert_same(out, clary.attention(*inputs, **words))


def test_dynamic_shapes_compile_once(qkv: Any) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(
        lambda q, k, v: clary.attention(q, k, v, causal=True, scale=q.shape[-1] ** -0.5, return_lse=True),
        fullgraph=True,
        dynamic=True,
        backend=counter,
    )
    for n in (33, 40, 57, 128):
        inputs = tensors(qkv, queries=n, keys=n + 3)
        assert_same(compiled(*inputs), clary.attention(*inputs, causal=True, return_lse=True))
    assert counter.frame_count == 1


def test_inductor(qkv: Any) -> None:
    torch._dynamo.reset()
    inputs = tensors(qkv)
    compiled = torch.compile(lambda q, k, v: clary.attention(q, k, v).relu(), fullgraph=True)
    try:
        got = compiled(*inputs)
    except Exception as error:
        if "compiler" in str(error).lower():
            pytest.skip(f"inductor: {error}")
        raise
    assert_same(got, clary.attention(*inputs).relu())


@pytest.mark.parametrize("words", WORDS, ids=lambda words: "-".join(words) or "plain")
def test_opcheck(qkv: Any, words: dict[str, Any]) -> None:
    inputs = for_words(tensors(qkv), words)
    a = _call.Arguments(*inputs, **words)
    window = _call.window_pair(a.window)
    causal = {False: "none", True: "upper_left"}.get(a.causal, a.causal)
    args = a._replace(causal=causal, window=window and list(window))[:-1]
    torch.library.opcheck(torch.ops.clary.attention.default, args)


def test_export(qkv: Any) -> None:
    class Module(torch.nn.Module):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return clary.attention(q, k, v, causal=True)

    inputs = tuple(tensors(qkv))
    program = torch.export.export(Module(), inputs)
    assert any("clary.attention" in str(node.target) for node in program.graph.nodes)
    assert_same(program.module()(*inputs), clary.attention(*inputs, causal=True))


@pytest.mark.parametrize("words", WORDS, ids=lambda words: "-".join(words) or "plain")
def test_fake_and_meta_tensors(qkv: Any, words: dict[str, Any]) -> None:
    inputs = for_words(tensors(qkv), words)
    real = clary.attention(*inputs, **words)
    with FakeTensorMode() as mode:
        fake_words = {n: mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for n, x in words.items()}
        fake = clary.attention(*map(mode.from_tensor, inputs), **fake_words)
    meta_words = {n: x.to("meta") if isinstance(x, torch.Tensor) else x for n, x in words.items()}
    meta = clary.attention(*(x.to("meta") for x in inputs), **meta_words)
    for got in (fake, meta):
        for x, y in zip(*(a if isinstance(a, tuple) else (a,) for a in (got, real))):
            assert (x.shape, x.stride(), x.dtype) == (y.shape, y.stride(), y.dtype)


# ---- not for training -----------------------------------------------------------------------------------------------


def test_grad_is_refused(qkv: Any) -> None:
    inputs = tensors(qkv)
    mask = torch.zeros(33, requires_grad=True)
    for i in range(3):
        asking = [x.clone().requires_grad_(i == j) for j, x in enumerate(inputs)]
        with pytest.raises(RuntimeError, match="no_grad"):
            clary.attention(*asking)
        with torch.no_grad():
            assert_same(clary.attention(*asking), clary.attention(*inputs))
    with pytest.raises(RuntimeError, match="mask requires grad"):
        clary.attention(*inputs, mask=mask)
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="no_grad"):
        torch.compile(clary.attention, backend="aot_eager")(*asking)
    parameters = [torch.nn.Parameter(x) for x in inputs]
    with pytest.raises(RuntimeError):
        clary.attention(*parameters)
    with torch.inference_mode():
        assert_same(clary.attention(*parameters), clary.attention(*inputs))


# ---- the fallback ---------------------------------------------------------------------------------------------------

FALLBACKS: list[dict[str, Any]] = [
    {},
    {"causal": True},
    {"causal": "lower_right"},
    {"scale": 0.0},
    {"window": (4, 2)},
    {"causal": "lower_right", "window": (4, None)},
    {"mask": "bool"},
    {"mask": "float"},
    {"mask": "bool", "causal": True},
    {"mask": "float", "causal": "lower_right"},
    {"kv_lens": [33, 0]},
    {"kv_lens": [5, 17], "mask": "bool", "causal": "lower_right"},
]


@pytest.mark.parametrize("words", FALLBACKS, ids=str)
@pytest.mark.parametrize("layout", ["HND", "NHD"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fallback(qkv: Any, words: dict[str, Any], layout: str, dtype: Any) -> None:
    inputs = tensors(qkv, dtype, dim=300, v_dim=24, queries=29)
    mask = None
    if "mask" in words:
        mask = np.random.default_rng(3).standard_normal((2, 1, 29, 33))
        mask = mask > 0.8 if words["mask"] == "bool" else np.where(mask > 0, mask, -np.inf)
        mask[0, 0, :2] = False if words["mask"] == "bool" else -np.inf
        mask = torch.tensor(mask) if words["mask"] == "bool" else torch.tensor(mask).to(dtype)
    want, want_lse = reference.attention(
        *(x.double().numpy() for x in inputs),
        **{**words, "mask": mask if mask is None or words["mask"] == "bool" else mask.double().numpy()},
    )
    passed = [x.transpose(1, 2) for x in inputs] if layout == "NHD" else inputs
    clary.stats(reset=True)
    for out in (None, torch.full_like(passed[0][..., :24].contiguous(), 7)):
        got, lse = clary.attention(*passed, layout=layout, return_lse=True, out=out, **{**words, "mask": mask})
        assert got.is_contiguous() and (out is None or got is out)
        got = got.transpose(1, 2) if layout == "NHD" else got
        name = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
        # In bf16, torch rounds weights and mask too: as coarse as standard.
        reference.assert_out(got.double().numpy(), want, "exact" if name == "f32" else "standard", name)
        reference.assert_lse(lse.double().numpy(), want_lse, "exact" if name == "f32" else "standard")
    assert clary.stats()["calls"] == sum(clary.stats()["fallbacks"].values()) == 2
    assert all("256" in reason for reason in clary.stats()["fallbacks"])
    answer = clary.explain(*passed, layout=layout, **{**words, "mask": mask})
    assert answer.variant == "torch:scaled_dot_product_attention" and "256" in answer.reason


def test_fallback_varlen_and_3d(qkv: Any) -> None:
    q, k, v = tensors(qkv, batch=1, dim=300)
    dense = [clary.attention(*(x[:, :, at] for x in (q, k, v)), causal=True) for at in (slice(0, 10), slice(10, 33))]
    cu = torch.tensor([0, 10, 10, 33])
    out, lse = clary.attention(q[0], k[0], v[0], cu_seqlens_q=cu, cu_seqlens_k=cu, causal=True, return_lse=True)
    assert torch.equal(out[None], torch.cat(dense, 2)) and lse.shape == (4, 33)


def test_fallback_ignores_nan_beyond_kv_lens(qkv: Any) -> None:
    q, k, v = tensors(qkv, dim=300)
    want = clary.attention(q, k, v, kv_lens=[7, 33])
    k[0, :, 7:], v[0, :, 7:] = float("nan"), float("inf")
    assert torch.equal(clary.attention(q, k, v, kv_lens=[7, 33]), want)


def test_fallback_compiles(qkv: Any) -> None:
    torch._dynamo.reset()
    inputs = tensors(qkv, dim=300, v_dim=300)
    compiled = torch.compile(lambda *x: clary.attention(*x, causal=True), fullgraph=True, backend="aot_eager")
    assert_same(compiled(*inputs), clary.attention(*inputs, causal=True))


def test_fallback_errors_are_counted(qkv: Any) -> None:
    q, k, v = tensors(qkv, dim=300)
    clary.stats(reset=True)
    cu = [0, 10, 33]
    refused: list[tuple[Any, dict[str, Any]]] = [
        ((q, k[:, :, :3], v), {}),
        ((q, k[:1], v[:1]), {}),
        ((q[:, :3], k, v), {}),
        ((q, k, v), {"kv_lens": [-1, 3]}),
        ((q, k, v), {"kv_lens": [3, 34]}),
        ((q[0], k[0], v[0]), {"cu_seqlens_q": cu}),
        ((q[0], k[0], v[0]), {"cu_seqlens_q": cu, "cu_seqlens_k": [0, 20, 32]}),
        ((q[0], k[0], v[0]), {"cu_seqlens_q": cu, "cu_seqlens_k": cu, "mask": torch.ones(33, dtype=torch.bool)}),
    ]
    for inputs, words in refused:
        with pytest.raises(ValueError):
            clary.attention(*inputs, **words)
    assert clary.stats() == {"calls": 8, "variants": {}, "fallbacks": {}, "errors": {"ValueError": 8}}


# ---- a device -------------------------------------------------------------------------------------------------------


def test_device_fields(qkv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA tensors reach the library with their device, their stream, and a workspace that is given back."""
    inputs = tensors(qkv)
    real = _torch.view
    monkeypatch.setattr(_torch, "view", lambda *a: real(*a)._replace(device=3))
    given_back: list[int] = []
    monkeypatch.setattr(_torch, "workspace", lambda device, size: (0x5000 + device, 0x7000 + size, given_back.append))
    monkeypatch.setattr(_torch, "signature", lambda *a: None)
    seen = []

    def run(address: int) -> int:
        args = bytes(frame.args)
        seen.append((*struct.unpack_from("=ii", args, 12), *struct.unpack_from("=QQQ", args, _lib.MEMORY_AT)))
        return _lib.OK

    frame = _lib.Frame()
    frame.run, frame.variant, frame.workspace_size = run, lambda: b"fake", lambda: 1000
    monkeypatch.setattr(_call, "idle", [frame])
    clary.attention(*inputs)
    assert seen == [(1, 3, 0x7000 + 1000, 1000, 0x5003)] and given_back == [0x7000 + 1000]
    assert bytes(frame.args[_lib.MEMORY_AT :]) == bytes(32)  # no pointer outlives the call


def test_what_torch_does_faster_it_does(qkv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's refusal is asked for once, remembered for calls of the same kind, and counted each time."""
    inputs = tensors(qkv, queries=65, keys=65, v_dim=40)
    asked = []

    def run(address: int) -> int:
        asked.append(struct.unpack_from("=I", bytes(frame.args), 8)[0])
        return _lib.NOT_SUPPORTED

    frame = _lib.new_frame()
    frame.run = run
    monkeypatch.setattr(_call, "idle", [frame])
    monkeypatch.setattr(_call, "_plans", {})
    monkeypatch.setattr(_lib, "error", lambda status: _lib.NotSupported("SDPA is faster."))
    clary.stats(reset=True)
    for _ in range(3):
        want = torch.nn.functional.scaled_dot_product_attention(*inputs, enable_gqa=True, is_causal=True)
        assert torch.equal(clary.attention(*inputs, causal=True), want)
    assert asked == [_lib.NOT_SLOWER | _lib.FULL_WORKSPACE]
    assert clary.stats()["fallbacks"] == {"SDPA is faster.": 3}
    assert clary.policy(never_slower=False) == {"never_slower": False}
    try:
        clary.attention(*inputs, causal=True)
    finally:
        assert clary.policy(never_slower=True) == clary.policy()
    assert asked == [_lib.NOT_SLOWER | _lib.FULL_WORKSPACE, _lib.FULL_WORKSPACE]


def test_other_devices_are_refused_together(qkv: Any) -> None:
    q, k, v = tensors(qkv)
    with pytest.raises((ValueError, RuntimeError)):
        clary.attention(q, k.to("meta"), v)


def test_no_numpy_needed(python: Any) -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "numpy": raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
import torch, clary
x = torch.ones(1, 2, 3, 8)
assert torch.allclose(clary.attention(x, x, x), x, atol=0.1)
"""
    done = python("-W", "ignore", "-c", code)
    assert done.returncode == 0, done.stderr
