"""What the devices send each other in a step: the collectives of the compiled program, on virtual devices of the CPU.

XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_PLATFORMS=cpu python docs/scale/measure.py unet resnet34

Nothing is run: the program is compiled and read. What is sent does not depend on the size of the images.
"""

import collections
import math
import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import optax

import jaxseg
from jaxseg.experiment.devices import sharding_of
from jaxseg.training import create_state, make_mesh, make_train_step, state_sharding

OPERATION = re.compile(r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
ARRAY = re.compile(r"(f32|bf16|f16|s32|u32|pred)\[([\d,]*)\]")
BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1}


def collectives(program: str) -> dict[str, tuple[int, int]]:
    """Returns the number of collectives of each kind in a compiled program, and the bytes of their results.

    >>> collectives("%a = (f32[8]{0}, /*index=1*/f32[2,3]{1,0}) all-reduce(%x, %y), channel_id=1")
    {'all-reduce': (1, 56)}
    """
    found = collections.defaultdict(lambda: (0, 0))
    for result, kind in OPERATION.findall(program):
        size = sum(BYTES[t] * math.prod(map(int, filter(None, n.split(",")))) for t, n in ARRAY.findall(result))
        count, total = found[kind]
        found[kind] = count + 1, total + size
    return dict(found)


def compile_step(model_name: str, encoder: str, *, devices: int, fsdp: int, remat: str = "", crop: int = 64) -> tuple:
    """Returns (the compiled training step, bytes of the state on a device, bytes of the state)."""
    model = jaxseg.create_model(model_name, encoder, num_classes=21)
    mesh, tx = make_mesh(devices, fsdp), optax.adamw(1e-3)
    variables = jax.eval_shape(partial(jaxseg.init, model), jax.random.key(0))
    state = jax.eval_shape(partial(create_state, tx=tx, ema=True), variables)
    sharding = state_sharding(state, mesh)

    def loss(outputs: dict, labels: jax.Array, where: None, step: jax.Array) -> jax.Array:
        return jaxseg.losses.cross_entropy(outputs["logits"], labels)

    step = make_train_step(
        model, tx, loss, mesh=mesh, ema_decay=0.999, remat=remat, state_sharding=sharding if fsdp > 1 else None
    )
    batch = {
        "image": jax.ShapeDtypeStruct((devices, crop, crop, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((devices, crop, crop), jnp.int32),
    }
    leaves = jax.tree.leaves(state)
    own = sum(4 * math.prod(sharding_of(leaf.shape, mesh).shard_shape(leaf.shape)) for leaf in leaves)
    return step.lower(state, batch).compile(), own, sum(4 * leaf.size for leaf in leaves)


def main(model: str, encoder: str) -> None:
    """Prints a line for data parallelism and one for the divided state."""
    devices = jax.device_count()
    for fsdp in (1, devices):
        program, own, whole = compile_step(model, encoder, devices=devices, fsdp=fsdp)
        memory = program.memory_analysis()
        print(
            f"{model} / {encoder}, {devices} devices, fsdp {fsdp}: state {own / 1e6:.1f} MB of {whole / 1e6:.1f} MB a"
            f" device (arguments {memory.argument_size_in_bytes / 1e6:.1f} MB)"
        )
        for kind, (count, size) in sorted(collectives(program.as_text()).items()):
            print(f"  {kind}: {count}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
