"""Mean fields beside pydensecrf, the authors' code: `pip install --no-deps pydensecrf2` (it needs a C++ compiler)."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.ops.meanfield import bilateral_kernel, mean_field, spatial_kernel
from jaxseg.ops.permutohedral import build_lattice, lattice_filter

H, W, C = 14, 17, 4


def test_mean_field_equals_pydensecrf(require):
    densecrf = require("pydensecrf.densecrf")
    rng = np.random.default_rng(0)
    label = np.indices((H, W)).sum(0) // 9
    image = np.clip(60 * label[..., None] + rng.normal(0, 8, (H, W, 3)), 0, 255).astype(np.uint8)
    logits = np.log(rng.dirichlet(np.ones(C), (H, W)) + np.eye(C)[label]).astype(np.float32)

    peer = densecrf.DenseCRF2D(W, H, C)
    peer.setUnaryEnergy(np.ascontiguousarray(-logits.reshape(-1, C).T))
    peer.addPairwiseGaussian(sxy=2, compat=2)
    peer.addPairwiseBilateral(sxy=9, srgb=15, rgbim=image.copy(), compat=4)
    theirs = np.array(peer.inference(5)).T.reshape(H, W, C)

    @jax.jit
    def ours(logits):
        alike = bilateral_kernel(image, 9.0, 15.0)
        place = jnp.stack(jnp.meshgrid(jnp.arange(W, dtype=float), jnp.arange(H, dtype=float)), -1).reshape(-1, 2)
        lattice = build_lattice(place / 2.0)
        norm = lattice_filter(lattice, jnp.ones((H * W, 1))) ** -0.5
        exact = spatial_kernel((H, W), 2.0)

        def near(q):  # the peer has a lattice for positions too
            return (norm * lattice_filter(lattice, norm * q.reshape(-1, C))).reshape(q.shape)

        fields = (mean_field(logits, lambda q, k=k: -2 * k(q) - 4 * alike(q), iterations=5) for k in (near, exact))
        return [jax.nn.softmax(field) for field in fields]

    same, exact = ours(logits)
    np.testing.assert_allclose(same, theirs, atol=1e-5)
    assert 1e-4 < np.abs(exact - theirs).max() < 0.1  # our spatial kernel is exact, theirs a lattice
