"""jaxseg completion: a script that lets a shell complete commands, flags, names and config keys."""

import argparse
from collections.abc import Iterable

from jaxseg.cli import COMMANDS
from jaxseg.cli.program import Parser, make_parser

EPILOG = """to complete in every new shell:
  bash:  echo 'eval "$(jaxseg completion bash)"' >> ~/.bashrc
  zsh:   echo 'eval "$(jaxseg completion zsh)"' >> ~/.zshrc
  fish:  jaxseg completion fish > ~/.config/fish/completions/jaxseg.fish
"""

# For bash and zsh: what may follow a command (1) and a word (2), which may be --flag=value.
# Where that is nothing, files are completed.
TABLE = """_jaxseg_found() {
  found=""
  case "$1 ${2##*=*}" in
VALUES
    *\\ --config.*) ;;
    *) case "$1" in
      "") found="COMMANDS" ;;
FLAGS
    esac ;;
  esac
}
"""
BASH = """_jaxseg() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command="" found
  [ "$COMP_CWORD" -eq 1 ] || command=${COMP_WORDS[1]}
  # --config.KEY=VALUE are three words to readline.
  if [ "$current" = = ]; then current=""; elif [ "$before" = = ]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi
  _jaxseg_found "$command" "$before"
  COMPREPLY=($(compgen -W "$found" -- "$current"))
  case "${COMPREPLY[0]-}" in *=) compopt -o nospace 2>/dev/null ;; esac
}
complete -o default -F _jaxseg jaxseg
"""
ZSH = """(( $+functions[compdef] )) || { autoload -U compinit && compinit }
_jaxseg() {
  local command="" before=$words[CURRENT-1] found
  (( CURRENT == 2 )) || command=$words[2]
  compset -P '*=' && before=${IPREFIX%%=*}
  _jaxseg_found "$command" "$before"
  local each=(${=found})
  compadd -S '' -- ${(M)each:#*=}
  compadd -- ${each:#*=}
  (( compstate[nmatches] )) || _files
}
compdef _jaxseg jaxseg
"""
FISH = """function __jaxseg_is
    set -l words (commandline -opc)
    test "$words[2]" = "$argv"
end
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell that reads the script")


def main(args: argparse.Namespace) -> int:
    """Prints the script and returns the exit status."""
    parsers = {name: make_parser(name) for name in COMMANDS}
    print(fish(parsers) if args.shell == "fish" else table(parsers) + (ZSH if args.shell == "zsh" else BASH), end="")
    return 0


def table(parsers: dict[str, Parser]) -> str:
    """Returns the function for bash and zsh that knows the words.

    Args:
      parsers: command -> its parser.
    """
    values, flags = [], []
    for name, parser in parsers.items():
        known = _values(parser)
        for flag, words in known.items():
            if words:
                values.append(f'    "{name} {flag}") found="{" ".join(words)}" ;;')
        free = [f'"{name} {flag}"' for flag, words in known.items() if not words and not flag.startswith("--config.")]
        if free:
            values.append(f"    {'|'.join(free)}) ;;")
        flags.append(f'      {name}) found="{" ".join([*_flags(parser), *_positionals(name, parser)])}" ;;')
    script = TABLE.replace("COMMANDS", " ".join(parsers))
    return script.replace("VALUES", "\n".join(values)).replace("FLAGS", "\n".join(flags))


def fish(parsers: dict[str, Parser]) -> str:
    """Returns the script for fish.

    Args:
      parsers: command -> its parser.
    """
    lines = [
        f"complete -c jaxseg -n __jaxseg_is -f -a {name} -d {_quote(text)}" for name, (_, text) in COMMANDS.items()
    ]
    for name, parser in parsers.items():
        when = f"complete -c jaxseg -n '__jaxseg_is {name}'"
        texts = {flag: action.help or "" for flag, action in parser._option_string_actions.items()}
        values = _values(parser)
        for flag in _flags(parser):
            key = flag.removesuffix("=")
            takes = " -r" if key in values else ""
            if values.get(key):
                takes = f" -xa {_quote(' '.join(values[key]))}"
            text = texts.get(key, "").partition(";")[0].partition(" (")[0]
            lines.append(f"{when} -l {key[2:]}{takes}" + (f" -d {_quote(text)}" if text else ""))
        if words := _positionals(name, parser):
            lines.append(f"{when} -a {_quote(' '.join(words))}")
    return FISH + "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _keys(parser: Parser) -> list[str]:
    """The keys of the config where the command takes them, as flags."""
    if not parser.takes_settings:
        return []
    from jaxseg.config import default_config
    from jaxseg.experiment.limits import flatten
    from jaxseg.losses import LOSSES

    keys = [*flatten(default_config()), *(f"loss.terms.{name}" for name in LOSSES)]
    return [f"--config.{key}" for key in dict.fromkeys(keys)]


def _flags(parser: Parser) -> list[str]:
    """The flags; a key of the config ends in "=", which its value follows."""
    found = [flag for flag in parser._option_string_actions if flag.startswith("--") and flag != "--config.KEY"]
    return [*found, *(f"{key}=" for key in _keys(parser))]


def _values(parser: Parser) -> dict[str, list[str]]:
    """The flags that take a value: flag -> the values; none where they are not known, as of files."""
    from jaxseg.data import DATASETS
    from jaxseg.encoders import ENCODERS
    from jaxseg.experiment.optim import OPTIMIZERS, SCHEDULES
    from jaxseg.models import MODELS

    known: dict[str, Iterable[str]] = {
        "--encoder": ENCODERS,
        "--model": MODELS,
        "--models": MODELS,
        "--checkpoint": ("best", "latest"),
        "--data": DATASETS,
        "--config.data.name": DATASETS,
        "--config.model.name": MODELS,
        "--config.model.encoder": ENCODERS,
        "--config.optim.name": OPTIMIZERS,
        "--config.optim.schedule": SCHEDULES,
    }
    actions = {flag: action for flag, action in parser._option_string_actions.items() if flag.startswith("--")}
    choices = {flag: action.choices or () for flag, action in actions.items() if action.nargs != 0}
    choices |= dict.fromkeys(_keys(parser), ())
    return {flag: list(map(str, words or known.get(flag, ()))) for flag, words in choices.items()}


def _positionals(name: str, parser: Parser) -> list[str]:
    """What may stand for the arguments without a flag, other than files."""
    from jaxseg.cli.list import SECTIONS
    from jaxseg.cli.recipes import recipes
    from jaxseg.losses import LOSSES
    from jaxseg.models import MODELS

    known: dict[str, Iterable[str]] = {
        "train": recipes(),
        "show": [*recipes(), *MODELS],
        "list": SECTIONS,
        "losses": LOSSES,
    }
    choices = [word for action in parser._actions if not action.option_strings for word in action.choices or () if word]
    return [*choices, *known.get(name, ())]
