"""What all tests of the room share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """So small a network gains nothing from more, and on a busy machine they wait on each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
