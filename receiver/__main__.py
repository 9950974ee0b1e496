"""``python -m receiver``, and the console script ``receiver``."""

import signal


def main() -> None:
    """Run a command.

    Ctrl-C while modules are loaded ends it at once: as an exception it would be a traceback of their innards, and some
    libraries swallow what is raised while they are imported.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from receiver.cli import main as run  # noqa: PLC0415 it is what takes the time

    signal.signal(signal.SIGINT, handler)
    run()


if __name__ == "__main__":
    main()
