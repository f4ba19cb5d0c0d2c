"""Prediction of very many images on a Ray cluster: Ray Data hands them to processes that each hold the model.

Needs Ray: pip install 'jaxseg[ray]'.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxseg.checks import UserError


def predict_on_ray(
    model: str | Path,
    images: Iterable[str | Path],
    out: str | Path,
    *,
    workers: int,
    gpus: float = 1,
    cpus: float = 1,
    batch_size: int = 64,
) -> list[str]:
    """Predicts images in `workers` processes, writes what `jaxseg predict` writes, and returns what went wrong.

    An image that does not read is a sentence of the result; all others are written.

    Args:
      model: as for `jaxseg.load`; all machines see it, the images and `out`.
      images: files, and folders of them.
      out: the folder to write to.
      workers: number of processes, each with a copy of the model.
      gpus: of each process; 0 predicts on CPUs.
      cpus: of each process.
      batch_size: images that a process is handed at a time.

    Raises:
      UserError: Ray is not installed; or two images would be written to one file.
    """
    try:
        import ray.data
    except ImportError as error:
        raise UserError(f"Prediction on Ray needs Ray ({error}): pip install 'jaxseg[ray]'") from error
    from jaxseg.inference.image_list import find_below, name_outputs

    out = Path(out).absolute()
    found, failures = find_below([str(Path(image).absolute()) for image in images], out)
    pages = name_outputs(found, out)
    out.mkdir(parents=True, exist_ok=True)
    rows = [{"file": str(p.file), "page": -1 if p.page is None else p.page, "stem": str(p.stem)} for p in pages]
    located = str(Path(model).absolute()) if Path(model).exists() else str(model)
    predicted = ray.data.from_items(rows).map_batches(
        _Worker,
        fn_constructor_args=(located,),
        batch_size=batch_size,
        batch_format="numpy",
        concurrency=workers,
        num_gpus=gpus or None,
        num_cpus=cpus,
        runtime_env={"env_vars": {"JAX_PLATFORMS": "cuda" if gpus else "cpu"}},
    )
    return sorted([*map(str, failures), *(row["error"] for row in predicted.iter_rows() if row["error"])])


class _Worker:
    """A process with the model, which is loaded once."""

    def __init__(self, model: str):
        from jaxseg.inference.predict import Predictor
        from jaxseg.trained import load

        self.predictor = Predictor(load(model))

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        from jaxseg.inference.files import predict_file
        from jaxseg.inference.image_list import Failure, ImagePage

        errors = []
        for file, page, stem in zip(rows["file"], rows["page"], rows["stem"], strict=True):
            try:
                predict_file(self.predictor, ImagePage(Path(file), None if page < 0 else int(page), Path(stem)))
                errors.append("")
            except (UserError, OSError) as error:
                errors.append(str(Failure(str(file), str(error))))
        return {"error": errors}
