"""How the service ends: on a signal, from the first moment on, and within a time, whatever stands in its way."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import structlog

from receiver.app import CLOSE_TIMEOUT
from receiver.embedded import KILL_TIMEOUT, PROBE_TIMEOUT, STOP_TIMEOUT
from receiver.runtime import index_process
from receiver.web.server import DRAIN_GRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from receiver.settings import Settings

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: A supervisor ends its workers by one more.
_KEPT: Final = (*SIGNALS, signal.SIGQUIT)


#: Seconds for a thread that has nothing to do any more to end.
_THREAD_TIMEOUT: Final = 0.2


def longest_stop(settings: Settings) -> float:
    """Return the seconds after which a process has ended: each part has its own bound, and this is their sum."""
    requests = settings.stop_delay + DRAIN_GRACE + settings.stop_timeout
    return requests + index_process.STOP_TIMEOUT + CLOSE_TIMEOUT + STOP_TIMEOUT + KILL_TIMEOUT


def graceful_timeout(settings: Settings) -> int:
    """Return the seconds after which a supervisor kills its workers: one more than they need at most."""
    return math.ceil(longest_stop(settings)) + 1


def longest_stop_of_all(settings: Settings) -> float:
    """Return the seconds after which a supervisor has ended, and with it workers and embedded Valkey."""
    return graceful_timeout(settings) + PROBE_TIMEOUT + STOP_TIMEOUT + KILL_TIMEOUT


class Deadline:
    """Ends the process when its stop takes longer than it may, and says what is left undone.

    A disk that stalls holds threads, and no thread can be cancelled. What those were to write is not acknowledged.
    """

    def __init__(self) -> None:
        """Set no time yet: ``seconds`` is 0 as long as the settings are not known."""
        self.seconds = 0.0
        self.unfinished: Callable[[], Mapping[str, Any]] = dict
        self._begun = False

    def begin(self) -> None:
        """Let the time run, from the first call on. Only for the main thread, in which the end comes as well."""
        if self._begun or not self.seconds:
            return
        self._begun = True
        # An alarm comes also while the interpreter waits for threads, and takes no lock to set, so a signal may do it.
        signal.signal(signal.SIGALRM, self._expire)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def leave(self) -> None:
        """End now if threads are held up: nothing else is left to do, and the interpreter would wait for them."""
        if not self._begun:
            return
        others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        for thread in others:
            thread.join(_THREAD_TIMEOUT)
        if any(thread.is_alive() and not thread.daemon for thread in others):
            self._end(f"held up: {', '.join(thread.name for thread in others if thread.is_alive())}")

    def _expire(self, _number: int, _frame: FrameType | None) -> None:
        self._end(f"not stopped within {self.seconds:g} s")

    def _end(self, reason: str) -> None:
        try:
            logger = structlog.stdlib.get_logger("receiver")
            logger.error("service.stop_unfinished", reason=reason, **self.unfinished())
            sys.stderr.flush()
        finally:
            os._exit(1)


class StopSignals:
    """Knows whether the service has been asked to end."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.deadline = Deadline()
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

        def begin(number: signal.Signals) -> None:
            self.deadline.begin()
            act(number)

        for number in _ours():
            asyncio.get_running_loop().add_signal_handler(number, begin, number)
        if self._asked is not None:
            act(self._asked)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._asked = self._asked or signal.Signals(number)
        self.deadline.begin()


def keep_pending() -> None:
    """Have signals wait for ``let_through``, also in a child and in a program that takes this process over."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT)


def let_through() -> None:
    """Deliver the signals that wait, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KEPT)


def _ours() -> list[signal.Signals]:
    """Leave out the end of the terminal for one whom nohup has told not to mind."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
