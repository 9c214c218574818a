"""Launches: what was compiled for some arguments is used again for like ones, and for no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from triton import knobs

from sparsestudy.kernels import launch

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no driver without a GPU."""

    class Driver:
        active = SimpleNamespace(get_current_stream=lambda index: 7)

    monkeypatch.setattr(launch, "driver", Driver)


NUMBERS = st.one_of(st.integers(0, 40), st.sampled_from([1 << 31, (1 << 31) - 1]), st.floats(0, 2))
TENSORS = st.tuples(st.sampled_from([torch.float16, torch.float32]), st.integers(0, 3)).map(
    lambda made: torch.zeros(16, dtype=made[0])[made[1] :]
)
ARGUMENTS = st.one_of(NUMBERS, TENSORS, st.tuples(st.integers(0, 40), st.integers(0, 40)))


class Kernel:
    """Stands for a decorated function: counts what is compiled, and for which arguments it is launched."""

    def __init__(self) -> None:
        self.compiled: list[list[Any]] = []
        self.launched: list[tuple[int, list[Any]]] = []
        self.told: list[tuple[int, list[Any]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def run(*args: Any, **constants: Any) -> Any:
            number = len(self.compiled)
            self.compiled.append(list(args))
            outer = self

            class Compiled:
                asm = ""

                function = packed_metadata = None

                def run(self, x: int, y: int, z: int, stream: Any, *given: Any) -> None:
                    assert given[:5] == (None,) * 5, "nobody listens"
                    outer.launched.append((number, list(given[5:])))

                def __getitem__(self, grid: tuple[int, ...]) -> Any:
                    return lambda *given: outer.told.append((number, list(given)))

            return Compiled()

        return run


@given(st.lists(ARGUMENTS, min_size=1, max_size=3), st.lists(ARGUMENTS, min_size=1, max_size=3))
def test_arguments_of_one_value_are_of_one_kind(first: list[Any], second: list[Any]) -> None:
    values, kinds = (
        [tuple(map(look, args)) for args in (first, second)] for look in (launch._value, launch._kind)
    )
    hash(values[0])
    if values[0] == values[1]:
        assert kinds[0] == kinds[1]


def test_like_arguments_are_compiled_once_and_launched_as_given() -> None:
    kernel = Kernel()
    for tokens in (32, 32, 48, 33, 33, 1):
        launch.launch(kernel, 2, CPU, [torch.zeros(4), tokens, (16, 1)], {"D": 8}, num_warps=4)
    assert [args[1] for args in kernel.compiled] == [32, 33, 1]
    assert [(number, args[1:]) for number, args in kernel.launched] == [
        (0, [32, (16, 1), 8]),
        (0, [48, (16, 1), 8]),
        (1, [33, (16, 1), 8]),
    ]
    launch.launch(kernel, 2, CPU, [torch.zeros(4), 32, (16, 1)], {"D": 16}, num_warps=4)
    assert len(kernel.compiled) == 4, "another constant is another kernel"


def test_a_profiler_hears_of_every_launch() -> None:
    kernel = Kernel()
    for _ in range(2):
        launch.launch(kernel, 2, CPU, [32], {})
    hook = knobs.runtime.launch_enter_hook
    hook.add(print)
    try:
        launch.launch(kernel, 2, CPU, [32], {})
    finally:
        hook.remove(print)
    assert kernel.launched == kernel.told == [(0, [32])]


def test_what_is_kept_for_repeats_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MOST", 4)
    monkeypatch.setattr(launch, "_REPEATED", {})
    kernel = Kernel()
    for tokens in range(16, 16 * 40, 16):
        launch.launch(kernel, 1, CPU, [tokens], {})
    assert len(kernel.compiled) == 1
    assert len(launch._REPEATED) <= 4


@pytest.mark.parametrize("numbers", [torch.float16, torch.float32])
def test_the_copy_engine_reads_aligned_rows_without_gaps(numbers: torch.dtype) -> None:
    x = torch.zeros(2, 3, 8, 64, dtype=numbers)
    assert launch.describable(x)
    assert launch.describable(x.transpose(1, 2))
    assert not launch.describable(x.transpose(2, 3))
    assert not launch.describable(x[..., 1:])
    assert launch.describable(torch.zeros(2, 3, 8, 65, dtype=numbers)[..., :64]) is False
