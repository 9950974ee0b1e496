"""Stops the service on a signal, from its first moment on, and within a bound even if a disk or Redis hangs."""

from __future__ import annotations

import asyncio
import atexit
import math
import os
import signal
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvloop

from receiver.embedded import KILL_TIMEOUT, PROBE_TIMEOUT, STOP_TIMEOUT
from receiver.lifecycle import CLOSE_TIMEOUT
from receiver.runtime import index_process
from receiver.web.server import DRAIN_GRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from receiver.settings import Settings

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: The supervisor stops its workers with SIGQUIT as well.
_KEPT: Final = (*SIGNALS, signal.SIGHUP, signal.SIGQUIT)
#: Seconds for an idle thread to end.
_THREAD_TIMEOUT: Final = 0.2


def longest_stop(settings: Settings) -> float:
    """Return the seconds within which a process ends: the sum of the bounds in the table of lifecycle.py."""
    requests = settings.stop_delay + DRAIN_GRACE + settings.stop_timeout
    return requests + index_process.STOP_TIMEOUT + CLOSE_TIMEOUT + STOP_TIMEOUT + KILL_TIMEOUT


def graceful_timeout(settings: Settings) -> int:
    """Return the seconds after which a supervisor kills its workers: one more than their bound."""
    return math.ceil(longest_stop(settings)) + 1


def longest_stop_of_all(settings: Settings) -> float:
    """Return the seconds within which a supervisor, its workers and the embedded Valkey end."""
    return graceful_timeout(settings) + PROBE_TIMEOUT + STOP_TIMEOUT + KILL_TIMEOUT


class Deadline:
    """Ends the process when its stop exceeds the bound, and logs the unfinished work.

    A stalled disk blocks threads, and threads cannot be cancelled. The events they were to write are not acknowledged.
    """

    def __init__(self) -> None:
        #: 0, which disables the deadline, until the settings are known.
        self.seconds = 0.0
        self.unfinished: Callable[[], Mapping[str, Any]] = dict
        self._begun = False

    def begin(self) -> None:
        """Start the clock at the first call. Call it in the main thread, which receives the alarm."""
        if self._begun or not self.seconds:
            return
        self._begun = True
        # An alarm arrives even while the interpreter waits for threads, and a signal handler may set it: no lock.
        signal.signal(signal.SIGALRM, self._expire)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        # The interpreter restores the default action, which kills, while it shuts down: by then all work is done.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)

    def leave(self) -> None:
        """Exit at once if threads are blocked: all else is done, and the interpreter would wait for them."""
        if not self._begun:
            return
        others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        for thread in others:
            thread.join(_THREAD_TIMEOUT)
        if any(thread.is_alive() and not thread.daemon for thread in others):
            self._end(f"blocked threads: {', '.join(thread.name for thread in others if thread.is_alive())}")

    def _expire(self, _number: int, _frame: FrameType | None) -> None:
        self._end(f"not stopped within {self.seconds:g} s")

    def _end(self, reason: str) -> None:
        try:
            logger = structlog.stdlib.get_logger("receiver")
            logger.error("service.stop_unfinished", reason=reason, **self.unfinished())
            sys.stderr.flush()
        finally:
            os._exit(1)


class BoundedLoop(uvloop.Loop):
    """An event loop that closes within a bound. It waits for lookups of names, which nothing can cancel.

    While DNS does not answer, that is half a minute and more.
    """

    #: Seconds for it to close.
    bound = 1.0
    #: Whether only such lookups can be left. Until then the process does not exit for them.
    finished = False

    def close(self) -> None:
        """Close it, or exit with code 0. A signal handler would not run meanwhile; a thread does."""
        leaving = threading.Timer(self.bound, os._exit, (0,))
        leaving.daemon = True
        if self.finished:
            leaving.start()
        super().close()
        leaving.cancel()


class StopSignals:
    """Remembers whether a signal has asked the service to stop, or to read its files again.

    SIGHUP means the latter, unless the terminal of the service has been closed. Under nohup it means nothing.
    """

    def __init__(self) -> None:
        self.deadline = Deadline()
        self._asked: signal.Signals | None = None
        self._reload_asked = False
        self._terminal = _terminal()

    @property
    def asked(self) -> bool:
        """Whether a signal has asked the service to stop."""
        return self._asked is not None

    def remember(self) -> None:
        """Remember signals from now on. Ending at once would leave a child process behind."""
        for number in _ours():
            signal.signal(number, self._take)

    def hand_over(self, stop: Callable[[signal.Signals], None], reload: Callable[[], None]) -> None:
        """Let the running event loop act on signals, including those that were remembered."""

        def act(number: signal.Signals) -> None:
            if self._asks_to_reload(number):
                reload()
            else:
                self.deadline.begin()
                stop(number)

        for number in _ours():
            asyncio.get_running_loop().add_signal_handler(number, act, number)
        if self._asked is not None:
            stop(self._asked)
        elif self._reload_asked:
            reload()

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._asks_to_reload(number):
            self._reload_asked = True
            return
        self._asked = self._asked or signal.Signals(number)
        self.deadline.begin()

    def _asks_to_reload(self, number: int) -> bool:
        return number == signal.SIGHUP and not _is_closed(self._terminal)


def keep_pending() -> None:
    """Block signals until ``let_through``, also in a child process and across exec."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT)


def let_through() -> None:
    """Deliver pending and future signals."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KEPT)


def _ours() -> list[signal.Signals]:
    """Return the signals that the service acts on; not SIGHUP if nohup has set it to be ignored."""
    return [*SIGNALS, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else [])]


def _terminal() -> int | None:
    """Return a descriptor of the terminal that the service was started from, or None under a service manager."""
    try:
        return os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None


def _is_closed(terminal: int | None) -> bool:
    """Tell whether a terminal has been closed: its system calls fail from then on."""
    if terminal is None:
        return False
    try:
        termios.tcgetattr(terminal)
    except termios.error:
        return True
    return False
