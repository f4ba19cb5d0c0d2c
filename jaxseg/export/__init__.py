"""Export: a whole predictor as one file that runs without jaxseg.

    jaxseg.export.export_onnx(trained, "camvid.onnx", Form((384, 480)))
    label = jaxseg.load_exported("camvid.onnx")(image)

The exported function takes images as they are stored, and resizes, pads and normalizes them as training did; it returns
labels, probabilities or logits at the images' own size. A file says what it is of: classes, colors, bands, sizes,
versions and date. What was written has been run and compared with the model before it gets its name.
"""

from jaxseg.export.check import Agreement
from jaxseg.export.function import Form
from jaxseg.export.litert import export_litert
from jaxseg.export.loaded import Exported, load_exported
from jaxseg.export.onnx_file import export_onnx
from jaxseg.export.stablehlo import export_stablehlo

__all__ = ["Agreement", "Exported", "Form", "export_litert", "export_onnx", "export_stablehlo", "load_exported"]
