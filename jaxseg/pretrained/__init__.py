"""Published weights for jaxseg's modules: from packages, files and other libraries' state dicts.

Every conversion is strict: an entry that is missing, left over or of another shape is an error that names it.
Only names that begin with `hf:` are looked up on the network. A state dict is a mapping of arrays or tensors, or the
path of a `.safetensors`, `.onnx`, `.h5`, `.pth`, `.pt`, `.ckpt` or `.bin` file; no PyTorch is needed to read one. It
may be part of a trainer's checkpoint, and its names may have a prefix, as Lightning, DataParallel and torch.compile
give them. What was left out is told in a warning.

The names of the weights in other libraries are in `jaxseg.pretrained.names`.
"""

from jaxseg.pretrained.bundle import load_bundle, save_bundle
from jaxseg.pretrained.encoder import load_encoder, weights_origin
from jaxseg.pretrained.imported import Imported
from jaxseg.pretrained.keras import encoder_from_keras
from jaxseg.pretrained.library import import_weights
from jaxseg.pretrained.names.origin import smp_encoder, timm_encoder
from jaxseg.pretrained.smp import encoder_from_smp, from_smp, load_smp
from jaxseg.pretrained.state_dict import read_state_dict
from jaxseg.pretrained.timm import encoder_from_timm
from jaxseg.pretrained.torchvision import encoder_from_torchvision, from_torchvision

__all__ = [
    "Imported",
    "encoder_from_keras",
    "encoder_from_smp",
    "encoder_from_timm",
    "encoder_from_torchvision",
    "from_smp",
    "from_torchvision",
    "import_weights",
    "load_bundle",
    "load_encoder",
    "load_smp",
    "read_state_dict",
    "save_bundle",
    "smp_encoder",
    "timm_encoder",
    "weights_origin",
]
