"""Options of an architecture: which it has, and which of its parts each one goes to."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.head import FCNHead, Head
from jaxseg.checks import UserError, check_options
from jaxseg.encoders.levels import Levels
from jaxseg.models.segmenter import Segmenter
from jaxseg.variants import Variant, defaults

Part = type[nn.Module] | Variant
COMMON = ("num_classes", "dtype", "in_channels", "head_dtype")  # every part gets them that has such fields
# Fields of the parts that are no options of the model.
RESERVED = ("parent", "name", "encoder", "decoder", "head", "auxiliary", "kernel_init", *COMMON)
# Options that count what a model can do without, by the name of the model.
MAY_BE_NONE = {
    "bifpn": ("repeats", "convs"),
    "cunet": ("order",),
    "deeplabv2": ("hidden",),
    "deeplabv3_cascade": ("blocks",),
    **dict.fromkeys(("stacked_unet", "stacked_unet_128", "stacked_unet_7_128"), ("counts",)),
}


class Option(NamedTuple):
    """Placeholder for a field of a part that is an option of the model."""

    name: str
    default: Any


HEAD_3X3 = Variant(Head, kernel_size=3)
DROPPING = Variant(Segmenter, dropout=Option("dropout", 0.2))  # whole channels, before the head


class Architecture:
    """An entry of `MODELS`: makes a `Segmenter` from an encoder, num_classes, dtypes and options.

    The options are the fields of the decoder (of the head, where there is no decoder), and those fields of the other
    parts whose value is an `Option`; with `auxiliary`, also a switch of that name. Its documentation is that of
    the decoder or the head.

    Args:
      decoder: makes the decoder; None for an architecture without.
      head: makes the head.
      default_encoder: a key of `ENCODERS`.
      default_output_stride: of the encoder, in pixels.
      auxiliary: makes the auxiliary head.
      has_auxiliary: whether the model has it unless told otherwise.
      segmenter: makes the whole; its fields are those of a `Segmenter`, and maybe more.

    >>> net = Architecture(None, AuxiliaryHead, default_encoder="vgg16", default_output_stride=32)
    >>> list(defaults(net))
    ['dropout', 'align_corners', 'level', 'dtype']
    """

    def __init__(
        self,
        decoder: Part | None,
        head: Part = Head,
        *,
        default_encoder: str,
        default_output_stride: int,
        auxiliary: Part | None = None,
        has_auxiliary: bool = False,
        segmenter: Part = Segmenter,
    ) -> None:
        self.parts = {"decoder": decoder, "head": head, "auxiliary": auxiliary, "segmenter": segmenter}
        self.parts = {name: part for name, part in self.parts.items() if part is not None}
        self.default_encoder, self.default_output_stride = default_encoder, default_output_stride
        self.__doc__ = inspect.getdoc(decoder or head)
        options, kinds = {}, {"auxiliary": bool}
        for name, part in self.parts.items():
            annotations = {field.name: field.type for field in dataclasses.fields(getattr(part, "make", part))}
            for field, option in self._open(name):
                options[option.name], kinds[option.name] = option.default, annotations[field]
        if auxiliary is not None:
            options["auxiliary"] = has_auxiliary
        keyword = inspect.Parameter.KEYWORD_ONLY
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(name, keyword) for name in ("encoder", "num_classes")]
            + [inspect.Parameter(n, keyword, default=v, annotation=kinds[n]) for n, v in options.items()]
            + [inspect.Parameter("dtype", keyword, default=jnp.float32)]
        )

    def __call__(
        self,
        *,
        encoder: nn.Module,
        num_classes: int,
        dtype: Any = jnp.float32,
        in_channels: int | None = None,
        head_dtype: Any = None,
        **options: Any,
    ) -> nn.Module:
        check_options(self, options, "the model")
        common = dict(zip(COMMON, (num_classes, dtype, in_channels, head_dtype), strict=True))
        values = {**defaults(self), **options, **common}
        names = [name for name in ("decoder", "head", "auxiliary") if name in self.parts and values.get(name, True)]
        made = {name: self.parts[name](**self._fill(name, values)) for name in names}
        return self.parts["segmenter"](encoder=encoder, **{"decoder": None, **made}, **self._fill("segmenter", values))

    def options_of(self, model: nn.Module) -> dict[str, Any] | None:
        """Returns the options with which this architecture makes `model`; None if it cannot make it."""
        options = dict(defaults(self))
        for name, part in self.parts.items():
            module = model if name == "segmenter" else getattr(model, name, None)
            if name == "auxiliary":
                options["auxiliary"] = module is not None
                if module is None:
                    continue
            if type(module) is not getattr(part, "make", part):
                return None
            options |= {option.name: getattr(module, field) for field, option in self._open(name)}
        del options["dtype"]
        made = self(encoder=model.encoder, **{name: getattr(model, name) for name in COMMON}, **options)
        return options if made == model else None

    def _fill(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a part that get one of `values`, by field."""
        common = {field: values[field] for field in COMMON if field in _fields(self.parts[name])}
        return {**common, **{field: values[option.name] for field, option in self._open(name)}}

    def _open(self, name: str) -> Iterator[tuple[str, Option]]:
        """The fields of a part that are options, with the option."""
        part = self.parts[name]
        given = getattr(part, "options", {})
        first = next(iter(self.parts)) == name
        for field in dataclasses.fields(getattr(part, "make", part)):
            option = given.get(field.name, Option(field.name, field.default) if first else None)
            if isinstance(option, Option) and field.name not in RESERVED:
                yield field.name, option


class AuxiliaryHead(FCNHead):
    """An FCN head (see `FCNHead`) on one of the encoder's levels."""

    level: str = "c4"

    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Float[Array, "b h w num_classes"]:
        x = level_of(levels, self.level, "leave the auxiliary head out: auxiliary=False")
        return super().__call__(x, size, train=train)


def level_of(levels: Levels, name: str, otherwise: str) -> Feature:
    """Returns the features of a level, or raises a `UserError` that says what to do where the encoder has no such one.

    Args:
      levels: of the encoder.
      name: of the level, "c1" to "c5".
      otherwise: what may be done, other than to take an encoder of more levels.
    """
    try:
        return levels[name]
    except UserError as error:
        raise UserError(f"{str(error).removesuffix('.')}, or {otherwise}.") from None


def check_channels(decoder: nn.Module, levels: Levels) -> None:
    """Raises a `UserError` unless the decoder's `decoder_channels` has one number per block of it."""
    channels, own = decoder.decoder_channels, type(decoder).decoder_channels
    if len(channels) != levels.depth:
        remedy = ", or leave the option out for the model's own" if len(own) == levels.depth else ""
        raise UserError(
            f"decoder_channels {tuple(channels)} has {len(channels)} entries, expected {levels.depth}:"
            f" one for each halving of the encoder, whose deepest level is c{levels.depth}. Give as many"
            f" numbers{remedy}."
        )


def check_depth(levels: Levels, least: int, kind: str) -> None:
    """Raises a `UserError` unless the encoder has a level c`least`, or a deeper one, for the decoder to begin at."""
    if levels.depth < least:
        raise UserError(
            f"{kind} needs an encoder of at least {least} levels, and the deepest level of this one is"
            f" c{levels.depth}. Choose another encoder, or more levels of it."
        )


def title(model: nn.Module) -> str:
    """Returns the class names of a model's decoder and encoder: "UNetDecoder / ResNet"."""
    main = getattr(model, "decoder", None) or getattr(model, "head", model)
    return " / ".join(type(part).__name__ for part in (main, getattr(model, "encoder", None)) if part is not None)


def described(model: nn.Module, table: Mapping[str, Callable[..., nn.Module]], where: str) -> tuple[str, dict]:
    """Returns the name of the entry of `table` that `model` differs least from, and the options in which it does.

    Args:
      model: a model or an encoder.
      table: name -> class, `Variant` or `Architecture`.
      where: the table's own name, for the error.
    """
    found = {}
    for name, entry in table.items():
        options = _options_of(getattr(entry, "make", entry), model)
        if options is not None:
            preset = defaults(entry)
            found[name] = {key: value for key, value in options.items() if value != preset[key]}
    if not found:
        raise UserError(
            f"This {type(model).__name__} is not in {where}: only what has a name there can be written to a file."
        )
    name = min(found, key=lambda n: len(found[n]))
    return name, found[name]


def _options_of(make: Any, model: nn.Module) -> dict[str, Any] | None:
    if hasattr(make, "options_of"):
        return make.options_of(model)
    given = ("parent", "name", "encoder", "output_stride", *COMMON)  # arguments of their own
    fields = _fields(make) - set(given) if type(model) is make else None
    return None if fields is None else {name: getattr(model, name) for name in defaults(make) if name in fields}


def _fields(part: Part) -> set[str]:
    return {field.name for field in dataclasses.fields(getattr(part, "make", part))}
