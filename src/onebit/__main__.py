"""The command `onebit`, and `python -m onebit`."""

import signal
import sys


def main() -> int:
    """Run the command line; returns its exit code. Ctrl-C while modules are still loaded is one line, too."""
    try:
        from onebit.cli.main import main as run

        code = run()
        for number in (signal.SIGINT, signal.SIGTERM):  # all is said and saved: the way out is not interrupted
            signal.signal(number, signal.SIG_IGN)
        return code
    except KeyboardInterrupt:
        print("onebit: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
