"""Upstream's kernels for compute capability 8.9: here, the engine on whatever device the tensors are."""

from ._kernels import kernel

qk_int8_sv_f8_accum_f32_attn = kernel("qk_int8_sv_f8_accum_f32_attn", "standard", 128, 64)
qk_int8_sv_f8_accum_f32_attn_inst_buf = kernel("qk_int8_sv_f8_accum_f32_attn_inst_buf", "standard", 128, 64)
qk_int8_sv_f8_accum_f32_fuse_v_scale_attn = kernel("qk_int8_sv_f8_accum_f32_fuse_v_scale_attn", "standard", 128, 64)
qk_int8_sv_f8_accum_f32_fuse_v_scale_fuse_v_mean_attn = kernel(
    "qk_int8_sv_f8_accum_f32_fuse_v_scale_fuse_v_mean_attn", "standard", 128, 64
)
qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf = kernel(
    "qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf", "standard", 128, 64
)
qk_int8_sv_f8_accum_f16_attn_inst_buf = kernel("qk_int8_sv_f8_accum_f16_attn_inst_buf", "standard", 128, 64)
qk_int8_sv_f8_accum_f16_fuse_v_scale_attn_inst_buf = kernel(
    "qk_int8_sv_f8_accum_f16_fuse_v_scale_attn_inst_buf", "standard", 128, 64
)
