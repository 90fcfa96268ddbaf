"""``python -m certnet``."""

from certnet.cli import main

if __name__ == "__main__":
    main()
