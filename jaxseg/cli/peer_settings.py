"""What other trainers call their settings, and which setting of jaxseg does it."""

from jaxseg.checks import plain_name

_CLASSES = "a model has the classes of the data. Name them in the folder's classes.json (docs/data.md)."
_BANDS = "a model has as many channels as the data has bands. Choose some of them with config.data.options.bands."
_PROBABILITIES = "logits come out of a model; the losses decide whether softmax or sigmoids make probabilities of them."
_END = (
    "a run goes on to its end, where the learning rate is lowest. The best checkpoint by validation mIoU is kept"
    " besides, and Ctrl-C ends a run earlier."
)
_BEST = "the best checkpoint is that of the highest validation mIoU."
_LOSSES = "the losses and their weights are config.loss.terms, such as --config.loss.terms.dice=1."
_WEIGHTS = (
    "the weights of the classes are an option of a loss, such as"
    " --config.loss.options.cross_entropy.class_weights=0.5,2,1."
)
_GO_ON = "the same --workdir again goes on with a run; config.model.weights starts from a trained model."
_DEVICES = "a run uses every device that JAX sees; config.train.devices takes fewer (docs/scale.md)."
_TYPE = "the computation's type is config.model.dtype, float32 or bfloat16; parameters stay float32."
_FROZEN = "parts that are not trained are named by config.optim.freeze, such as encoder or encoder/stem."
_RATE = "the encoder's learning rate relative to config.optim.lr is config.optim.encoder_lr_factor, such as 0.1."
_NORM = "batch normalization is over all devices unless config.train.batch_norm is device."
_REMAT = "less memory for more time is config.train.remat=blocks."
_EVERY = "an evaluation comes after each epoch, or every config.eval.every steps."
_COLORS = "colors are changed by config.augment.brightness, contrast, saturation and hue."

# Setting of Lightning, segmentation_models_pytorch (smp), mmsegmentation, albumentations or another trainer, as
# `plain_name` has it -> key of the config here, whose values mean the same; or a sentence.
PEERS: dict[str, str] = {
    # The model.
    "arch": "model.name",
    "architecture": "model.name",
    "encodername": "model.encoder",
    "backbone": "model.encoder",
    "pretrained": "model.encoder_weights",
    "encoderdepth": "model.encoder_options.depth",
    "decoderattentiontype": "model.options.attention",
    "classes": _CLASSES,
    "numclasses": _CLASSES,
    "nclasses": _CLASSES,
    "inchannels": _BANDS,
    "inchans": _BANDS,
    "activation": _PROBABILITIES,
    "ckptpath": _GO_ON,
    "checkpointpath": _GO_ON,
    "loadfrom": _GO_ON,
    "resume": _GO_ON,
    "resumefrom": _GO_ON,
    # The losses.
    "loss": _LOSSES,
    "lossfn": _LOSSES,
    "lossfunction": _LOSSES,
    "lossname": _LOSSES,
    "criterion": _LOSSES,
    "classweight": _WEIGHTS,
    "classweights": _WEIGHTS,
    "ignoreindex": "data.label_ignore",
    "ignorelabel": "data.label_ignore",
    # The optimizer.
    "optimizer": "optim.name",
    "learningrate": "optim.lr",
    "baselr": "optim.lr",
    "encoderlr": _RATE,
    "backbonelr": _RATE,
    "scheduler": "optim.schedule",
    "lrscheduler": "optim.schedule",
    "gradientclipval": "optim.clip_norm",
    "gradclip": "optim.clip_norm",
    "maxgradnorm": "optim.clip_norm",
    "accumulategradbatches": "optim.accumulate",
    "gradientaccumulationsteps": "optim.accumulate",
    "freezeencoder": _FROZEN,
    "freezebackbone": _FROZEN,
    "frozenstages": _FROZEN,
    "emadecay": "optim.ema",
    # The run.
    "maxepochs": "train.epochs",
    "numepochs": "train.epochs",
    "nepochs": "train.epochs",
    "maxsteps": "train.steps",
    "maxiters": "train.steps",
    "precision": _TYPE,
    "amp": _TYPE,
    "fp16": _TYPE,
    "bf16": _TYPE,
    "mixedprecision": _TYPE,
    "earlystopping": _END,
    "earlystop": _END,
    "patience": _END,
    "monitor": _BEST,
    "strategy": _DEVICES,
    "accelerator": _DEVICES,
    "gpus": _DEVICES,
    "numgpus": _DEVICES,
    "numnodes": _DEVICES,
    "syncbatchnorm": _NORM,
    "gradientcheckpointing": _REMAT,
    "valcheckinterval": _EVERY,
    "checkvaleverynepoch": _EVERY,
    "savetopk": "checkpoint.keep",
    "logeverynsteps": "log.every",
    # The data.
    "numworkers": "data.workers",
    "imgsize": "data.crop",
    "imagesize": "data.crop",
    "inputsize": "data.crop",
    "patchsize": "data.crop",
    "cropsize": "data.crop",
    "randomcrop": "data.crop",
    "horizontalflip": "augment.flip",
    "hflip": "augment.flip",
    "verticalflip": "augment.flip_vertical",
    "vflip": "augment.flip_vertical",
    "randomscale": "augment.scale",
    "shiftscalerotate": "augment.rotate",
    "gaussianblur": "augment.blur",
    "gaussnoise": "augment.noise",
    "elastictransform": "augment.elastic",
    "colorjitter": _COLORS,
    "randombrightnesscontrast": _COLORS,
}


def of_peers(key: str) -> str:
    """Returns what to set in place of a key that another trainer has, as a sentence; "" if none is known.

    >>> of_peers("train.max_epochs"), of_peers("optim.lrr")
    ('Set config.train.epochs.', '')
    """
    group, _, name = key.rpartition(".")
    here = PEERS.get(plain_name("loss_name" if (group, name) == ("loss", "name") else name), "")
    if not here or " " in here:
        return here[:1].upper() + here[1:]
    return f"Set config.{here}."
