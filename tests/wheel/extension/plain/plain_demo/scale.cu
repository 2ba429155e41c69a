// One kernel and a host function that computes the same, with C linkage.
#include <cuda_runtime.h>

__host__ __device__ static float scaled(float x, float by) { return x * by; }

__global__ void scale_kernel(float* x, float by, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] = scaled(x[i], by);
}

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int plain_version() { return 1; }
EXPORT float plain_scale_on_host(float x, float by) { return scaled(x, by); }
EXPORT int plain_scale(float* x, float by, int n, cudaStream_t stream) {
  scale_kernel<<<(n + 255) / 256, 256, 0, stream>>>(x, by, n);
  return static_cast<int>(cudaGetLastError());
}
