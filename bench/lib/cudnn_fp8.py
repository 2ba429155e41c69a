"""cuDNN's FP8 attention through its Python frontend: its one kernel, without the quantising, for which cuDNN has none."""

from __future__ import annotations

from typing import Any

LARGEST = 448.0  # of e4m3


class Call:
    """softmax(q k^T / sqrt(D)) v of q, k, v [B, H, L, D] as e4m3 with a scale each, out likewise. The tensors are quantised here, once."""

    def __init__(self, q: Any, k: Any, v: Any, causal: bool) -> None:
        import cudnn
        import torch

        self.cudnn, self.torch, self.handle = cudnn, torch, cudnn.create_handle()
        fp8, f32 = cudnn.data_type.FP8_E4M3, cudnn.data_type.FLOAT
        graph = cudnn.pygraph(io_data_type=fp8, intermediate_data_type=f32, compute_data_type=f32, handle=self.handle)
        one = torch.ones(1, 1, 1, 1, device=q.device)
        scales = [one * x.abs().amax().float() / LARGEST for x in (q, k, v)]
        codes = [(x.float() / scale).to(torch.float8_e4m3fn) for x, scale in zip((q, k, v), scales)]
        p_scale = one * LARGEST  # of probabilities
        self.scale, self.out = scales[2], torch.empty_like(codes[0])  # no result is larger than V

        def tensor(x: Any, kind: Any) -> Any:
            return graph.tensor(dim=list(x.shape), stride=list(x.stride()), data_type=kind)

        given, factors = [tensor(x, fp8) for x in codes], [tensor(one, f32) for _ in range(6)]
        out, _, amax_s, amax_o = graph.sdpa_fp8(
            q=given[0],
            k=given[1],
            v=given[2],
            descale_q=factors[0],
            descale_k=factors[1],
            descale_v=factors[2],
            descale_s=factors[3],
            scale_s=factors[4],
            scale_o=factors[5],
            generate_stats=False,
            attn_scale=q.shape[-1] ** -0.5,
            use_causal_mask=causal,
            name="sdpa",
        )
        out.set_output(True).set_dim(list(self.out.shape)).set_stride(list(self.out.stride())).set_data_type(fp8)
        for amax in (amax_s, amax_o):
            amax.set_output(True).set_dim([1, 1, 1, 1]).set_stride([1, 1, 1, 1]).set_data_type(f32)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A])
        graph.check_support()
        graph.build_plans()
        self.graph = graph
        self.workspace = torch.empty(max(1, graph.get_workspace_size()), device=q.device, dtype=torch.uint8)
        numbers = [*scales, 1 / p_scale, p_scale, 1 / self.scale, torch.empty_like(one), torch.empty_like(one)]
        self.places = dict(zip([*given, *factors, amax_s, amax_o, out], [*codes, *numbers, self.out]))

    def __call__(self) -> Any:
        self.cudnn.set_stream(handle=self.handle, stream=self.torch.cuda.current_stream().cuda_stream)
        self.graph.execute(self.places, self.workspace, handle=self.handle)
        return self.out

    def value(self) -> Any:
        """What it computed, as numbers."""
        return self().float() * self.scale
