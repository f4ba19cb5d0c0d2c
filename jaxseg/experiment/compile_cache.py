"""The folder of compiled programs: JAX goes past an entry that is broken, and never writes it anew by itself."""

import re
import zlib
from pathlib import Path

import jax

BROKEN = re.compile(r"Error reading persistent compilation cache entry for '([^']+)'")  # jax's warning
ZSTD = b"\x28\xb5\x2f\xfd"  # begins what zstandard compressed


def drop_broken(warning: str) -> str | None:
    """Removes the entry of the compilation cache that a warning of JAX's is about, so that it is written again.

    Without that, each later start would compile the program again. The warning names the program but not the file: of
    the program's files those go that can't be decompressed or, if all can, all.

    Args:
      warning: the text; of any other warning nothing is done.

    Returns:
      What was done, as a sentence; None if nothing was.
    """
    found, folder = BROKEN.search(warning), jax.config.jax_compilation_cache_dir
    if not found or not folder:
        return None
    prefix = f"{found[1]}-"
    try:
        files = [f for f in Path(folder).iterdir() if f.name.startswith(prefix) and f.name.endswith("-cache")]
        removed = [file for file in files if not _decompresses(file)] or files
        for file in removed:
            file.unlink(missing_ok=True)
    except OSError as error:
        return f"A compiled program in {folder} is broken and can't be removed ({error}): it is compiled at each start."
    return f"A compiled program of {found[1]} in {folder} was broken; it is compiled and written again."


def _decompresses(file: Path) -> bool:
    content = file.read_bytes()
    try:
        if not content.startswith(ZSTD):
            return bool(zlib.decompress(content))
        try:
            from compression import zstd
        except ImportError:
            import zstandard

            return bool(zstandard.ZstdDecompressor().decompress(content))
        return bool(zstd.decompress(content))
    except Exception:  # each of the three has an error of its own; without any, jax could not read it either
        return False
