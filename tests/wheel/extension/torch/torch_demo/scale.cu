// x * by: the kernel, without torch's headers, which take a compiler longer than all else here.
#include <cstdint>

__global__ void scale_kernel(const float* x, float* y, float by, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * by;
}

void scale_on(cudaStream_t stream, const float* x, float* y, float by, int64_t n) {
  if (n) scale_kernel<<<static_cast<unsigned>((n + 255) / 256), 256, 0, stream>>>(x, y, by, n);
}
