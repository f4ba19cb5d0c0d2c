"""Names of the weights of torchvision's FCN."""

from jaxseg.pretrained.names.recipe import TorchvisionModel

RESNET = {"output_stride": 8, "encoder_options": {"dilate_first": False}}
AUXILIARY = ((r"^auxiliary\.conv\.", "aux_classifier."), (r"^auxiliary\.head\.0$", "aux_classifier.4"))
RENAMES = ((r"^head\.conv\.", "classifier."), (r"^head\.head\.0$", "classifier.4"), *AUXILIARY)

TORCHVISION = {
    f"fcn_{encoder}": TorchvisionModel("fcn", encoder, RESNET, RENAMES, "classifier.4")
    for encoder in ("resnet50", "resnet101")
}
