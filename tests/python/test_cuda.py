"""CUDA tensors: streams, devices, graphs, threads, memory, host cost, torch.compile, arrays through DLPack.

./dev test gpu runs this with --gpu; without it, or without a GPU, all of it is skipped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import reference

import clary

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    if not request.config.getoption("gpu"):
        pytest.skip("CUDA tensors are tested with --gpu")
    clary.stats(reset=True)
    yield
    torch.cuda.synchronize()


def tensors(
    queries: int = 700, keys: int = 900, dim: int = 128, heads: int = 4, kv_heads: int = 2, dtype: Any = torch.bfloat16
) -> list[Any]:
    make = torch.Generator(device="cuda").manual_seed(queries + dim)
    shapes = ((2, heads, queries, dim), (2, kv_heads, keys, dim), (2, kv_heads, keys, dim))
    return [torch.randn(shape, device="cuda", generator=make).to(dtype) for shape in shapes]


def exact(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return sdpa(*(x.double() for x in (q, k, v)), is_causal=causal, enable_gqa=True)


def error(got: Any, want: Any) -> float:
    return float((got.double() - want).norm() / want.norm())


def variants() -> dict[str, int]:
    """The calls since the last look, none of which may have fallen back."""
    seen = clary.stats(reset=True)
    assert not seen["fallbacks"] and not seen["errors"], seen
    return seen["variants"]


# ---- right, and ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("dim", [40, 64, 128, 256])
@pytest.mark.parametrize("causal", [False, True])
def test_accuracy(dtype: Any, dim: int, causal: bool) -> None:
    inputs = tensors(dim=dim, dtype=dtype, queries=1500, keys=1500)
    out = clary.attention(*inputs, causal=causal)
    assert out.dtype == dtype and out.is_cuda and out.is_contiguous()
    name = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}[dtype]
    assert error(out, exact(*inputs, causal)) <= reference.BOUND["standard", "normal"] + reference.ROUNDING[(name,)]
    assert all(variant.startswith("cuda:") for variant in variants())


def test_same_bits_twice_and_in_any_layout() -> None:
    q, k, v = tensors()
    want = clary.attention(q, k, v)
    assert torch.equal(clary.attention(q, k, v), want)
    nhd = [x.transpose(1, 2).contiguous() for x in (q, k, v)]
    assert torch.equal(clary.attention(*nhd, layout="NHD").transpose(1, 2), want)
    assert torch.equal(clary.attention(*(x.transpose(1, 2) for x in nhd)), want)


def test_explain_says_what_runs() -> None:
    inputs = tensors(4096, 4096)
    answer = clary.explain(*inputs)
    clary.attention(*inputs)
    assert variants() == {answer.variant: 1}
    assert answer.plan["workspace"] > 0


def test_many_tokens() -> None:
    """100,000 tokens; some rows against f64."""
    q, k, v = tensors(100_000, 100_000, heads=2)
    out, lse = clary.attention(q, k, v, return_lse=True)
    assert all(variant.startswith("cuda:") for variant in variants())
    rows = torch.arange(0, 100_000, 1777, device="cuda")
    scores = q[:, :, rows].double() @ k.double().transpose(2, 3) * 128**-0.5
    assert (
        error(out[:, :, rows], exact(q[:, :, rows], k, v))
        <= reference.GPU_BOUND["standard", "normal"] + reference.ROUNDING[("bf16",)]
    )
    worst = float((lse[:, :, rows].double() - scores.logsumexp(-1)).abs().max())
    assert worst <= reference.GPU_LSE_BOUND["standard", "normal"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_offsets_past_2_31(axis: int) -> None:
    """Elements that are further than 2^31 elements from the first, in inputs and output."""
    inputs = tensors(70, 70, dim=64, heads=2)
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GB of GPU memory")

    def spread(x: Any) -> Any:
        strides = list(x.stride())
        strides[axis] = (2**31 + 64) // (x.shape[axis] - 1) // 64 * 64 + 64
        memory = torch.empty(strides[axis] * (x.shape[axis] - 1) + x.numel(), dtype=x.dtype, device="cuda")
        far = memory.as_strided(x.shape, strides)
        far.copy_(x)
        return far

    want = clary.attention(*inputs)
    out = spread(torch.zeros_like(want))
    assert clary.attention(*map(spread, inputs), out=out) is out
    assert torch.equal(out, want)


# ---- streams, devices, threads --------------------------------------------------------------------------------------


def test_runs_on_the_current_stream() -> None:
    """Inputs that are written late on a side stream, and overwritten right after the call, on the same stream."""
    source = tensors(2000, 2000)
    want = clary.attention(*source)
    inputs = [torch.full_like(x, float("nan")) for x in source]
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)
        for x, y in zip(inputs, source):
            x.copy_(y)
        out = clary.attention(*inputs)
        for x in inputs:
            x.fill_(float("nan"))
    side.synchronize()
    assert torch.equal(out, want)


@pytest.mark.timed
def test_does_not_wait() -> None:
    inputs = tensors(2000, 2000)
    clary.attention(*inputs)
    torch.cuda.synchronize()
    torch.cuda._sleep(400_000_000)  # a fifth of a second
    begin = time.perf_counter()
    clary.attention(*inputs)
    assert time.perf_counter() - begin < 0.05


def test_second_device() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    inputs = tensors()
    want = clary.attention(*inputs)
    there = [x.to("cuda:1") for x in inputs]
    got = clary.attention(*there)
    assert torch.cuda.current_device() == 0 and got.device.index == 1
    assert torch.equal(got.cpu(), want.cpu())
    with torch.cuda.device(1):
        for x in (inputs, there):
            assert torch.equal(clary.attention(*x).cpu(), want.cpu())
            assert torch.cuda.current_device() == 1
    with pytest.raises(ValueError, match="one device"):
        clary.attention(inputs[0], *there[1:])


def test_a_thread_for_each_device() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    inputs = tensors()
    want, wrong = clary.attention(*inputs).cpu(), []

    def work(device: int) -> None:
        own = [x.to(f"cuda:{device}") for x in inputs]
        for _ in range(100):
            if not torch.equal(clary.attention(*own).cpu(), want):
                wrong.append(device)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert not wrong


def test_threads_on_one_stream() -> None:
    """Calls of threads that share a stream come one after the other, each whole."""
    problems = [tensors(300 + 100 * i, 800) for i in range(3)]
    want = [clary.attention(*p) for p in problems]
    torch.cuda.synchronize()
    outputs: list[list[Any]] = [[] for _ in problems]

    def work(i: int) -> None:
        for _ in range(100):
            outputs[i].append(clary.attention(*problems[i]))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert all(torch.equal(out, want[i]) for i in range(3) for out in outputs[i])


def test_threads() -> None:
    problems = [tensors(500 + 100 * i, 800, dim=(64, 128)[i % 2]) for i in range(4)]
    want = [clary.attention(*p) for p in problems]
    torch.cuda.synchronize()
    wrong: list[int] = []

    def work(i: int) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for n in range(25):
                at = (i + n) % 4
                out = clary.attention(*problems[at])
                stream.synchronize()
                if not torch.equal(out, want[at]):
                    wrong.append(at)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert not wrong
    assert sum(variants().values()) == 54


# ---- graphs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [1, 900])
def test_graph(queries: int) -> None:
    """Captured on a side stream; replays equal eager calls bit for bit, on inputs that change in place."""
    first = tensors(queries, 5000)
    values = [first, [x.flip(0) for x in first]]
    want = [clary.attention(*x, causal="lower_right") for x in values]
    inputs = [x.clone() for x in first]
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=side):
        out = clary.attention(*inputs, causal="lower_right")
    for at in (0, 1, 0):
        for x, y in zip(inputs, values[at]):
            x.copy_(y)
        graph.replay()
        assert torch.equal(out, want[at])
        assert torch.equal(clary.attention(*inputs, causal="lower_right"), want[at])  # beside it
    assert all(variant.startswith(os.environ.get("CLARY_FORCE", "cuda:")) for variant in variants())


def test_graph_of_another_family(python: Any) -> None:
    """test_graph on the kernels of compute capability 8.0."""
    done = python("-m", "pytest", "-q", "--gpu", "-k", "test_graph and not family", __file__, CLARY_FORCE="cuda:sm80")
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiles(mode: str) -> None:
    torch._dynamo.reset()
    inputs = tensors()
    compiled = torch.compile(lambda q, k, v: clary.attention(q * 1, k, v, causal=True), fullgraph=True, mode=mode)
    try:
        for _ in range(4):
            got = compiled(*inputs).clone()
    except Exception as failure:
        if "compiler" in str(failure).lower():
            pytest.skip(f"inductor: {failure}")
        raise
    assert torch.equal(got, clary.attention(*inputs, causal=True))


def test_compiles_dynamic_shapes_once() -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(
        lambda q, k, v: clary.attention(q, k, v, return_lse=True), fullgraph=True, dynamic=True, backend=counter
    )
    for n in (200, 333, 1024):
        inputs = tensors(n, n + 7)
        for got, want in zip(compiled(*inputs), clary.attention(*inputs, return_lse=True)):
            assert torch.equal(got, want)
    assert counter.frame_count == 1


# ---- cost -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [64, 128])
def test_memory_peak(dim: int) -> None:
    """Beside the output: the codes of q, k and v, their scales, and 2 %."""
    inputs = tensors(8192, 8192, dim=dim, heads=8, kv_heads=8)
    clary.attention(*inputs)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    out = clary.attention(*inputs)
    torch.cuda.synchronize()
    extra = torch.cuda.max_memory_allocated() - before - out.numel() * out.element_size()
    rows = inputs[0].numel() // dim
    codes = rows * (3 * dim + 4 + 4 / 128 + 4 * dim / 512)
    assert extra <= codes * reference.GPU["workspace"] + (1 << 20)  # torch's allocator rounds to 1 MB and more


@pytest.mark.timed
def test_host_cost() -> None:
    """Of a call, from Python to the last launch, beside torch's; the GPU is kept busy, so that nothing waits for it."""
    inputs = tensors(256, 256, heads=2)
    ours, torchs = clary.attention, torch.nn.functional.scaled_dot_product_attention
    best = {ours: 1.0, torchs: 1.0}
    for call in [ours, torchs] * 20:
        call(*inputs)
        torch.cuda.synchronize()
        torch.cuda._sleep(20_000_000)
        begin = time.perf_counter()
        for _ in range(100):
            call(*inputs)
        best[call] = min(best[call], (time.perf_counter() - begin) / 100)
    print(f"\n{1e6 * best[ours]:.1f} us a call, torch's {1e6 * best[torchs]:.1f}")
    assert best[ours] <= max(1e-6 * reference.GPU["call_us"], best[torchs])  # machines differ twofold


@pytest.mark.timed
def test_first_call(python: Any) -> None:
    """Of a process that has torch on the GPU and clary imported: driver, images and kernels found and loaded."""
    code = """
import time, torch, clary
clary.policy(never_slower=False)
q = torch.randn(1, 2, 512, 128)
clary.attention(q, q, q)
q = q.to("cuda", torch.bfloat16)
torch.cuda.synchronize()
begin = time.perf_counter()
clary.attention(q, q, q)
torch.cuda.synchronize()
print(1e3 * (time.perf_counter() - begin))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    print(f"\n{float(done.stdout):.1f} ms")
    assert float(done.stdout) <= reference.GPU["first_call_ms"]


# ---- never slower, never for training -------------------------------------------------------------------------------


def test_never_slower() -> None:
    inputs = tensors(512, 512, heads=16, kv_heads=16)
    clary.policy(never_slower=True)
    try:
        got = clary.attention(*inputs)
        clary.attention(*inputs)
        answer = clary.explain(*inputs)
        seen = clary.stats()
    finally:
        clary.policy(never_slower=False)
    assert torch.equal(got, torch.nn.functional.scaled_dot_product_attention(*inputs, enable_gqa=True))
    (reason,) = seen["fallbacks"]
    assert "faster" in reason and seen["fallbacks"][reason] == 2 and not seen["variants"]
    assert answer.variant == "torch:scaled_dot_product_attention" and answer.reason == reason


def test_out_of_contract_falls_back() -> None:
    q, k, v = tensors(64, 64, dim=300, kv_heads=4)
    assert error(clary.attention(q, k, v), exact(q, k, v)) < 0.01
    q, k, v = tensors(kv_heads=4)
    clary.attention(q, k, v, accuracy="exact")
    seen = clary.stats()["fallbacks"]
    assert len(seen) == 2 and any("256" in why for why in seen) and any("exact" in why for why in seen)


def test_grad_is_refused() -> None:
    q, k, v = tensors()
    q.requires_grad_()
    with pytest.raises(RuntimeError, match="no_grad.*recompute"):
        clary.attention(q, k, v)
    with torch.no_grad():
        clary.attention(q, k, v)


# ---- other libraries ------------------------------------------------------------------------------------------------


def test_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    inputs = tensors(dtype=torch.float16)
    got = clary.attention(*map(cupy.from_dlpack, inputs))
    assert isinstance(got, cupy.ndarray)
    assert torch.equal(torch.from_dlpack(got), clary.attention(*inputs))


def test_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("jax sees no GPU")
    inputs = tensors()
    got, lse = clary.attention(*map(jax.dlpack.from_dlpack, inputs), return_lse=True)
    assert isinstance(got, jax.Array) and isinstance(lse, jax.Array)
    assert torch.equal(torch.from_dlpack(got), clary.attention(*inputs))
