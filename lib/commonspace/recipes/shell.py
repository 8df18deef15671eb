"""A recipe from the shell: `python -m commonspace.recipes.NAME --profile paper --data wikipedia --lr 1e-4`."""

import os
import sys
from collections.abc import Callable, Sequence

from commonspace.recipes.config import BaseConfig
from commonspace.recipes.report import Report


def parse(config_class: type[BaseConfig], arguments: Sequence[str]) -> BaseConfig:
    """The configuration that the arguments describe; ``--profile`` and ``--data`` decide the defaults of the rest."""
    import argparse

    import tyro

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--profile", default="lesson")
    first.add_argument("--data", default=None)
    chosen, rest = first.parse_known_args(arguments)
    given = {} if chosen.data is None else {"data": chosen.data}
    default = config_class.profile(chosen.profile, **given)
    sizes = ", ".join(key for key in config_class.profiles if "/" not in key)
    about = (
        f"{config_class.__doc__}\n\n--profile NAME sets the defaults shown below (one of: {sizes}; default: lesson)."
    )
    return tyro.cli(config_class, args=list(rest), default=default, description=about)


def main(config_class: type[BaseConfig], run: Callable[[BaseConfig], Report]) -> None:
    """Parse the command line, run, print the report.

    Bad settings, and data or a model that is not on this machine, end with a message on stderr, which says what to do,
    and code 2.
    """
    try:
        report = run(parse(config_class, sys.argv[1:]))
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if int(os.environ.get("RANK", "0")) == 0:  # of several processes one speaks
        print(report)
