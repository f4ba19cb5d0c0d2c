"""A page that runs a network in the browser: plain files, which any web server can give out.

    index.html      the page, with the description of the model in it
    model.onnx      the predictor, see `jaxseg.export.onnx_file`
    ort/            onnxruntime-web, copied from the npm package that the user has

The page sends nothing anywhere and loads nothing from elsewhere.
"""

import dataclasses
import json
import shutil
from pathlib import Path

from jaxseg.checks import UserError
from jaxseg.data.resize import AS_STORED
from jaxseg.export.check import Agreement
from jaxseg.export.function import Form
from jaxseg.export.meaning import describe
from jaxseg.export.onnx_file import export_onnx
from jaxseg.files import write_text
from jaxseg.trained import TrainedModel

PACKAGE = "onnxruntime-web"
# Of the package's folder: the library for a <script>, what it loads, and its terms.
RUNTIME = ("dist/ort.wasm.min.js", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm")
TERMS = ("LICENSE", "ThirdPartyNotices.txt")
REMEDY = (
    f"Get it with `npm install {PACKAGE}`, and name its folder: --runtime node_modules/{PACKAGE}. Nothing is"
    " downloaded unasked."
)


def export_web(
    trained: TrainedModel,
    folder: str | Path,
    size: tuple[int, int],
    runtime: str | Path,
    *,
    weights: str = "float32",
) -> Agreement:
    """Writes a page that labels images, and what a camera sees, in the browser.

    The browser resizes images by the model's rule, with its own filter; larger ones than `size` are made smaller.

    Args:
      trained: the model, of red, green and blue of 8 bits.
      folder: to write to.
      size: (height, width) of the largest image that the network sees, pixels.
      runtime: the folder of the npm package onnxruntime-web.
      weights: as for `jaxseg.export.export_onnx`.

    Returns:
      How far onnxruntime's results are from the model's.
    """
    folder, files = Path(folder), find_runtime(runtime)
    if not trained.bands.is_rgb:
        raise UserError(
            f"A browser has images of red, green and blue, 8 bits each; the model takes {trained.bands.dtype} of"
            f" {', '.join(trained.bands.names)}. Export it as ONNX."
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, expected a folder to write the page to.")
    resize = trained.preprocessing.resize
    seen = dataclasses.replace(trained, preprocessing=dataclasses.replace(trained.preprocessing, resize=AS_STORED))
    form = Form(size, "labels", ("size",))
    agreement = export_onnx(seen, folder / "model.onnx", form, weights=weights)
    (folder / "ort").mkdir(exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / "ort" / file.name)
    description = describe(seen, form, None, "onnx") | {"page": {"resize": resize.to_json()}}
    write_text(folder / "index.html", fill_page(description))
    return agreement


def find_runtime(folder: str | Path) -> list[Path]:
    """Returns the files of onnxruntime-web that the page needs, of the folder of the npm package."""
    needed = [Path(folder) / name for name in RUNTIME]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        raise UserError(f"The page needs {PACKAGE}, and {missing[0]} is missing. {REMEDY}")
    return needed + [path for path in (Path(folder) / name for name in TERMS) if path.is_file()]


def fill_page(description: dict[str, object]) -> str:
    """Returns the page with a model's description in it, which ends no element, whatever its texts are."""
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    return page.replace("DESCRIPTION", json.dumps(description, allow_nan=False).replace("<", "\\u003c"))
