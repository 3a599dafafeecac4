"""`python -m tokcli` and the script `tok`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from tokcli.cli.app import run

    for stream in (sys.stdout, sys.stderr):
        # An arrow or a file's name that the encoding of a pipe lacks is a question mark, and no end of the command.
        stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
