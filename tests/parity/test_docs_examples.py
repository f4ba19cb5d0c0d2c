"""The Python of the documentation that needs one of the PyTorch libraries."""

import numpy as np

from tests.documents import blocks, run
from tests.test_docs_examples import PEERS


def test_a_model_of_smp_converts_as_the_page_says(peers):
    import jaxseg

    (block,) = [block for block in blocks("docs/pretrained.md") if PEERS in block.text]
    names = {"__name__": "example", "jaxseg": jaxseg}
    run(block, names)
    with peers.torch.inference_mode():
        theirs = names["peer"](peers.torch.from_numpy(names["images"].transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(names["logits"], theirs.transpose(0, 2, 3, 1), atol=1e-4)
