"""Times of calls on a CPU or a GPU, CUDA graphs, and what the device can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], Any]
# A repeat holds as many calls as fill this, at most 100, as layers follow each other in a model: the device
# then waits for the launches of the host only where it always would.
LEAST_SECONDS = 1e-2
MOST_CALLS = 100
# Where all repeats of a case would take longer than this, it has the fewest that a spread needs.
PATIENCE = 2.0
FEWEST = 3


@dataclass(frozen=True)
class Clock:
    """How calls are timed.

    Args:
        device: where they run.
        repeats: how many times each.
    """

    device: torch.device
    repeats: int

    def measure(self, call: Call, warm: bool = True) -> list[float]:
        """Seconds of one call, one number a repeat; the median of them is what counts.

        Args:
            call: what to time.
            warm: whether to call once before, for what is compiled or loaded at the first call.
        """
        if warm:
            call()
        first = self.once(call)
        calls = max(1, min(MOST_CALLS, int(LEAST_SECONDS / max(first, 1e-9))))
        few = first * calls * self.repeats > PATIENCE
        repeats = FEWEST if few else self.repeats
        # A call that fills a repeat by itself was timed already.
        known = [first] if calls == 1 else []
        return known + [self._seconds(call, calls) for _ in range(repeats - len(known))]

    def once(self, call: Call) -> float:
        """Seconds of a single call."""
        return self._seconds(call, 1)

    def _seconds(self, call: Call, calls: int) -> float:
        if self.device.type != "cuda":
            start = time.perf_counter()
            for _ in range(calls):
                call()
            return (time.perf_counter() - start) / calls
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / calls


def graphed(call: Call) -> Call:
    """A replay of a call as a CUDA graph, without launches from the host.

    Raises:
        RuntimeError: the call waits for the device, or does something else that no graph can hold.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    # A graph reads the memory that the call has read: what it refers to lives as long as the replay.
    def replay(_: Call = call) -> None:
        graph.replay()

    return replay


@dataclass(frozen=True)
class Ceilings:
    """What the device can do at most, measured in the same run.

    Args:
        copy: bytes read and written per second by a copy, one number a repeat.
        multiply: operations per second of a square product, likewise.
        size: bytes of the copied tensor and rows of the product.
    """

    copy: list[float]
    multiply: list[float]
    size: dict[str, int]


def _copies(clock: Clock, held: int) -> list[float]:
    source = torch.zeros(held, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    return clock.measure(lambda: target.copy_(source))


def ceilings(clock: Clock, dtype: torch.dtype) -> Ceilings:
    """Measure them: 1 GiB and 8192 rows on a GPU, 64 MiB and 1024 rows on a CPU."""
    on_gpu = clock.device.type == "cuda"
    held, rows = (1 << 30, 8192) if on_gpu else (1 << 26, 1024)
    copies = _copies(clock, held)
    a, b = (torch.randn(rows, rows, device=clock.device).to(dtype) for _ in range(2))

    def multiply() -> Tensor:
        return a @ b

    # Clocks rise and fall with the load: a longer warm-up than for other cases.
    for _ in range(10 if on_gpu else 1):
        multiply()
    products = clock.measure(multiply)
    size = {"copied_bytes": held, "rows": rows}
    return Ceilings([2 * held / s for s in copies], [2.0 * rows**3 / s for s in products], size)
