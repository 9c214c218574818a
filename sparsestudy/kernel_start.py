"""How a kernel that runs cells is started: beside others, without taking their place.

Over TCP, jupyter_client looks for free ports and lets go of them before the kernel takes them. Two kernels
that different processes start at the same time can be given the same port; one of them then waits for an
answer that never comes. Sockets in the file system, in a folder for each kernel, cannot be taken twice.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 300
"""Seconds until a kernel must answer; nbclient's own 60 once ended a build on a busy machine."""
_SHORT = Path("/tmp")


@contextmanager
def transport() -> Iterator[Any]:
    """How one kernel is spoken to, as the ``config`` that nbclient takes.

    The sockets do not lie in the user's folder for temporary files, whose name may be longer than the hundred
    characters that the path of a socket can have. Where there are no such sockets, ports are used.
    """
    from traitlets.config import Config

    if not (hasattr(socket, "AF_UNIX") and _SHORT.is_dir()):
        yield Config()
        return
    with tempfile.TemporaryDirectory(prefix="sparsestudy-", dir=_SHORT) as folder:
        yield Config(KernelManager=Config(transport="ipc", ip=f"{folder}/kernel"))


def execute(notebook: Any, **options: Any) -> Any:
    """Run the cells of a notebook in a kernel of its own; ``options`` are those of ``nbclient.execute``."""
    import nbclient

    with transport() as config:
        return nbclient.execute(notebook, startup_timeout=PATIENCE, config=config, **options)
