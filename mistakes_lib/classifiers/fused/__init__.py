"""Dense blocks in bfloat16 on a CPU, where torch's own kernels are far slower than the memory.

The kernels are C++, compiled on first use (:mod:`~mistakes_lib.classifiers.fused.loader`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"block": ["dense_block", "is_fusible"], "loader": ["kernels"]},
)
