"""The unit of work: one model at one length, which is one dataset file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sparsestudy import paths
from sparsestudy.errors import Busy

if TYPE_CHECKING:
    from sparsestudy.parameters import RunParameters

P = TypeVar("P", bound="RunParameters")


@dataclass(frozen=True, eq=False)
class ShardOf(Generic[P]):
    """One model at one length of one run.

    Args:
        run: the parameters of the whole run.
        model: one of its models.
        length: one of its lengths, in tokens.
    """

    run: P
    model: str
    length: int

    @property
    def parameters(self) -> P:
        """The run's parameters, narrowed to this model and this length."""
        return self.run.model_copy(update={"models": [self.model], "lengths": [self.length]})

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return f"{self.model}-{self.length}"

    @property
    def path(self) -> Path:
        """The dataset."""
        run = self.run
        return paths.run_folder(run.experiment, run.run, run.published) / f"{self.name}.nc"

    @property
    def executed(self) -> Path:
        """The executed notebook, beside the dataset."""
        return self.path.with_suffix(".ipynb")

    @property
    def checkpoints(self) -> Path:
        """The folder of finished batches, deleted once the dataset is saved."""
        return self._scratch("checkpoints")

    @property
    def log(self) -> Path:
        """What the last scheduled execution printed."""
        return self._scratch("logs").with_name(f"{self.name}.log")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this shard, so that two runs never write it at once.

        Raises:
            Busy: another process holds it.
        """
        from filelock import FileLock, Timeout

        file = self._scratch("locks").with_name(f"{self.name}.lock")
        file.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(file)
        try:
            held.acquire(timeout=0)
        except Timeout:
            raise Busy(
                f"Another run is making {paths.shown(self.path)} right now; wait until it has finished."
            ) from None
        try:
            yield
        finally:
            held.release()

    def _scratch(self, kind: str) -> Path:
        run = self.run
        # A published and a local run of one name must not share their unfinished work.
        name = f"published-{run.run}" if run.published else run.run
        return paths.scratch(kind) / run.experiment / name / self.name


Shard = ShardOf[Any]
"""A shard of whichever experiment."""
