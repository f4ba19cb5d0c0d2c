"""The names of docs/coming.md that are said to be of smp, torchvision and MONAI are."""

import inspect
from operator import attrgetter

from tests.website.test_reference import rows


def listed(library, *modules):
    """The names of modules of a library, with those of the modules before them."""
    return {f"{module}.{name}" for module in modules for name in vars(getattr(library, module))}


def test_the_names_of_smp_and_torchvision_exist(peers):
    from torchvision import models, ops

    architectures = peers.smp.MODEL_ARCHITECTURES_MAPPING.values()
    known = {
        "smp": {*vars(peers.smp), *dir(peers.smp.Unet), *listed(peers.smp, "encoders", "datasets")},
        "smp's options": {name for make in architectures for name in inspect.signature(make).parameters},
        "smp's encoders": peers.smp.encoders.encoders,
        "smp's losses": vars(peers.smp.losses),
        "smp's metrics": vars(peers.smp.metrics),
        "torchvision": {**vars(models.segmentation), **vars(ops)},
    }
    seen = set()
    for library, names, _ in rows():
        if library in known:
            seen.add(library)
            assert [name for name in names if name not in known[library]] == [], library
    assert seen == set(known)


def test_the_names_of_monai_exist(require):
    names = [name for library, names, _ in rows() if library == "MONAI" for name in names]
    assert len(names) > 15
    for name in names:
        attrgetter(name)(require("monai"))
