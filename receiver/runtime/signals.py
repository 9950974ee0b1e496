"""Signals that end the service, from the first moment on: one that comes too early for anybody to act on is kept."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: A supervisor ends its workers by one more.
_KEPT: Final = (*SIGNALS, signal.SIGQUIT)


class StopSignals:
    """Knows whether the service has been asked to end."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._asked: signal.Signals | None = None

    @property
    def asked(self) -> bool:
        """Whether the service is to end."""
        return self._asked is not None

    def remember(self) -> None:
        """Keep signals from now on, instead of ending at once: a child process would be left behind."""
        for number in _ours():
            signal.signal(number, self._take)

    def hand_over(self, act: Callable[[signal.Signals], None]) -> None:
        """Let the running event loop act on signals, and on the one that has come already."""
        for number in _ours():
            asyncio.get_running_loop().add_signal_handler(number, act, number)
        if self._asked is not None:
            act(self._asked)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._asked = self._asked or signal.Signals(number)


def keep_pending() -> None:
    """Have signals wait for ``let_through``, also in a child and in a program that takes this process over."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT)


def let_through() -> None:
    """Deliver the signals that wait, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KEPT)


def _ours() -> list[signal.Signals]:
    """Leave out the end of the terminal for one whom nohup has told not to mind."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
