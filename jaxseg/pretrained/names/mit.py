"""Names of Mix Transformer's weights."""

from jaxseg.encoders.mit import MiT
from jaxseg.pretrained.names.source import ModulePath, Source

# Of the parts of a block.
PARTS = {
    "norm1": "norm1",
    "attention.query": "attn.q",
    "attention.key_value": "attn.kv",
    "attention.reduce.conv": "attn.sr",
    "attention.reduce.norm": "attn.norm",
    "attention.project": "attn.proj",
    "norm2": "norm2",
    "ffn.expand": "mlp.fc1",
    "ffn.depthwise": "mlp.dwconv.dwconv",
    "ffn.project": "mlp.fc2",
}


def sources(encoder: MiT) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}; smp's names are those of the published files."""
    return {"smp": Source(key, head=("head.",))}


def key(path: ModulePath) -> str:
    """Names a module as the published weights and smp do.

    >>> key(("stem", "conv"))
    'patch_embed1.proj'
    >>> key(("stage2_block0", "attention", "reduce", "norm"))
    'block2.0.attn.norm'
    >>> key(("stage4_block1", "ffn", "depthwise"))
    'block4.1.mlp.dwconv.dwconv'
    """
    first, *rest = path
    if first == "stem" or first.endswith("_patch"):
        stage = "1" if first == "stem" else first.removeprefix("stage").removesuffix("_patch")
        part = {"conv": "proj", "norm": "norm"}[rest[0]]
        return f"patch_embed{stage}.{part}"
    if first.endswith("_norm"):
        return first.removesuffix("_norm").replace("stage", "norm")
    prefix = first.replace("stage", "block").replace("_block", ".")
    return f"{prefix}.{PARTS['.'.join(rest)]}"
