"""Upstream's kernels for compute capability 8.0: here, the engine on whatever device the tensors are."""

from ._kernels import kernel

qk_int8_sv_f16_accum_f32_attn = kernel("qk_int8_sv_f16_accum_f32_attn", "high", 128, 64)
qk_int8_sv_f16_accum_f16_attn = kernel("qk_int8_sv_f16_accum_f16_attn", "high", 128, 64)
qk_int8_sv_f16_accum_f16_fuse_v_mean_attn = kernel("qk_int8_sv_f16_accum_f16_fuse_v_mean_attn", "high", 128, 64)
qk_int8_sv_f16_accum_f16_attn_inst_buf = kernel("qk_int8_sv_f16_accum_f16_attn_inst_buf", "high", 128, 64)
