"""How modules are loaded at the start of a command, which takes most of its time."""

from __future__ import annotations

import gc
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def startup_imports() -> Iterator[None]:
    """Load modules within: without looking for garbage among them, and ended by Ctrl-C at once.

    What modules make stays: looking through it takes a fifth of the start, and of each later collection. And as an
    exception, Ctrl-C would be a traceback of their innards; some libraries swallow what is raised while they load.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, handler)
