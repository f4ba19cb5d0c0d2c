"""Names of weights: a path, or `hf:OWNER/REPO[@REVISION]` on the Hugging Face hub, kept in its local cache."""

from pathlib import Path

from jaxseg.checks import UserError

PREFIX = "hf:"
FILES = ["*.json", "*.safetensors"]


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
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(
            f"'{source}' is on the Hugging Face hub, which needs a package that is not installed."
            " Install it with `pip install jaxseg[hub]`."
        ) from None
    repo, _, revision = str(source).removeprefix(PREFIX).partition("@")
    arguments = {"repo_id": repo, "revision": revision or None, "allow_patterns": FILES}
    try:
        return Path(snapshot_download(**arguments))
    except Exception as online:  # requests, httpx, huggingface_hub: each has families of its own
        try:
            return Path(snapshot_download(**arguments, local_files_only=True))
        except Exception:
            raise UserError(
                f"'{source}' is not in the local cache and could not be fetched: {_first_line(online)}"
                " Check the name and the network, or download the files elsewhere and give their folder."
            ) from online


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
