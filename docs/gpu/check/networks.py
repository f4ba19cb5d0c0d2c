"""The networks that are timed, each as a config of train.py: the step of stage_pair.py and of train.py is one program."""
import os

CASES = {  # name: (jaxseg model, encoder, smp arch, smp encoder, batch, size, output stride, classes, dtype, places of memory)
    "unet_r34": ("unet", "resnet34", "unet", "resnet34", 16, 512, None, 21, "bfloat16", 1),
    "unet_r34_f32": ("unet", "resnet34", "unet", "resnet34", 16, 512, None, 21, "float32", 1),
    "fpn_r50": ("fpn", "resnet50", "fpn", "resnet50", 16, 512, None, 21, "bfloat16", 1),
    "pspnet_r50": ("pspnet", "resnet50", "pspnet", "resnet50", 16, 512, 8, 21, "bfloat16", 1),
    "deeplabv3plus_r50": ("deeplabv3plus", "resnet50", "deeplabv3plus", "resnet50", 16, 512, 16, 21, "bfloat16", 1),
    "segformer_b0": ("segformer", "mit_b0", "segformer", "mit_b0", 16, 512, None, 150, "bfloat16", 2),
    "segformer_b2": ("segformer", "mit_b2", "segformer", "mit_b2", 16, 512, None, 150, "bfloat16", 2),
    "upernet_convnext_tiny": ("upernet", "convnext_tiny", "upernet", "tu-convnext_tiny", 16, 512, None, 150, "bfloat16", 2),
    "unetpp_r34": ("unetplusplus", "resnet34", "unetplusplus", "resnet34", 16, 512, None, 21, "bfloat16", 1),
    "fpn_lite0": ("fpn", "efficientnet_lite0", "fpn", "tu-tf_efficientnet_lite0", 16, 512, None, 21, "bfloat16", 1),
}
STEPS = 6 if os.environ.get("TINY") else 160  # of train.py; its schedule is part of the program


def config(name, batch, size):
    from jaxseg.config import default_config
    from jaxseg.pretrained.names import SMP_MODELS  # how smp's own defaults are made here: the same network

    model, encoder, arch, _, _, _, stride, _, dtype, _ = CASES[name]
    options = dict(SMP_MODELS[arch]().options)
    c = default_config()
    c.train.steps, c.data.crop, c.data.canvas, c.data.batch_size = STEPS, (size, size), (size, size), batch
    c.model.update(name=model, encoder=encoder, dtype=dtype, encoder_options=options.pop("encoder_options"))
    if "output_stride" in options or stride and arch != "pspnet":  # smp's PSPNet dilates nothing: it stops at c3
        own = options.pop("output_stride", None)
        c.model.output_stride = stride if stride and arch != "pspnet" else own
    c.model.options = options
    return c


def host_state(variables, tx):
    """The state before the first step in host memory, without compiling: AdamW's memory is zeros."""
    import jax, numpy as np
    from jaxseg.experiment.state import create_state

    state = jax.eval_shape(lambda v: create_state(v, tx), variables)
    zeros = lambda tree: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)
    return state.replace(step=np.zeros((), np.int32), opt_state=zeros(state.opt_state), params=jax.device_get(variables["params"]), batch_stats=jax.device_get(variables["batch_stats"]))
