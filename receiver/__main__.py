"""``python -m receiver``: the same as the console script ``receiver``."""

from receiver.cli import main

if __name__ == "__main__":
    main()
