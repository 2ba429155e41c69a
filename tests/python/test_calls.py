"""The call matrix: every call of calls.py on every device here, against float64. None swallowed, none aborting."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference
from calls import CALLS, READ_AT, Row, Shape

import clary

torch = pytest.importorskip("torch")

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def name(value: Any) -> str:
    if isinstance(value, Row):
        return "-".join(
            [value.where.split()[0], value.function.partition(":")[2], value.layout, *map(str, value.means)]
        )
    return str(value)


def inputs(row: Row, s: Shape, device: str) -> SimpleNamespace:
    """q, k, v, mask, blocks [B, Hq, nq, nk], and for packed ones cu_q, cu_k, max_q, max_k."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(DTYPES[s.dtype])

    t = SimpleNamespace(
        q=normal(s.B, s.Hq, s.Lq, s.D), k=normal(s.B, s.Hkv, s.Lk, s.D), v=normal(s.B, s.Hkv, s.Lk, s.D)
    )
    t.mask = t.blocks = None
    if "mask" in row.means:
        t.mask = torch.rand(s.B, 1, s.Lq, s.Lk, generator=generator) > 0.3
        t.mask[..., 0] = True
        if row.means["mask"] == "float":
            t.mask = torch.where(t.mask, torch.randn(t.mask.shape, generator=generator), -torch.inf).to(DTYPES[s.dtype])
    if "blocks" in row.means:
        rows, columns = row.means["blocks"]
        t.blocks = torch.rand(s.B, s.Hq, -(-s.Lq // rows), -(-s.Lk // columns), generator=generator) > 0.4
        t.blocks[..., 0] = True
    if row.layout == "packed":
        t.cu_q = torch.tensor([0, s.Lq // 3, s.Lq // 3 + 1, s.Lq], dtype=torch.int32)
        t.cu_k = torch.tensor([0, s.Lk // 4, s.Lk // 4 + 5, s.Lk], dtype=torch.int32)
        t.cu_k = t.cu_q if row.means.get("same_lengths") else t.cu_k
        t.max_q, t.max_k = (int(cu.diff().max()) for cu in (t.cu_q, t.cu_k))
    return SimpleNamespace(**{n: x.to(device) if isinstance(x, torch.Tensor) else x for n, x in vars(t).items()})


def attention64(row: Row, t: SimpleNamespace) -> tuple[Any, Any]:
    """out [B, Hq, Lq, D] and lse, all at once, in float64 on the CPU."""
    q, k, v = (x.detach().cpu().double() for x in (t.q, t.k, t.v))
    group, (queries, keys) = q.shape[1] // k.shape[1], (q.shape[2], k.shape[2])
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    scores = q @ k.transpose(2, 3) * row.means.get("scale", q.shape[3] ** -0.5)
    seen = torch.ones(scores.shape, dtype=torch.bool)
    if row.layout == "packed":
        of_q, of_k = (
            torch.bucketize(torch.arange(n), cu.cpu()[1:], right=True) for n, cu in ((queries, t.cu_q), (keys, t.cu_k))
        )
        seen &= of_q[:, None] == of_k
        i, j = (torch.arange(n) - cu.cpu()[of] for n, cu, of in ((queries, t.cu_q, of_q), (keys, t.cu_k, of_k)))
        seen &= (j <= i[:, None]) if row.means.get("causal") else True
    else:
        causal = row.means.get("causal") or False
        seen &= torch.tensor(reference.visible(queries, keys, causal, row.means.get("window")))
    if "blocks" in row.means:
        rows, columns = row.means["blocks"]
        seen &= t.blocks.cpu().repeat_interleave(rows, 2)[:, :, :queries].repeat_interleave(columns, 3)[..., :keys]
    if t.mask is not None:
        mask = t.mask.cpu()
        seen &= mask if mask.dtype == torch.bool else mask > -torch.inf
        scores = scores if mask.dtype == torch.bool else scores + mask.double()
    scores = scores.masked_fill(~seen, -torch.inf)
    return scores.softmax(-1).nan_to_num(0.0) @ v, scores.logsumexp(-1)


def bound(row: Row, s: Shape, device: str) -> float:
    """Of the accuracy that was asked for; `high` is GPU arithmetic of another kind."""
    accuracy = "standard" if row.accuracy == "fast" or (device == "cuda" and row.accuracy == "high") else row.accuracy
    data = "normal" if accuracy == "exact" else "short"
    return reference.BOUND[accuracy, data] + reference.ROUNDING[(s.dtype,)]


@pytest.fixture(autouse=True, scope="module")
def _enabled() -> Any:
    with clary.enable("sageattention", "sageattn3", "spas_sage_attn"):
        yield


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("row", "shape"), CALLS, ids=name)
def test_call(row: Row, shape: Shape, device: str, request: pytest.FixtureRequest) -> None:
    if device == "cpu" and request.config.getoption("gpu"):
        pytest.skip("CPU tensors are tested without --gpu")
    module, _, attribute = row.function.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    t = inputs(row, shape, device)
    want, want_lse = attention64(row, t)
    for x in "qkv":
        given = getattr(t, x)
        if row.layout != "HND":
            given = given.transpose(1, 2).contiguous()
        setattr(t, x, given[0] if row.layout == "packed" else given)
    before = [x.clone() for x in (t.q, t.k, t.v)]
    clary.stats(reset=True)
    if row.refused:
        with pytest.raises(row.refused):
            row.call(function, t)
        assert not clary.stats()["variants"] and not clary.stats()["fallbacks"]
        return

    with torch.inference_mode():
        answer = row.call(function, t)

    counted = clary.stats()
    assert not counted["errors"] and counted["calls"] >= 1
    if device == "cpu" and row.by_torch is None:
        assert not counted["fallbacks"]
    elif row.by_torch is not None:
        assert all(row.by_torch in reason for reason in counted["fallbacks"]) and not counted["variants"]
    assert all(torch.equal(x, y) for x, y in zip(before, (t.q, t.k, t.v)))
    out, *lse = answer if isinstance(answer, tuple) else (answer,)
    assert out.shape == t.q.shape and out.dtype == t.q.dtype and out.device == t.q.device
    if not (row.by_torch or "").startswith("sdpa:"):  # torch's own call has torch's layout
        assert out.is_contiguous()
    out = out[None] if row.layout == "packed" else out
    out = (out if row.layout == "HND" else out.transpose(1, 2)).double().cpu()
    assert out.isfinite().all()
    if not row.means.get("random"):
        assert reference.error(out.numpy(), want.numpy()) <= bound(row, shape, device)
    assert len(lse) == bool(row.means.get("lse"))
    for x in lse:
        assert x.dtype == torch.float32 and x.shape == want_lse.shape
        worst = np.abs(x.double().cpu().numpy() - want_lse.numpy()).max()
        assert worst <= reference.LSE_BOUND["standard", "outlier"]


def test_rows_are_as_many_as_promised_and_cited() -> None:
    assert len(CALLS) >= 250
    cited = [row.where.split() for row, _ in CALLS]
    assert all(len(where) == 2 and where[1].endswith((".py", ".md")) for where in cited)
    assert {repository for repository, _ in cited} == set(READ_AT)
