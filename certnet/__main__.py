"""``python -m certnet``, and the command ``certnet``."""

import sys


def main() -> None:
    """The command line; Ctrl-C while its packages load is an interrupt like any other."""
    try:
        from certnet.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
