"""diffusers' dispatcher and pipelines on clary: pictures beside those of torch's own attention."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import reference
import torch

import clary
from clary import _shim

clary.enable("sageattention", "sageattn3", "diffusers")  # before diffusers looks for them

import pipelines  # noqa: E402
from diffusers.models import attention_dispatch as dispatch  # noqa: E402
from zoo import error, noise  # noqa: E402

PSNR = reference.table("CLARY_PSNR")
ACCURACIES = ("standard", "high", "exact")


@pytest.mark.parametrize("name", pipelines.PIPELINES)
def test_picture(name: str, calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_sdpa = torch.nn.functional.scaled_dot_product_attention
    want = pipelines.picture(name)
    with monkeypatch.context() as patch:  # all keys alike: what the picture would be if attention did not matter
        even = lambda *args, **words: torch_sdpa(*args, **(words | {"scale": 0.0}))  # noqa: E731
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", even)
        matters = pipelines.psnr(pipelines.picture(name), want)
    assert sum(calls().values()) == 0
    for accuracy in ACCURACIES:
        with pipelines.on_clary(name, accuracy):
            got = pipelines.psnr(pipelines.picture(name), want)
        assert sum(calls().values()) >= pipelines.STEPS * pipelines.PIPELINES[name].calls
        print(f"{name} {accuracy}: {got:.1f} dB, all keys alike {matters:.1f} dB")
        assert got >= PSNR[accuracy, "picture"] and got - matters >= PSNR[accuracy, "gain"]


# ---- every backend that can be clary ----------------------------------------------------------------------------------

BACKENDS = [b.value for b in dispatch.AttentionBackendName if "sage" in b.value or "clary" in b.value]


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends(backend: str, calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend.endswith("_hub"):  # as where `kernels` is installed; what it would fetch is there already
        monkeypatch.setattr(dispatch, "is_kernels_available", lambda: True)
        monkeypatch.setattr(dispatch, "is_kernels_version", lambda *version: True)
    q, k, v = (noise(2, 300, 4, 64, seed=seed) for seed in range(3))
    want = dispatch.dispatch_attention_fn(q, k, v)
    with dispatch.attention_backend(backend):
        got = dispatch.dispatch_attention_fn(q, k, v)
        causal = dispatch.dispatch_attention_fn(q, k, v, is_causal=True)
    assert sum(calls().values()) == 2
    assert error(got, want) <= reference.BOUND["standard", "short"]
    assert (
        error(causal, dispatch.dispatch_attention_fn(q, k, v, is_causal=True)) <= reference.BOUND["standard", "short"]
    )


def test_there_are_all_backends() -> None:
    known = {
        "sage",
        "sage_varlen",
        "_sage_qk_int8_pv_fp8_cuda",
        "_sage_qk_int8_pv_fp8_cuda_sm90",
        "clary",
        "clary_high",
    }
    known |= {"_sage_qk_int8_pv_fp16_cuda", "_sage_qk_int8_pv_fp16_triton", "clary_exact", "clary_fast"}
    assert set(BACKENDS) - known == ({"sage_hub", "sage_blackwell_hub"} if pipelines.V042 else set())
    assert known <= set(BACKENDS)


def test_through_the_shim_wheel(python: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(_shim.build("sageattention", tmp_path)) as wheel:
        wheel.extractall(tmp_path)
    code = """
from diffusers.models import attention_dispatch as dispatch
import clary, torch
q = torch.ones(1, 300, 2, 64)
with dispatch.attention_backend("sage"):
    dispatch.dispatch_attention_fn(q, q, q)
clary.enable("diffusers")  # after it was imported
with dispatch.attention_backend("clary"):
    dispatch.dispatch_attention_fn(q, q, q)
print(clary.stats()["calls"])
"""
    path = [str(tmp_path), str(Path(clary.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    assert python(code, PYTHONPATH=os.pathsep.join(path)) == "2\n"


# ---- arguments of the dispatcher --------------------------------------------------------------------------------------


def both(*qkv: torch.Tensor, **words: Any) -> tuple[torch.Tensor, torch.Tensor]:
    want = dispatch.dispatch_attention_fn(*qkv, **words)
    with dispatch.attention_backend("clary_exact"):
        return dispatch.dispatch_attention_fn(*qkv, **words), want


MASKS = {
    "keys": torch.arange(90) < torch.tensor([[90], [31]]),
    "keys-of-all": torch.arange(90)[None, None, None] % 3 > 0,
    "rows": noise(2, 1, 70, 90) > -1,
    "heads": noise(1, 4, 70, 90) > -1,
    "bias": noise(2, 4, 70, 90),
    "bias-bf16": noise(1, 1, 70, 90).bfloat16(),
}


@pytest.mark.parametrize("mask", MASKS)
def test_masks(mask: str) -> None:
    q, k, v = noise(2, 70, 4, 40), noise(2, 90, 4, 40, seed=1), noise(2, 90, 4, 40, seed=2)
    bias = MASKS[mask]
    with dispatch.attention_backend("clary_exact"):
        got = dispatch.dispatch_attention_fn(q, k, v, attn_mask=bias)
    bias = bias[:, None, None] if bias.dim() == 2 else bias  # 0.35's native backend takes no [B, Lk]
    want = dispatch.dispatch_attention_fn(q, k, v, attn_mask=bias if bias.dtype == torch.bool else bias.float())
    assert error(got, want) <= 1e-6


def test_scale_and_grouped_heads() -> None:
    q, k, v = noise(2, 70, 8, 64), noise(2, 90, 2, 64, seed=1), noise(2, 90, 2, 64, seed=2)
    got, want = both(q, k, v, scale=0.3, enable_gqa=True)
    assert error(got, want) <= 1e-6


def test_lse() -> None:
    from clary.integrations.diffusers import attention

    q, k, v = (noise(1, 50, 2, 32, seed=seed) for seed in range(3))
    _, lse = attention(q, k, v, return_lse=True, accuracy="exact")
    want = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1) * 32**-0.5).logsumexp(-1)
    assert error(lse, want) <= 1e-6


def test_what_is_refused() -> None:
    q = noise(1, 8, 2, 32)
    with pytest.raises(NotImplementedError, match="dropout"):
        both(q, q, q, dropout_p=0.5)
    from clary.integrations.diffusers import attention

    with pytest.raises(NotImplementedError, match="devices"):
        attention(q, q, q, _parallel_config=object())


# ---- the switch -------------------------------------------------------------------------------------------------------


def test_disable_and_enable_again() -> None:
    _, network = pipelines.make("flux")
    names = list(dispatch.AttentionBackendName.__members__)
    clary.disable("diffusers")
    assert names == list(dispatch.AttentionBackendName.__members__) + [
        "CLARY",
        "CLARY_EXACT",
        "CLARY_HIGH",
        "CLARY_FAST",
    ]
    with pytest.raises(ValueError, match="must be one of"):
        network.set_attention_backend("clary")
    clary.enable("diffusers")
    assert names == list(dispatch.AttentionBackendName.__members__)
    network.set_attention_backend("clary")
    network.set_attention_backend("native")


def test_compiles_whole(calls: Any) -> None:
    q = noise(1, 300, 2, 64)
    attend = torch.compile(
        lambda q: dispatch.dispatch_attention_fn(q, q, q, backend=dispatch.AttentionBackendName("clary")),
        fullgraph=True, backend="aot_eager",
    )  # fmt: skip
    got = attend(q)
    assert sum(calls().values()) == 1
    assert torch.equal(got, dispatch.dispatch_attention_fn(q, q, q, backend=dispatch.AttentionBackendName("clary")))


def test_example(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import diffusers_image

    diffusers_image.main(["--out", str(tmp_path / "out.png")])
    assert "'calls': 12" in capsys.readouterr().out
    assert (tmp_path / "out.png").stat().st_size > 1000
