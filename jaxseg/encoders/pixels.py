"""Pixel statistics, per RGB channel in units of 0 to 255, that models subtract and divide by."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
