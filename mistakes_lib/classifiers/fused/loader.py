"""Compile the kernels on first use, keep them in the user's cache, and load them."""

import functools
import hashlib
import logging
import os
import subprocess
import tempfile
from pathlib import Path

import torch

__all__ = ["kernels"]

logger = logging.getLogger(__name__)

SHAPE = ["-O3", "-std=c++20", "-fPIC", "-shared", "-fopenmp"]
PROCESSOR = ["-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16"]


def kernels():
    """``torch.ops.mistakes_fused``, or None where it is not to be had.

    It needs a processor with bfloat16 instructions, and a C++ compiler (``$CXX``, by default
    ``g++``) on first use, which takes a minute. The environment variable ``MISTAKES_FUSED=0``
    switches it off.

    Example:
        >>> os.environ["MISTAKES_FUSED"] = "0"
        >>> kernels() is None
        True
        >>> del os.environ["MISTAKES_FUSED"]
    """
    return None if os.environ.get("MISTAKES_FUSED") == "0" else _loaded()


@functools.cache
def _loaded():
    try:
        return _load()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        logger.info("dense blocks run on torch's own kernels, which are slower: %s", said)
        return None


def _load():
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        raise RuntimeError("the processor has no AVX-512")
    library = compiled(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"))
    torch.ops.load_library(library)
    if not torch.ops.mistakes_fused.usable():
        raise RuntimeError("the processor or this torch has no matrix products in bfloat16")
    return torch.ops.mistakes_fused


def compiled(cache):
    """The compiled library's file in the folder ``cache / "mistakes"``; made if it is not there.

    Its name tells sources, compiler's flags and torch's version, so that none of another version
    is ever loaded. Several processes may call this at the same time.
    """
    here, installed = Path(__file__).parent, Path(torch.__file__).parent
    command = [os.environ.get("CXX", "g++"), *SHAPE, *PROCESSOR]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    key = hashlib.sha256(repr((command, torch.__version__)).encode())
    for path in sorted([*here.glob("*.cpp"), *here.glob("*.h")]):
        key.update(path.read_bytes())
    library = cache / "mistakes" / f"fused-{key.hexdigest()[:16]}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    logger.info("compiling the kernels of dense blocks, once: about a minute")
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder, library.name)
        command += [f"-I{installed / 'include'}", str(here / "library.cpp"), "-o", str(made)]
        command += [f"-L{installed / 'lib'}", "-ltorch_cpu", "-lc10"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        made.replace(library)
    return library
