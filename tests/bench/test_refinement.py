from functools import partial

import jax

from jaxseg.bench.refinement import refinement_gain
from jaxseg.data import create_dataset
from jaxseg.inference.refine import guided
from jaxseg.ops.meanfield import dense_crf


def test_refinement_mends_noise_on_the_embedded_shapes():
    data = create_dataset("shapes", size=32, train=1, val=3)
    records = [data.splits["val"][i] for i in range(3)]
    refiners = {
        "crf": partial(dense_crf, bilateral_sigma=20.0, color_sigma=20.0, iterations=3),
        "guided": partial(guided, radius=4),
    }
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    refiners = {name: jax.jit(refine, compiler_options=quick) for name, refine in refiners.items()}
    found, maps = refinement_gain(records, data.num_classes, refiners, flipped=0.4, sure=0.5, ignore=data.ignore)
    miou = {name: row["miou"] for name, row in found.items()}
    assert miou["crf"] > miou["before"] + 0.2, miou
    assert miou["guided"] > miou["before"] + 0.1, miou
    assert [m["crf"].shape for m in maps] == [(32, 32)] * 3
