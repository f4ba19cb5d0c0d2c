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

BASH = """_jaxseg() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="COMMANDS"
  else
    case "${COMP_WORDS[1]} $before" in
VALUES
      *) case "${COMP_WORDS[1]}" in
FLAGS
      esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "${COMPREPLY[0]}" in *=) compopt -o nospace 2>/dev/null ;; esac
}
complete -o default -F _jaxseg jaxseg
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell that reads the script")


def main(args: argparse.Namespace) -> int:
    """Prints the script and returns the exit status."""
    parsers = {name: make_parser(name) for name in COMMANDS}
    print(fish(parsers) if args.shell == "fish" else (ZSH if args.shell == "zsh" else "") + bash(parsers), end="")
    return 0


def bash(parsers: dict[str, Parser]) -> str:
    """Returns the script for bash, which zsh reads too; where it has no word, files are completed.

    Args:
      parsers: command -> its parser.
    """
    values = [
        f'      "{name} {flag}") words="{" ".join(choices)}" ;;'
        for name, parser in parsers.items()
        for flag, choices in _choices(parser).items()
    ]
    flags = [
        f'        {name}) words="{" ".join([*_flags(parser), *_positionals(name, parser)])}" ;;'
        for name, parser in parsers.items()
    ]
    script = BASH.replace("COMMANDS", " ".join(parsers))
    return script.replace("VALUES", "\n".join(values)).replace("FLAGS", "\n".join(flags))


def fish(parsers: dict[str, Parser]) -> str:
    """Returns the script for fish.

    Args:
      parsers: command -> its parser.
    """
    lines = [f"complete -c jaxseg -n __fish_use_subcommand -f -a {n} -d {_quote(t)}" for n, (_, t) in COMMANDS.items()]
    for name, parser in parsers.items():
        when = f"complete -c jaxseg -n '__fish_seen_subcommand_from {name}'"
        choices = _choices(parser)
        for action in parser._actions:
            for flag in action.option_strings:
                if flag.startswith("--") and flag != "--config.KEY":
                    words = f" -xa {_quote(' '.join(choices[flag]))}" if flag in choices else ""
                    lines.append(f"{when} -l {flag[2:]}{words} -d {_quote((action.help or '').partition(';')[0])}")
        words = [*_positionals(name, parser), *(f for f in _flags(parser) if f.endswith("="))]
        if words:
            lines.append(f"{when} -a {_quote(' '.join(words))}")
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _flags(parser: Parser) -> list[str]:
    """The flags, and the keys of the config where the command takes them."""
    found = [flag for flag in parser._option_string_actions if flag.startswith("--") and flag != "--config.KEY"]
    if parser.takes_settings:
        from jaxseg.config import default_config
        from jaxseg.experiment.limits import flatten
        from jaxseg.losses import LOSSES

        keys = [*flatten(default_config()), *(f"loss.terms.{name}" for name in LOSSES)]
        found += [f"--config.{key}=" for key in dict.fromkeys(keys)]
    return found


def _choices(parser: Parser) -> dict[str, list[str]]:
    """The flags whose values are known: flag -> values."""
    from jaxseg.data import DATASETS
    from jaxseg.encoders import ENCODERS
    from jaxseg.models import MODELS

    known: dict[str, Iterable[str]] = {
        "--encoder": ENCODERS,
        "--model": MODELS,
        "--models": MODELS,
        "--checkpoint": ("best", "latest"),
        "--data": DATASETS,
    }
    found: dict[str, list[str]] = {}
    for flag, action in parser._option_string_actions.items():
        words = action.choices or known.get(flag)
        if words and flag.startswith("--"):
            found[flag] = list(map(str, words))
    return found


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
