// x * by, on the device the tensor is on.
#include <c10/cuda/CUDAStream.h>
#include <torch/extension.h>

void scale_on(cudaStream_t stream, const float* x, float* y, float by, int64_t n);

static at::Tensor scale(const at::Tensor& x, double by) {
  if (!x.is_cuda() || x.scalar_type() != at::kFloat) return x * by;
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  scale_on(c10::cuda::getCurrentCUDAStream(), in.data_ptr<float>(), out.data_ptr<float>(), static_cast<float>(by),
           in.numel());
  return out;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("scale", &scale); }
