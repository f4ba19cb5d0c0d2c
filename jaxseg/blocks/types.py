"""Types of what blocks take and give."""

from collections.abc import Callable

from jaxseg.blocks.conv import Feature

Function = Callable[[Feature], Feature]  # a layer, or any other way from features to features
