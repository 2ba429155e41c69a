// Shares of a sequence's keys into one result: a warp per row of out, in the order of the shares.
#pragma once
#include "../common/store.cuh"

namespace clary::cuda {

__device__ __forceinline__ void combine(const AttentionArgs& a) {
  __shared__ float rows[4][256];
  const int64_t item = static_cast<int64_t>(blockIdx.x) * 4 + warp();
  const int tokens = a.queries;  // of out, per head
  const int64_t per_batch = static_cast<int64_t>(a.heads) * tokens;
  const int batch = static_cast<int>(item / per_batch), head = static_cast<int>(item % per_batch / tokens);
  const int token = static_cast<int>(item % tokens);
  if (batch >= (a.cu_q ? 1 : a.sequences)) return;
  const int index = a.cu_q ? last_sequence(a.sequences, token, [&](int i) { return a.cu_q[i]; }) : batch;
  const Sequence s = sequence_at(a, index);
  const int key_head = head / a.group, count = s.queries * a.group;
  const int row = (head - key_head * a.group) * s.queries + token - s.q_begin;
  const int64_t per = share_keys(count, a.key_heads, s.keys);
  const int shares = s.keys > per ? static_cast<int>(ceil_div(s.keys, per)) : 1;
  if (shares == 1) return;
  const int dim = a.part_dim;
  float most = -kInfinity, sum = 0, out[8] = {};
#pragma unroll 1
  for (int i = 0; i < shares; i++) most = fmaxf(most, a.part_lse[part_row(a, s, key_head, i, count, row)]);
#pragma unroll 1
  for (int i = 0; i < shares; i++) {
    const int64_t part = part_row(a, s, key_head, i, count, row);
    const float lse = a.part_lse[part], weight = lse == -kInfinity ? 0.0f : exp2_fast(lse - most);
    sum += weight;
#pragma unroll
    for (int c = 0; c < 8; c++)
      if (c * 32 + lane() < dim && weight != 0) out[c] = fmaf(weight, a.part_out[part * dim + c * 32 + lane()], out[c]);
  }
#pragma unroll
  for (int c = 0; c < 8; c++) rows[warp()][c * 32 + lane()] = sum == 0 ? 0.0f : out[c] / sum;
  __syncwarp();
  const Place place = {a.cu_q ? 0 : batch, head, token};
  store_row(out_row(a, place), rows[warp()], a.channels, a.out_kind, a.out_access);
  if (a.lse && lane() == 0) store_lse(a, s, place, sum == 0 ? -kInfinity : most + log2_fast(sum));
}

}  // namespace clary::cuda
