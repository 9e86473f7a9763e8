// What Python calls: torch.ops.mistakes_fused.*
#include <torch/library.h>

#include "forward.h"
#include "transition.h"

namespace fused {

bool usable() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16") &&
         at::native::cpublas::could_pack(at::kBFloat16);
}

}  // namespace fused

TORCH_LIBRARY(mistakes_fused, m) {
  m.def("usable() -> bool", fused::usable);
  m.def(
      "block_forward(Tensor x, Tensor[] parameters, Tensor(a!)[] running, float momentum, "
      "float eps) -> Tensor[]",
      fused::block_forward);
  m.def(
      "block_backward(Tensor(a!) G, Tensor(b!) constant, Tensor(c!) slope, Tensor buffer, Tensor z, "
      "Tensor inner, Tensor moments, Tensor[] parameters) -> Tensor[]",
      fused::block_backward);
  m.def(
      "transition_forward(Tensor channels, Tensor moments, Tensor gamma, Tensor beta, Tensor weight) "
      "-> Tensor",
      fused::transition_forward);
  m.def(
      "transition_backward(Tensor gradient, Tensor channels, Tensor moments, Tensor gamma, "
      "Tensor beta, Tensor weight) -> Tensor[]",
      fused::transition_backward);
}
