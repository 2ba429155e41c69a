"""Upstream's kernels for compute capability 9.0: here, the engine on whatever device the tensors are."""

from ._kernels import kernel

qk_int8_sv_f8_accum_f32_attn_inst_buf = kernel("qk_int8_sv_f8_accum_f32_attn_inst_buf", "standard", 64, 128)
qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf = kernel(
    "qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf", "standard", 64, 128
)
