"""The command `onebit`, and `python -m onebit`."""

import sys


def main() -> int:
    """Run the command line; returns its exit code. Ctrl-C while modules are still loaded is one line, too."""
    try:
        from onebit.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("onebit: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
