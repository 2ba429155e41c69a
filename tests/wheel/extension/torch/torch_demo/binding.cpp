// x * by, on the device the tensor is on.
#include <ATen/cuda/CUDAContext.h>
#include <torch/extension.h>

__global__ void scale_kernel(const float* x, float* y, float by, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * by;
}

static at::Tensor scale(const at::Tensor& x, double by) {
  if (!x.is_cuda() || x.scalar_type() != at::kFloat) return x * by;
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  const int64_t n = in.numel();
  const auto blocks = static_cast<unsigned>((n + 255) / 256);
  if (n)
    scale_kernel<<<blocks, 256, 0, at::cuda::getCurrentCUDAStream()>>>(in.data_ptr<float>(), out.data_ptr<float>(),
                                                                       static_cast<float>(by), n);
  return out;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("scale", &scale); }
