"""Run all benchmarks in turn, or those that are asked for: `python -m benchmarks [--only NAME]`.

Each writes its page or section as soon as it is done; one that fails is named at the end, and the
others run all the same.
"""

import argparse
import importlib
import sys
import traceback
from time import perf_counter

from benchmarks.results import NAMES


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES, metavar="NAME")
    failed = []
    for name in parser.parse_args(argv).only:
        print(f"== {name}", flush=True)
        started = perf_counter()
        try:
            importlib.import_module(f"benchmarks.{name}").main([])
        except Exception:
            traceback.print_exc()
            failed.append(name)
        print(f"== {name}: {perf_counter() - started:.0f} s", flush=True)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
