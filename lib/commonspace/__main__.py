"""The command ``commonspace``, also ``python -m commonspace``."""

import argparse
import difflib
import sys

from commonspace import __version__


def _doctor(_arguments: argparse.Namespace) -> int:
    from commonspace import doctor

    return doctor.main()


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; returns its exit code, or ends with code 2 for a command line that cannot be read."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="commonspace", description="Common Space: cross-modal retrieval in PyTorch.")
    parser.add_argument("--version", action="version", version=f"commonspace {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    checks = "check this machine and name the command that mends what is missing"
    commands.add_parser("doctor", help=checks, description=checks).set_defaults(run=_doctor)

    if argv and not argv[0].startswith("-") and argv[0] not in commands.choices:
        (nearest,) = difflib.get_close_matches(argv[0], commands.choices, n=1, cutoff=0.0)
        parser.error(f"there is no command {argv[0]!r}; the nearest is {nearest!r} (commonspace --help lists them all)")
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
