"""The program: finds the command, reads its flags, runs it."""

import argparse
import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from jaxseg.checks import closest
from jaxseg.cli import COMMANDS, launch
from jaxseg.cli.heap import keep_freed_memory

PIPE_CLOSED = 128 + 13  # the shell's status of a program whose reader went away


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 1 for an error, 2 for a command line that cannot be read.

    Args:
      argv: the command and its arguments; None is those of the process.
    """
    launch.open_streams()
    keep_freed_memory()
    launch.quieten()
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # `jaxseg list | head`: nobody reads on, which is no error
        _write_no_more()
        return PIPE_CLOSED
    except OSError as error:  # `jaxseg list > FILE` on a full disk
        if error.errno not in launch.FULL:
            raise
        _write_no_more()
        return launch.fail(f"What the command prints can't be written: {error.strerror}. Free some space.")
    return status


def _write_no_more() -> None:
    """Sends to nowhere what is printed, also that which waits to be and would fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version", "version"):
        print(f"jaxseg {_version()}")
        return 0
    if argv[0] not in COMMANDS:
        return launch.fail(
            f"Unknown command '{argv[0]}'. {closest(argv[0], COMMANDS)}Known: {', '.join(COMMANDS)}.", code=2
        )
    try:
        return launch.guard(call, *argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)


def call(name: str, *words: str) -> int:
    """Runs a command and returns its exit status; what a user can mend is raised.

    Args:
      name: a key of `COMMANDS`.
      words: its arguments.
    """
    args = make_parser(name).parse_args(words)
    return args.main(args)


def _version() -> str:
    try:
        return importlib.metadata.version("jaxseg")
    except importlib.metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"jaxseg {_version()}: semantic segmentation for JAX", "", "usage: jaxseg COMMAND ...", ""]
    lines += [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join([*lines, "", "jaxseg COMMAND --help tells the flags of a command."])


def make_parser(name: str) -> "Parser":
    """Returns the parser of a command; its module is imported for it.

    Args:
      name: a key of `COMMANDS`.
    """
    module, text = COMMANDS[name]
    command = importlib.import_module(f"jaxseg.cli.{module}")
    parser = Parser(prog=f"jaxseg {name}", description=f"{text[0].upper()}{text[1:]}.")
    command.arguments(parser)
    parser.set_defaults(main=command.main)
    return parser


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help in 80 columns at most, with each flag's default, where it has one that says something."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=26, width=min(shutil.get_terminal_size().columns, 80))

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        silent = (None, "", False, True, argparse.SUPPRESS)
        if "default" in text or not action.option_strings or any(default is value for value in silent):
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
        return f"{text} (default: {shown})".strip() if shown != "" else text


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are told in a few lines, with the flag that was meant."""

    def __init__(self, prog: str, description: str):
        super().__init__(prog=prog, description=description, formatter_class=Formatter, allow_abbrev=False)
        self.takes_settings = False  # of a config: --config.KEY=VALUE
        self.intermixed = False  # whether flags may stand between an argument and one that may be left out

    def parse_args(self, args: Iterable[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parses a command line; what it gets wrong ends the program with status 2."""
        words, settings = list(sys.argv[1:] if args is None else args), []
        if self.takes_settings:
            from jaxseg.cli.settings import split

            words, settings = split(words)
        known = self._option_string_actions
        for word in words:
            flag = word.partition("=")[0]
            if word == "--":
                break
            if word.startswith("--") and flag not in known:
                self.error(f"Unknown flag '{flag}'. {self._meant(flag)}".rstrip())
        found = (self.parse_intermixed_args if self.intermixed else super().parse_args)(words, namespace)
        if self.takes_settings:
            found.settings = settings
        return found

    def _meant(self, flag: str) -> str:
        """The flag that was meant: one of the command's, or a setting of the config without its "config."."""
        if self.takes_settings:
            from jaxseg.config import default_config
            from jaxseg.experiment.limits import flatten

            keys = [f"--config.{key}" for key in flatten(default_config())]
            if flag.replace("--", "--config.", 1) in keys:
                return f"Did you mean '{flag.replace('--', '--config.', 1)}'? "
            if "." in flag:
                return closest(flag.replace("--", "--config.", 1), keys)
        return closest(flag, self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Prints the message and how the command is used, and ends the program with status 2."""
        usage = self.format_usage().rstrip()
        launch.fail(f"{message[0].upper()}{message[1:]}\n{usage}\nSee {self.prog} --help.")
        raise SystemExit(2)
