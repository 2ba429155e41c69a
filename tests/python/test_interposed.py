"""What watches or transforms torch's operators sees our calls: tracers, modes, torch.func, forward mode, subclasses.

Their results are those of torch's own function; a call that bypassed them would be a constant in a trace, or lose a tangent.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import clary

torch = pytest.importorskip("torch")
import torch.autograd.forward_ad as forward_ad  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.attention.bias import causal_lower_right  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

own = torch._C._nn.scaled_dot_product_attention


def attention(q: Any, k: Any, v: Any) -> Any:
    return clary.attention(q, k, v, accuracy="exact")


def in_place(q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v)


BOTH = pytest.mark.parametrize("function", [attention, in_place], ids=lambda f: f.__name__)


@pytest.fixture(autouse=True)
def _enabled() -> Any:
    clary.stats(reset=True)
    with clary.enable("sdpa", accuracy="exact"):
        yield


def tensors(seed: int = 0, queries: int = 150) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 4, n, 64, generator=generator) for n in (queries, 150, 150))


def same(got: Any, want: Any) -> bool:
    return bool(torch.allclose(got, want, rtol=1e-4, atol=1e-5))


@BOTH
def test_a_trace_is_no_constant(function: Callable[..., Any]) -> None:
    traced = torch.jit.trace(lambda *x: function(*x), tensors(), check_trace=False)
    for other in (tensors(1), tensors(2, queries=170)):
        assert same(traced(*other), own(*other))


@BOTH
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_a_graph_is_no_constant(function: Callable[..., Any], mode: str) -> None:
    graph = make_fx(lambda *x: function(*x), tracing_mode=mode)(*tensors())
    assert same(graph(*tensors(1)), own(*tensors(1)))


@BOTH
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_vmap(function: Callable[..., Any]) -> None:
    many = [torch.stack(x) for x in zip(tensors(), tensors(1), tensors(2))]
    assert same(torch.func.vmap(function)(*many), torch.stack([own(*x) for x in zip(*many)]))


def test_forward_mode() -> None:
    """In torch's place the tangent is torch's; clary's own function has none, and says so."""
    q, k, v = tensors()
    with sdpa_kernel(SDPBackend.MATH):
        _, want = torch.func.jvp(lambda q: own(q, k, v), (q,), (k,))
        _, got = torch.func.jvp(lambda q: in_place(q, k, v), (q,), (k,))
        assert same(got, want)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(q, k)
            assert same(forward_ad.unpack_dual(in_place(dual, k, v)).tangent, want)
            with pytest.raises(RuntimeError, match="forward-mode"):
                attention(dual, k, v)
    with pytest.raises((RuntimeError, NotImplementedError), match="forward"):
        torch.func.jvp(lambda q: attention(q, k, v), (q,), (k,))


@BOTH
def test_fake_tensors(function: Callable[..., Any]) -> None:
    inputs = tensors()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert all(function(*x).shape == (2, 4, 150, 64) for x in (inputs, map(mode.from_tensor, inputs)))


def test_operations_are_counted() -> None:
    with FlopCounterMode(display=False) as counter:
        in_place(*tensors())
    assert counter.get_total_flops() == 4 * 2 * 4 * 150 * 150 * 64


def test_function_modes_see_the_function_that_is_there() -> None:
    """As those do that make one attention of all processes' parts."""
    seen = []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(function)
            if function is F.scaled_dot_product_attention:
                return "theirs"
            return function(*args, **(kwargs or {}))

    inputs = tensors()
    with Mode():
        assert F.scaled_dot_product_attention(*inputs, scale=0.5) == "theirs"
    assert seen == [F.scaled_dot_product_attention]


def test_subclasses_see_the_function_that_is_there() -> None:
    class Logged(torch.Tensor):
        seen: list[Any] = []

        @classmethod
        def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            cls.seen.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    q, k, v = tensors()
    out = in_place(q.as_subclass(Logged), k, v)
    assert type(out) is Logged and Logged.seen == [F.scaled_dot_product_attention]
    assert torch.equal(out.as_subclass(torch.Tensor), own(q, k, v))
    bias = causal_lower_right(150, 150)
    want = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert same(F.scaled_dot_product_attention(q, k, v, attn_mask=bias), want)


@BOTH
def test_negated_views(function: Callable[..., Any]) -> None:
    q, k, v = tensors()
    negated = torch.complex(v, q).conj().imag  # a view with a bit set, and strides of 2
    assert negated.is_neg() and same(function(negated, k, v), own(-q, k, v))
    assert same(function(torch._neg_view(q), k, v), own(-q, k, v))


def test_a_mistake_is_torchs_error() -> None:
    q, k, v = tensors()
    mistakes: list[dict[str, Any]] = [
        {"is_causal": 1},
        {"is_causal": None},
        {"enable_gqa": 1},
        {"dropout_p": None},
        {"dropout_p": 2.0},
        {"scale": "a"},
        {"attn_mask": False},
        {"attn_mask": torch.ones(7, 7, dtype=torch.bool)},
        {"attn_mask": torch.ones(150, 150, dtype=torch.int32)},
        {"attn_mask": torch.zeros(2, 1, 1, 150, dtype=torch.half)},
        {"speed": 9},
    ]
    for words in mistakes:
        with pytest.raises((TypeError, RuntimeError)) as theirs:
            own(q, k, v, **words)
        with pytest.raises(theirs.type):
            F.scaled_dot_product_attention(q, k, v, **words)
    assert torch.equal(
        F.scaled_dot_product_attention(q, k, v, scale=float("nan")).isnan(), torch.ones(q.shape, dtype=torch.bool)
    )


def test_pickles_by_a_name_that_is_there_without_enabling(python: Any) -> None:
    """What one process pickles under enable(), another loads that never heard of it."""
    from clary.compat import sageattention

    for function in (F.scaled_dot_product_attention, sageattention.sageattn):
        data = pickle.dumps(function)
        assert b"clary.compat" in data and pickle.loads(data) is function
        assert python("-c", f"import pickle; pickle.loads({data!r})").returncode == 0
