"""The compat functions under torch: compiled, autocast, differentiated; and torch's own contract in torch's place."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import reference

import clary
from clary.compat import sageattention, sageattn3

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402

from clary.compat import sdpa  # noqa: E402

own = torch._C._nn.scaled_dot_product_attention
DENSE = [
    sageattention.sageattn,
    sageattention.sageattn_qk_int8_pv_fp16_cuda,
    sageattention.sageattn_qk_int8_pv_fp16_triton,
    sageattention.sageattn_qk_int8_pv_fp8_cuda,
    sageattention.sageattn_qk_int8_pv_fp8_cuda_sm90,
    sageattn3.sageattn3_blackwell,
    sdpa.scaled_dot_product_attention,
]


def inputs(length: int = 96, keys: int | None = None, dtype: Any = torch.float32, heads: int = 2) -> list[Any]:
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(1, heads, n, 64, generator=generator).to(dtype) for n in (length, keys or length, keys or length)
    ]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    clary.stats(reset=True)
    yield
    clary.disable()


# ---- compiled -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", DENSE, ids=lambda f: f.__name__)
def test_compiles_without_a_graph_break(function: Any) -> None:
    q, k, v = inputs()
    explained = torch._dynamo.explain(lambda *x: function(*x, is_causal=True))(q, k, v)
    assert explained.graph_break_count == 0
    assert any("clary.attention" in str(op) for op in explained.ops_per_graph[0])
    compiled = torch.compile(lambda *x: function(*x, is_causal=True), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(q, k, v), function(q, k, v, is_causal=True))


def test_compiles_varlen_and_lse() -> None:
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in inputs())
    cu = torch.tensor([0, 40, 96], dtype=torch.int32)

    def call(*x: Any) -> Any:
        return sageattention.sageattn_varlen(*x, cu, cu, 56, 56, return_lse=True)

    for got, want in zip(torch.compile(call, fullgraph=True, backend="aot_eager")(q, k, v), call(q, k, v)):
        assert torch.equal(got, want)


@pytest.mark.parametrize(
    "function", [sageattention.sageattn, sdpa.scaled_dot_product_attention], ids=lambda f: f.__name__
)
def test_dynamic_shapes_compile_once(function: Any) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda *x: function(*x), fullgraph=True, dynamic=True, backend=counter)
    clary.attention(*inputs())  # the first call of a process finds out what serves tensors
    compiled(*inputs(70, 75))
    first = counter.frame_count  # torch may compile twice to learn that dropout_p is 0.0
    for n in (96, 200, 333):
        q, k, v = inputs(n, n + 5)
        assert torch.equal(compiled(q, k, v), clary.attention(q, k, v))
    assert counter.frame_count == first


@pytest.mark.parametrize("mode", ["default", "max-autotune"])
def test_inductor(mode: str) -> None:
    with clary.enable("sdpa"):
        q, k, v = inputs()
        compiled = torch.compile(lambda *x: F.scaled_dot_product_attention(*x).relu(), fullgraph=True, mode=mode)
        try:
            got = compiled(q, k, v)
        except Exception as error:
            if "compiler" in str(error).lower():
                pytest.skip(f"inductor: {error}")
            raise
        assert torch.equal(got, clary.attention(q, k, v).relu())


def test_enabling_is_seen_by_compiled_code() -> None:
    q, k, v = inputs(200, dtype=torch.float16)
    compiled = torch.compile(lambda *x: F.scaled_dot_product_attention(*x), backend="aot_eager")
    plain = compiled(q, k, v)
    with clary.enable("sdpa"):
        assert torch.equal(compiled(q, k, v), clary.attention(q, k, v))
    with clary.enable("sdpa", accuracy="exact"):
        assert torch.equal(compiled(q, k, v), clary.attention(q, k, v, accuracy="exact"))
    assert torch.equal(compiled(q, k, v), plain)


# ---- autocast -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "function", [sageattention.sageattn, sdpa.scaled_dot_product_attention, clary.attention], ids=lambda f: f.__name__
)
def test_autocast(function: Any, compiled: bool) -> None:
    """As torch's SDPA: q, k and v of any mixture of floats go in, autocast's dtype comes out."""
    q, k, v = inputs(200)
    call = torch.compile(lambda *x: function(*x), fullgraph=True, backend="aot_eager") if compiled else function
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        function(q, k.bfloat16(), v)  # which is not remembered
    with torch.autocast("cpu", torch.bfloat16):
        got = call(q, k.bfloat16(), v)
        want = own(q, k.bfloat16(), v)
    assert got.dtype == want.dtype == torch.bfloat16
    assert torch.equal(got, clary.attention(q.bfloat16(), k.bfloat16(), v.bfloat16()))
    assert function(q, k, v).dtype == torch.float32


# ---- gradients ----------------------------------------------------------------------------------------------------------

PROBLEMS: list[dict[str, Any]] = [
    {},
    {"causal": True},
    {"scale": 0.3},
    {"mask": "bool"},
    {"mask": "float"},
    {"layout": "NHD"},
    {"heads": 2},
]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_recompute_is_torchs_backward(problem: dict[str, Any], compiled: bool) -> None:
    words = dict(problem)
    q, k, v = inputs(heads=4)
    kv_heads = words.pop("heads", 4)
    k, v = k[:, :kv_heads], v[:, :kv_heads]
    if "mask" in words:
        words["mask"] = torch.randn(1, 4, 96, 96, generator=torch.Generator().manual_seed(0))
        words["mask"] = words["mask"] > -1 if problem["mask"] == "bool" else words["mask"].requires_grad_()
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    given = [x.transpose(1, 2) for x in leaves] if words.get("layout") == "NHD" else leaves

    def call(q: Any, k: Any, v: Any) -> Any:
        return clary.attention(q, k, v, grad="recompute", **words)

    out = (torch.compile(call, fullgraph=True, backend="aot_eager") if compiled else call)(*given)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(upstream)
    mask = words.get("mask")
    grads = [x.grad for x in leaves] + ([mask.grad] if problem.get("mask") == "float" else [])

    again = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    mask = mask if mask is None or mask.dtype == torch.bool else mask.detach().clone().requires_grad_()
    full = [again[0], *(x.repeat_interleave(4 // kv_heads, 1) for x in again[1:])]
    want = own(*full, mask, 0.0, bool(words.get("causal")), scale=words.get("scale"))
    want.backward(upstream.transpose(1, 2) if words.get("layout") == "NHD" else upstream)
    for got, x in zip(grads, [x.grad for x in again] + ([mask.grad] if problem.get("mask") == "float" else [])):
        if kv_heads == 4:
            assert torch.equal(got, x)
        else:  # torch adds the gradients of a group's heads in an order of its own
            torch.testing.assert_close(got, x, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(out, clary.attention(*given, **words))


def test_gradients_are_refused_unless_asked_for() -> None:
    q, k, v = inputs()
    q.requires_grad_()
    for function in (sageattention.sageattn, sageattn3.sageattn3_blackwell):
        with pytest.raises(RuntimeError, match="recompute"):
            function(q, k, v)
    with clary.enable("sageattention", grad="recompute"):
        for function in (sageattention.sageattn, sageattn3.sageattn3_blackwell):
            function(q, k, v).sum().backward()
    with pytest.raises(ValueError, match="grad"):
        clary.attention(q, k, v, grad="flash")
    with pytest.raises(ValueError, match="out"):
        clary.attention(q, k, v, grad="recompute", out=torch.empty(1, 2, 96, 64))
    with pytest.raises(ValueError, match="NumPy"):
        clary.attention(*(x.detach().numpy() for x in (q, k, v)), grad="recompute")


def test_torch_differentiates_its_own_calls() -> None:
    """In torch's place a call that needs gradients is torch's, unless clary's with torch's backward is asked for."""
    q, k, v = inputs(200)
    q.requires_grad_()
    with clary.enable("sdpa"):
        F.scaled_dot_product_attention(q, k, v).sum().backward()
    assert clary.stats()["fallbacks"] == {"sdpa: requires grad": 1}
    want, q.grad = q.grad, None
    with clary.enable("sdpa", grad="recompute"):
        F.scaled_dot_product_attention(q, k, v).sum().backward()
    assert torch.equal(q.grad, want) and sum(clary.stats()["variants"].values()) == 1


def test_training_converges_under_recompute() -> None:
    """A layer learns as it does with torch's attention."""
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        layer = torch.nn.MultiheadAttention(64, 2, batch_first=True)
        optimizer = torch.optim.Adam(layer.parameters(), 3e-3)
        x, y = torch.randn(2, 128, 64), torch.randn(2, 128, 64)
        context = clary.enable("sdpa", grad="recompute") if enabled else clary.enable()
        with context:
            for _ in range(20):
                loss = (layer(x, x, x, need_weights=False)[0] - y).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        losses.append(loss.item())
    assert abs(losses[1] - losses[0]) <= reference.BOUND["standard", "short"] * losses[0], losses


@pytest.mark.parametrize(
    "words", [{}, {"causal": "upper_left"}, {"return_lse": True}, {"mask": torch.zeros(96, 96)}], ids=str
)
def test_opcheck_with_gradients(words: dict[str, Any]) -> None:
    q, k, v = (x.requires_grad_() for x in inputs())
    mask = words.get("mask")
    mask = mask if mask is None else mask.clone().requires_grad_()
    args = (q, k, v, "HND", words.get("causal", "none"), None, mask, None, None, None, None, None, None, "exact")
    torch.library.opcheck(torch.ops.clary.attention.default, (*args, words.get("return_lse", False)))


# ---- in torch's place ---------------------------------------------------------------------------------------------------


def test_what_clary_does_not_serve_is_torchs() -> None:
    """The same bits, or the same error, and each reason counted."""
    q, k, v = inputs(200)
    mask = torch.ones(200, 200, dtype=torch.bool).tril()
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("below break-even", inputs(8), {}),
        ("below break-even", (*inputs(60), mask[:60, :60]), {}),
        ("shape", (q[0], k[0], v[0]), {}),
        ("shape", (q, k[..., :100, :], v[..., :99, :]), {}),
        ("shape", (q.expand(3, -1, -1, -1), k, v), {}),
        ("causal and a mask", (q, k, v, mask), {"is_causal": True}),
        ("dtype", (q.double(), k.double(), v.double()), {}),
        ("dtype", (q, k.half(), v), {}),
        ("heads", (q, k[:, :1], v[:, :1]), {}),
        ("device", (q.to("meta"), k.to("meta"), v.to("meta")), {}),
        ("mask", (q, k, v, mask.double()), {}),
    ]
    for why, args, words in calls:
        clary.stats(reset=True)
        try:
            want = own(*args, **words)
        except Exception as error:
            with pytest.raises(type(error)):
                sdpa.scaled_dot_product_attention(*args, **words)
        else:
            got = sdpa.scaled_dot_product_attention(*args, **words)
            assert got.shape == want.shape and (got.is_meta or torch.equal(got, want))
        assert clary.stats()["fallbacks"] == {f"sdpa: {why}": 1}


def test_nested_tensors_are_torchs() -> None:
    x = torch.nested.nested_tensor([torch.randn(2, 30, 64), torch.randn(2, 40, 64)])
    got, want = (f(x, x, x) for f in (sdpa.scaled_dot_product_attention, own))
    assert all(torch.equal(a, b) for a, b in zip(got.unbind(), want.unbind()))
    assert clary.stats()["fallbacks"] == {"sdpa: nested tensors": 1}


def test_dropout_is_torchs() -> None:
    q, k, v = inputs(200)
    torch.manual_seed(5)
    want = own(q, k, v, dropout_p=0.3)
    torch.manual_seed(5)
    assert torch.equal(sdpa.scaled_dot_product_attention(q, k, v, dropout_p=0.3), want)


def test_threads_share_what_is_enabled() -> None:
    q, k, v = inputs(300, dtype=torch.float16)
    want = clary.attention(q, k, v)
    with clary.enable("sdpa"):
        same = []

        def work(_: int) -> None:
            same.extend(torch.equal(F.scaled_dot_product_attention(q, k, v), want) for _ in range(20))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    assert same == [True] * 80
