// Running a plan on a GPU: the caller's stream and workspace, quantise, attend. Everything is decided before the first launch.
#include "engine/cuda/backend.h"

#include "engine/cuda/image.h"
#include "engine/cuda/planning.h"

namespace clary::cuda {
namespace {

Status run(const Plan& plan, const Problem& p) {
  const Gpu* found = nullptr;
  if (Status s = gpu(p.device_id, &found); !s) return s;
  Gpu g = *found;
  const CodePath& path = path_of(plan);
  if (&path != native_path(10 * g.major + g.minor)) g.ptx = path.capability;

  const AttentionVariant& variant = variant_of(plan);
  QuantisePlan quantised;
  if (Status s = plan_quantise(p, variant.quantise(p), &quantised); !s) return s;
  AttentionPlan attended;
  if (Status s = plan_attention(p, variant, &attended); !s) return s;
  bind(&quantised, p.workspace);
  bind(&attended, quantised, p.workspace + quantised.workspace);

  const Stream stream = static_cast<Stream>(p.stream);
  CurrentGpu current;
  if (Status s = current.enter(g, stream); !s) return s;
  Queue queue(g, stream);
  if (Status s = quantise(g, quantised, queue); !s) return s;
  if (Status s = attention(g, attended, queue); !s) return s;
  return queue.send();
}

}  // namespace

const Backend kBackend = {"cuda", run};

void info(Text* text) {
  const Driver* driver = nullptr;
  int count = 0;
  Status status = load_driver(&driver);
  if (status) status = gpu_count(&count);
  if (status)
    text->add("{\"error\": null, \"driver\": \"%d.%d\"", driver->version / 1000, driver->version % 1000 / 10);
  else
    text->add("{\"error\": \"%s\", \"driver\": null", Escaped(status.message()).c_str());
  text->add(", \"gpus\": [");
  for (int i = 0; i < count; i++) {
    Device d;
    if (!find_device(CLARY_CUDA, i, &d)) d = {};
    const CodePath* path = native_path(d.capability);
    text->add("%s{\"id\": %d, \"name\": \"%s\", \"capability\": \"%d.%d\", \"multiprocessors\": %d, \"path\": %s%s%s}",
              i ? ", " : "", i, Escaped(d.name).c_str(), d.capability / 10, d.capability % 10, d.multiprocessors,
              path ? "\"" : "", path ? path->name : "null", path ? "\"" : "");
  }
  text->add("], \"paths\": [");
  for (const CodePath& path : code_paths()) text->add("%s\"%s\"", &path == code_paths().data() ? "" : ", ", path.name);
  text->add("], \"images\": %zu}", embedded_images().entries().size());
}

}  // namespace clary::cuda
