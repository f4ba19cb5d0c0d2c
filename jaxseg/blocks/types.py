"""Types of the arguments and results of blocks."""

from collections.abc import Callable

from jaxseg.blocks.conv import Feature

Function = Callable[[Feature], Feature]  # a layer, or any other way from features to features
