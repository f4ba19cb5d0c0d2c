"""The model card of a bundle: a README.md that people read, with the front matter that the Hugging Face hub reads."""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg.files import plain, read_text, write_text

FILE = "README.md"
BESIDE = "README.new.md"  # of a card that was edited
LARGEST = 2**20  # bytes of a card that is read
# Of the identifiers that the hub knows, the ones that weights commonly have.
LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-4.0", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0", "openrail", "unlicense", "other"),
)
NAMED = {  # metrics -> (their type on the hub, their name)
    "miou": ("mean_iou", "mIoU"),
    "mean_dice": ("dice", "mean Dice"),
    "pixel_accuracy": ("accuracy", "pixel accuracy"),
    "mean_accuracy": ("accuracy", "mean accuracy"),
}
_MARK = "<!-- jaxseg wrote this card, sha256 of what is above: {} -->\n"
_MARKED = re.compile("([0-9a-f]{64})".join(map(re.escape, _MARK.split("{}"))) + r"\Z")


def write_card(directory: Path, config: Mapping[str, Any], count: int) -> None:
    """Writes README.md into the folder of a bundle; a card that somebody edited is kept, which a warning says.

    Args:
      directory: of the bundle.
      config: of its config.json.
      count: of the weights.
    """
    path, text = directory / FILE, make_card(config, count, directory.resolve().name)
    if is_edited(path):
        write_text(directory / BESIDE, text)
        warnings.warn(
            f"{path} was edited and is kept as it is; the card of what was written now is {BESIDE}, beside it. Its"
            " scores, classes and license may have changed: take over what is true.",
            stacklevel=4,
        )
        return
    write_text(path, text)
    (directory / BESIDE).unlink(missing_ok=True)


def is_edited(path: Path) -> bool:
    """Says whether a card is there that is not, word for word, one that jaxseg wrote."""
    if not path.exists():
        return False
    try:
        text = read_text(path, largest=LARGEST)
    except (OSError, ValueError):
        return True
    marked = _MARKED.search(text)
    return marked is None or hashlib.sha256(text[: marked.start()].encode()).hexdigest() != marked[1]


def make_card(config: Mapping[str, Any], count: int, name: str) -> str:
    """Returns the text of a model card; its last line lets `is_edited` notice changes.

    Args:
      config: of a bundle's config.json.
      count: of the weights.
      name: of the bundle.
    """
    name = plain(name) or "model"
    parts = [
        _front_matter(config, name),
        _heading(config, count, name),
        _use(config, name),
        _images(config),
        _classes(config),
        _scores(config),
        _origin(config),
    ]
    text = "\n".join(part for part in parts if part)
    return text + "\n" + _MARK.format(hashlib.sha256((text + "\n").encode()).hexdigest())


def _front_matter(config: Mapping[str, Any], name: str) -> str:
    """YAML between two lines of ---; every text is quoted as JSON does, which YAML reads."""
    model = config.get("model") or config["encoder"]
    tags = ["jaxseg", "jax", "flax", "image-segmentation" if "model" in config else "feature-extraction"]
    tags += ["semantic-segmentation", *(model[key] for key in ("name", "encoder") if model.get(key))]
    lines = ["---", "library_name: jaxseg"]
    license = config.get("license", "")
    if license.lower() in LICENSES:
        lines.append(f"license: {license.lower()}")
    elif license:
        lines += ["license: other", f"license_name: {_quote(license)}"]
    if "model" in config:
        lines.append("pipeline_tag: image-segmentation")
    lines += ["tags:", *(f"- {_quote(tag)}" for tag in dict.fromkeys(tags))]
    scores = config.get("scores")
    if scores:
        lines += [
            "model-index:",
            f"- name: {_quote(name)}",
            "  results:",
            "  - task:",
            "      type: image-segmentation",
        ]
        data, split = scores.get("data") or "unknown", scores.get("split") or "unknown"
        lines += ["    dataset:", f"      name: {_quote(data)}", f"      type: {_quote(data)}"]
        lines += [f"      split: {_quote(split)}", "    metrics:"]
        named = {key: NAMED.get(key, (key, key)) for key in scores["metrics"] if "/" not in key}
        for key, (kind, shown) in named.items():
            lines += [f"    - type: {_quote(kind)}", f"      name: {_quote(shown)}"]
            lines += [f"      value: {scores['metrics'][key]:.6f}"]
    return "\n".join([*lines, "---", ""])


def _quote(text: Any) -> str:
    return json.dumps(plain(str(text)))


def _heading(config: Mapping[str, Any], count: int, name: str) -> str:
    model = config.get("model") or config["encoder"]
    what = f"`{model['name']}`" + (f" on the encoder `{model['encoder']}`" if model.get("encoder") else "")
    kind = "Semantic segmentation" if "model" in config else "An encoder"
    return (
        f"# {_cell(name)}\n\n{kind} with [jaxseg](https://pypi.org/project/jaxseg/) (JAX, Flax): {what},"
        f" {count / 1e6:.2f} million numbers, float32.\n"
    )


def _use(config: Mapping[str, Any], name: str) -> str:
    if "model" not in config:
        return (
            "## Use\n\nTrain a model on it: `--config.model.encoder_weights=PATH`, where PATH is this folder, or"
            " `hf:OWNER/REPO`.\n"
        )
    return f"""## Use

```python
import jaxseg

trained = jaxseg.load({_quote(name)})  # this folder, or "hf:OWNER/REPO" with jaxseg[hub]
predictor = jaxseg.Predictor(trained)
label = predictor(image)  # [height, width, {config["in_channels"]}], as stored -> class ids [height, width]
probabilities = predictor.probabilities(image)  # [height, width, labels]
```

`jaxseg predict PATH images/ --out labels` labels files; `jaxseg verify PATH` computes the golden image again and says
whether this machine gets the same result. Nothing in this folder is run: it is JSON and arrays.
"""


def _images(config: Mapping[str, Any]) -> str:
    seen = config["preprocessing"]
    bands = seen["bands"]
    windows = bands.get("window") or [[0, 255]] * len(bands["names"])
    lines = ["## Images", "", f"Of {bands['dtype']}, {len(bands['names'])} bands, in this order:", ""]
    lines += ["| band | stored values that become 0 and 255 | mean | standard deviation |", "|---|---|---|---|"]
    for band, (low, high), mean, std in zip(bands["names"], windows, seen["mean"], seen["std"], strict=True):
        lines.append(f"| {_cell(band)} | {low:g} to {high:g} | {mean:.6g} | {std:.6g} |")
    phase = " and ".join(map(str, seen["phase"]))
    lines += [
        "",
        f"Means and deviations are of the values from 0 to 255. Images {_rule(seen['resize'])}, and are padded"
        f" ({seen['fill']}) to sizes that are {phase} modulo {seen['bucket']}. jaxseg does all of this.",
        "",
    ]
    return "\n".join(lines)


def _rule(resize: Mapping[str, Any]) -> str:
    """A rule of resizing in words."""
    if resize["size"]:
        return f"are resized to {resize['size'][0]} x {resize['size'][1]} pixels (height x width)"
    if resize["short_side"]:
        return f"are resized until the shorter side has {resize['short_side']} pixels"
    return f"are resized by the factor {resize['factor']:g}" if resize["factor"] != 1 else "keep their size"


def _classes(config: Mapping[str, Any]) -> str:
    names, colors = config["classes"], config["palette"]
    if not names:
        return ""
    values = config.get("values")
    first = 1 if len(names) == 1 else 0  # of a model of one class, whose label is 1
    kind = "Each has a probability of its own" if config["activation"] == "sigmoid" else "They exclude each other"
    lines = ["## Classes", "", f"{kind} ({config['activation']}).", ""]
    lines += ["| id | class | color |" + (" value in files |" if values else "")]
    lines += ["|---|---|---|" + ("---|" if values else "")]
    for i, name in enumerate(names):
        color = "#{:02x}{:02x}{:02x}".format(*colors[i]) if i < len(colors) else ""
        stored = f" {values[i]} |" if values and i < len(values) else ""
        lines.append(f"| {i + first} | {_cell(name)} | {color} |{stored}")
    lines += ["", f"Pixels of the label {config['ignore']} did not count in training.", ""]
    return "\n".join(lines)


def _scores(config: Mapping[str, Any]) -> str:
    scores, calibration = config.get("scores"), config.get("calibration")
    lines = ["## Scores", ""]
    if not scores:
        lines.append("None were measured when the bundle was written.")
    else:
        when = ", ".join(f"{key} {scores[key]}" for key in ("split", "date", "checkpoint") if scores.get(key))
        lines += [f"On {_cell(scores.get('data') or 'data without a name')} ({_cell(when)}).", ""]
        lines += ["| metric | value |", "|---|---|"]
        for key, value in scores["metrics"].items():
            lines.append(f"| {_cell(NAMED.get(key, ('', key))[1])} | {value:.4f} |")
    if calibration:
        lines += ["", f"Probabilities are calibrated: {calibration['kind']}, fitted on {_cell(calibration['split'])}."]
    return "\n".join([*lines, ""])


def _origin(config: Mapping[str, Any]) -> str:
    made = config.get("made") or {}
    versions = ", ".join(f"{key} {value}" for key, value in (made.get("versions") or {}).items() if value)
    lines = ["## Where it comes from", "", _cell(config["source"] or "Not said.")]
    lines += ["", f"License of the weights: {_cell(config.get('license') or 'not said')}."]
    if made:
        lines += ["", f"Written {made['date']} ({versions}; {made['backend']})."]
    return "\n".join([*lines, ""])


def _cell(text: Any) -> str:
    """A text that makes neither a column of a table nor HTML, whoever wrote it."""
    return plain(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").replace("`", "'")
