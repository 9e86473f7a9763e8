"""Work on many parts of the rows at once, each part on one thread from its beginning to its end."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

__all__ = ["in_order"]


def in_order(function, parts, device):
    """Yield ``function(part)`` for each part, in their order, computed on as many threads as torch.

    A thread never waits for another inside a part, as it would after each of torch's operations if
    these were shared by all threads: on a processor with other work to do, all would wait for the
    slowest each time. What comes out does not depend on the number of threads. As many parts as
    there are threads, and one more, are held at a time.

    Args:
        function: what is computed on a thread; torch uses this one thread alone inside it.
        parts: iterable, gone through here and not on the threads.
        device: torch.device where the work is done; on others than the CPU one thread gives it out.

    Example:
        >>> list(in_order(lambda x: x**2, [3, 1, 2], torch.device("cpu")))
        [9, 1, 4]
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        yield from map(function, parts)
        return
    waiting = deque()
    try:
        with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
            for part in parts:
                waiting.append(pool.submit(function, part))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)  # threads that begin later take the last number that was set
