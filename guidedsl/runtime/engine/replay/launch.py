"""Many calls as one: on a GPU a CUDA graph, whose kernels are launched together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Thunk = Callable[[], object]


def launcher(calls: Sequence[Thunk], device: torch.device) -> Thunk:
    """What makes all the calls, which were made before and read and write the same memory each time.

    On a GPU they are captured; where one cannot be, because it waits for the device, they are made one by one.
    """

    def one_by_one() -> None:
        for call in calls:
            call()

    if device.type != "cuda":
        return one_by_one
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.device(device), torch.cuda.graph(graph):
            one_by_one()
    except RuntimeError:
        torch.cuda.synchronize(device)
        return one_by_one
    return graph.replay
