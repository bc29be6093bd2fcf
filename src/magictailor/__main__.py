"""`python -m magictailor`, and the command itself: Ctrl-C while libraries load is no traceback."""

import sys


def main() -> None:
    """The command line, see `magictailor.cli.main`."""
    try:
        from magictailor.cli import main as run
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
