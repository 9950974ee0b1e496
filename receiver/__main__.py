"""``python -m receiver``, and the console script ``receiver``."""

from receiver.startup_imports import startup_imports


def main() -> None:
    """Run a command."""
    with startup_imports():
        from receiver.cli import main as run  # noqa: PLC0415 imported within startup_imports
    run()


if __name__ == "__main__":
    main()
