"""Speed and memory, measured against a peer in one run; `python -m benchmarks` runs all."""

import os

# OpenBLAS reads it when NumPy is loaded. Peers are to have the processor's own kernel.
os.environ.pop("OPENBLAS_CORETYPE", None)
