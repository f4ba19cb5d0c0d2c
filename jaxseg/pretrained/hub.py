"""The Hugging Face hub: a repository's files in its local cache, a bundle sent there, a bundle fetched to a folder.

Models are named by a path, or as `hf:OWNER/REPO[@REVISION]`. Nothing here is needed for what lies in a folder.
"""

import re
import shutil
import warnings
from pathlib import Path
from types import ModuleType

from jaxseg.checks import UserError
from jaxseg.files import atomic_path
from jaxseg.pretrained import card, golden
from jaxseg.pretrained.bundle import CONFIG, WEIGHTS, check_free, is_bundle, load_bundle

PREFIX = "hf:"
FILES = ["*.json", "*.safetensors"]
SENT = (WEIGHTS, golden.FILE, CONFIG, card.FILE)  # of a bundle; others in its folder stay here
_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def locate(source: str | Path) -> Path:
    """Returns the path of the file or folder that `source` names. What is on the hub is downloaded once.

    >>> locate("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxseg.checks.UserError: There is no file or folder 'nowhere'. Give a path, or hf:OWNER/REPO for the ...
    """
    if not isinstance(source, str | Path) or not str(source):
        raise UserError(f"Expected a path or hf:OWNER/REPO, got {source!r}.")
    if not str(source).startswith(PREFIX):
        path = Path(source).expanduser()
        if not path.exists():
            raise UserError(
                f"There is no file or folder '{source}'. Give a path, or hf:OWNER/REPO for the Hugging Face hub."
            )
        return path
    return _fetch(str(source), FILES)


def pull(source: str, directory: str | Path) -> Path:
    """Copies a bundle of the hub into a folder, from which it loads without the hub, its library or a network.

    A model card that was edited in the folder is kept, and a warning says so.

    Args:
      source: `hf:OWNER/REPO` or `hf:OWNER/REPO@REVISION`.
      directory: a new or empty folder, or one with a bundle, which is overwritten.

    Returns:
      The folder's path.
    """
    if not source.startswith(PREFIX):
        raise UserError(f"Expected hf:OWNER/REPO or hf:OWNER/REPO@REVISION, got '{source}'.")
    directory = Path(directory).expanduser()
    check_free(directory)
    found = _fetch(source, [*FILES, card.FILE])
    if not is_bundle(found):
        raise UserError(
            f"'{source}' is no bundle of jaxseg: it has no config.json of one. A model of smp's save_pretrained is"
            f" converted by `jaxseg convert smp {source} --out {directory}`."
        )
    load_bundle(found)  # whoever wrote it: refused before anything is written here
    directory.mkdir(parents=True, exist_ok=True)
    keep_card = card.is_edited(directory / card.FILE)
    for name in (WEIGHTS, golden.FILE, CONFIG, card.FILE):
        if not (found / name).is_file():
            if name != card.FILE or not keep_card:
                (directory / name).unlink(missing_ok=True)  # of the bundle that was here before
            continue
        to = card.BESIDE if name == card.FILE and keep_card else name
        with atomic_path(directory / to) as part:
            shutil.copyfile(found / name, part)  # the file, where the cache has a link
    if keep_card and (found / card.FILE).is_file():
        warnings.warn(
            f"{directory / card.FILE} was edited and is kept; the hub's card is {card.BESIDE}, beside it.", stacklevel=2
        )
    return directory


def push(
    bundle: str | Path, target: str, *, private: bool = False, message: str = "", replace_card: bool = False
) -> str:
    """Sends a bundle to a repository of the hub, which is made if it does not exist, in one commit.

    A model card that was edited on the hub is kept, and a warning says so.

    Args:
      bundle: the folder.
      target: `hf:OWNER/REPO`.
      private: whether a repository that is made is private; one that exists stays what it is.
      message: of the commit.
      replace_card: whether a card that was edited on the hub is overwritten.

    Returns:
      The address of the commit.

    Raises:
      UserError: the folder is no bundle, or the hub does not take it; the message says what to do.
    """
    folder, repo = Path(bundle).expanduser(), target.removeprefix(PREFIX)
    if not target.startswith(PREFIX) or not _NAME.fullmatch(repo):
        raise UserError(f"Expected hf:OWNER/REPO, got '{target}'. A push goes to the repository's main branch.")
    if not is_bundle(folder):
        raise UserError(f"{folder} is not a bundle. Write one of a run with `jaxseg bundle RUN --out DIR`.")
    load_bundle(folder)
    hub = _library(target)
    if not hub.get_token():
        raise UserError(
            f"Sending to '{target}' needs a token that may write: make one at https://huggingface.co/settings/tokens,"
            " then `hf auth login`, or set HF_TOKEN."
        )
    api = hub.HfApi(library_name="jaxseg")
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        names = [name for name in SENT if (folder / name).is_file()]
        if card.FILE in names and not replace_card and _card_was_edited(hub, repo, folder / card.FILE):
            names.remove(card.FILE)
            warnings.warn(
                f"The card of '{target}' was edited on the hub and is kept. Its scores and classes may no longer be"
                " true; --replace-card overwrites it.",
                stacklevel=2,
            )
        operations = [hub.CommitOperationAdd(name, str(folder / name)) for name in names]
        message = message or f"Bundle {folder.resolve().name}, written by jaxseg"
        return str(api.create_commit(repo, operations, commit_message=message).commit_url)
    except Exception as error:  # requests, httpx, huggingface_hub: each has families of its own
        if type(error) is RuntimeError and isinstance(error.__cause__, Exception):
            error = error.__cause__  # of the upload of one file
        raise UserError(f"'{target}' does not take the bundle: {_first_line(error)} {_remedy(error)}") from error


def _library(source: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"'{source}' is on the Hugging Face hub, which needs a package that is not installed."
            " Install it with `pip install 'jaxseg[hub]'`."
        ) from None
    return huggingface_hub


def _fetch(source: str, patterns: list[str]) -> Path:
    """The folder of the cache with the files of a repository whose names fit `patterns`."""
    hub = _library(source)
    repo, _, revision = source.removeprefix(PREFIX).partition("@")
    arguments = {"repo_id": repo, "revision": revision or None, "allow_patterns": patterns}
    try:
        return Path(hub.snapshot_download(**arguments))
    except Exception as online:  # requests, httpx, huggingface_hub: each has families of its own
        try:
            return Path(hub.snapshot_download(**arguments, local_files_only=True))
        except Exception:
            raise UserError(
                f"'{source}' is not in the local cache and could not be fetched: {_first_line(online)}"
                " Check the name and the network, or download the files elsewhere and give their folder."
            ) from online


def _card_was_edited(hub: ModuleType, repo: str, ours: Path) -> bool:
    """Whether the repository has a card that jaxseg did not write, and that is not the one of the bundle."""
    try:
        theirs = Path(hub.hf_hub_download(repo, card.FILE))
    except Exception as error:  # there is none; a hub that is out of reach fails again at the commit
        if _status(error) not in (404, None):
            raise
        return False
    return card.is_edited(theirs) and theirs.read_bytes() != ours.read_bytes()


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _remedy(error: Exception) -> str:
    status = _status(error)
    if status in (401, 403):
        return "The token must be valid and may write to this owner's repositories: `hf auth login`, or HF_TOKEN."
    if status == 404:
        return "Check the owner's name, and that the token may write there."
    if status is None:
        return "Check the network, and try again: what was sent is not lost."
    return "Try again later, or send the folder with `hf upload`."


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip('.') if text else 'no message'}."
