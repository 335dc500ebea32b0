"""``escalon`` and ``python -m escalon``."""

import os
import sys


def main() -> int:
    """Entry of the program; returns the exit code."""
    try:
        # Here and not above: Ctrl-C may come while the libraries are imported, too.
        from escalon.cli import main as run  # noqa: PLC0415

        return run()
    except BrokenPipeError:
        # What we print to has ended, as `| head` does. Python would say so once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        sys.stderr.write("escalon: stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
