"""Names of the weights of torchvision's LR-ASPP."""

from jaxseg.pretrained.names.recipe import TorchvisionModel

MOBILENET = {"output_stride": 16, "encoder_options": {"early_levels": ("c1", "c2", "c3", "c4")}}
RENAMES = (
    (r"^head\.project\.", "classifier.cbr."),
    (r"^head\.weigh$", "classifier.scale.1"),
    (r"^head\.deep$", "classifier.high_classifier"),
    (r"^head\.fine$", "classifier.low_classifier"),
)

TORCHVISION = {
    "lraspp_mobilenet_v3_large": TorchvisionModel(
        "lraspp", "mobilenet_v3_large", MOBILENET, RENAMES, "classifier.low_classifier"
    )
}
