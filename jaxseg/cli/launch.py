"""Runs a program's main and turns what a user can mend into one screen of text instead of a traceback."""

import errno
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from jaxseg.checks import Interrupted, UserError, suggest
from jaxseg.cli.heap import keep_freed_memory


def run(main: Callable, *, required: Sequence[str] = ()) -> None:
    """Parses absl flags, calls `main(argv)` and exits with its status: 0, 1 for an error, 128 + n for signal n.

    Args:
      main: called with what absl leaves of the command line.
      required: flags that must be given.
    """
    keep_freed_memory()
    _quieten()
    for name in required:
        flags.mark_flag_as_required(name)
    app.run(lambda argv: sys.exit(guard(main, argv)), flags_parser=_parse)


def guard(function: Callable, *args: Any) -> int:
    """Calls `function(*args)` and returns the exit status; user errors are printed, others go through.

    >>> guard(lambda: 0)
    0
    """
    try:
        return function(*args) or 0
    except UserError as error:
        return fail(str(error))
    except Interrupted as stop:
        print(stop, file=sys.stderr, flush=True)
        return stop.code
    except KeyboardInterrupt:
        return fail("Interrupted.", 130)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return fail(f"The disk is full: {error}. Free some space and run the same command again.")


def _quieten():
    """Leaves to `guard` what libraries would print besides: their own log, and the traces of orbax's threads.

    What fails in such a thread is raised again in the main one.
    """
    logging.set_verbosity(logging.FATAL)
    loud = threading.excepthook

    def hook(args):
        if not type(args.thread).__module__.startswith("orbax."):
            loud(args)

    threading.excepthook = hook


def fail(message: str, code: int = 1) -> int:
    """Prints an error to stderr, red on a terminal, and returns `code`."""
    colour, end = ("\033[31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"\n{colour}error:{end} {message}", file=sys.stderr, flush=True)
    return code


def _parse(argv):
    try:
        return flags.FLAGS(argv, known_only=False)
    except flags.Error:
        raise  # absl prints the flag's own message and the usage
    except Exception as error:
        sys.exit(fail(_explain(error, argv)))


def _explain(error, argv):
    """Says which config key or file the command line or the config file got wrong."""
    from jaxseg.config import default_config
    from jaxseg.experiment.build import flatten

    known = flatten(default_config())
    for argument in argv:
        key = argument.removeprefix("--config.").split("=")[0]
        if argument.startswith("--config.") and key not in known:
            return f"Unknown config key '{key}'. {suggest(key, known)}"
    causes = str(error).splitlines()
    return "Could not load the config: " + "\n".join(causes[:12])
