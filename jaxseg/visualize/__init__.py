"""Images of what a model does: label maps, overlays, grids of predictions, confusion matrices, training curves.

Arrays in, arrays or PNG files out, all on the host. Label maps are int[h, w]; a palette is one RGB color per class.
Ignored pixels are hatched in grays, so that no class color is mistaken for them.
"""

from jaxseg.visualize.attention import attention_figure, channels_figure
from jaxseg.visualize.charts import confusion_figure, curves, spread_figure
from jaxseg.visualize.fields import fields_figure
from jaxseg.visualize.images import colorize, error_map, overlay, prediction_grid, save_label_png
from jaxseg.visualize.losses import losses_figure
from jaxseg.visualize.uncertainty import heat, reliability_figure, uncertainty_figure

__all__ = [
    "attention_figure",
    "channels_figure",
    "colorize",
    "confusion_figure",
    "curves",
    "error_map",
    "fields_figure",
    "heat",
    "losses_figure",
    "overlay",
    "prediction_grid",
    "reliability_figure",
    "save_label_png",
    "spread_figure",
    "uncertainty_figure",
]
