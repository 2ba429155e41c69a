// The network through libcurl: one exchange at a time, proxies and certificates as the environment says.
#pragma once
#include "wheel/ctx.h"

namespace clary::tool {

class CurlNet : public Net {
 public:
  explicit CurlNet(Proc& proc) : proc_(proc) {}
  Result<Response> send(const Request& request, const Sink& sink) override;

 private:
  Proc& proc_;
  std::shared_ptr<void> curl_;  // kept: it holds the connections
};

}  // namespace clary::tool
