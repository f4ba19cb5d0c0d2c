"""Every setting of a run: its key, its default, its unit and meaning.

A file in `configs/` calls `default_config()` and overrides what it needs. The tree is locked: a key that is not
written here is an error, in a config file as on the command line (`--config.optim.lr=0.01`). The exceptions are
the mappings of `OPEN`, whose keys are checked against what they name when the run starts.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxseg.data.augment import Augment

OPEN = (
    "data.options",
    "model.options",
    "model.encoder_options",
    "loss.terms",
    "loss.heads",
    "loss.options",
    "optim.lr_factors",
    "eval.metric_options",
)

# The type of every element of the settings that are tuples.
ELEMENTS = {
    "data.label_ignore": int,
    "data.canvas": int,
    "data.crop": int,
    "augment.scale": float,
    "augment.blur_sigma": float,
    "optim.drops": float,
    "optim.freeze": str,
    "eval.metrics": str,
}

# Keys that were spelled otherwise before 2026-11-26, wherever they stand in a run's config.json or crf.json.
RENAMED = {
    "colour": "color",
    "colour_sigma": "color_sigma",
    "generalised_dice": "generalized_dice",
    "pictures": "images",
    "regulariser": "regularizer",
}


def with_current_names(tree: Any) -> Any:
    """Returns a config, as read from JSON, with today's names in place of former ones.

    >>> with_current_names({"loss": {"terms": {"generalised_dice": 1.0}}})
    {'loss': {'terms': {'generalized_dice': 1.0}}}
    """
    if not isinstance(tree, dict):
        return tree
    return {RENAMED.get(key, key): with_current_names(value) for key, value in tree.items()}


def default_config() -> ConfigDict:
    """Returns the locked tree of defaults: a small U-Net on the embedded `shapes` set."""
    c = ConfigDict()
    c.seed = 0  # of the random numbers: initial parameters, order of the images, augmentation, dropout

    c.data = ConfigDict()
    c.data.name = "shapes"  # a key of jaxseg.DATASETS, or "tfds:NAME"
    c.data.root = ""  # the folder that holds the data, where the data set needs one
    c.data.train_split = "train"
    c.data.eval_split = "val"
    c.data.options = ConfigDict()  # open: further arguments of the data set's function
    c.data.label_offset = 0  # added to every label that is not ignored; -1 for sets whose 0 means "unlabeled"
    c.data.label_ignore = ()  # label values, before the offset, that join the data set's own ignore label
    c.data.resize = ConfigDict()  # at what size the network sees images, in training and ever after; set at most one
    c.data.resize.factor = 1.0  # of both sides
    c.data.resize.short_side = 0  # pixels that the shorter side becomes
    c.data.resize.size = ()  # (height, width) in pixels that every image becomes, whatever its aspect ratio
    c.data.canvas = (128, 128)  # (height, width) in pixels of the window that the host cuts out of larger images
    c.data.balance = 0.0  # probability that this window is centered on a class of the image, all equally likely
    c.data.crop = (128, 128)  # (height, width) in pixels that the model sees in training
    c.data.batch_size = 16  # images per step, over all devices
    c.data.workers = 0  # processes that decode; 0 decodes in threads of the main process
    c.data.threads = 0  # threads that decode; 0 is one per core

    c.augment = ConfigDict(dataclasses.asdict(Augment()))  # on the device; jaxseg/data/augment.py explains every field

    c.model = ConfigDict()
    c.model.name = "unet"  # a key of jaxseg.MODELS
    c.model.encoder = ""  # a key of jaxseg.ENCODERS; "" is the model's own
    c.model.encoder_weights = ""  # "" is random; a name of `jaxseg list --weights`; a file, a bundle; hf:OWNER/REPO
    c.model.weights = ""  # of a whole trained model to start from, as jaxseg.load takes it; "" is none
    c.model.replace_head = False  # True: if that model has other classes, the head starts from random weights
    c.model.output_stride = config_dict.placeholder(int)  # 8, 16 or 32; None is the model's own
    c.model.options = ConfigDict()  # open: further fields of the model's module
    c.model.encoder_options = ConfigDict()  # open: further fields of the encoder's module
    c.model.dtype = "float32"  # of the computation, "float32" or "bfloat16"; parameters stay float32
    c.model.head_dtype = ""  # of the last convolution and what follows; "float32" beside a "bfloat16" rest; "" is dtype

    c.loss = ConfigDict()
    # A weight that changes over the steps is {"start": 0.0, "end": 1.0, "begin_step": 0, "end_step": 1000}.
    c.loss.terms = ConfigDict({"cross_entropy": 1.0})  # open: weight of each loss of jaxseg.LOSSES
    c.loss.heads = ConfigDict({"logits": 1.0})  # open: weight of each of the model's outputs that the terms apply to
    c.loss.options = ConfigDict()  # open: {loss: {argument: value}}, e.g. {"cross_entropy": {"label_smoothing": 0.1}}

    c.optim = ConfigDict()
    c.optim.name = "adamw"  # "adamw" or "sgd"
    c.optim.lr = 1e-3  # peak learning rate
    c.optim.encoder_lr_factor = 1.0  # the encoder's learning rate relative to the rest
    # A path is that of a parameter or of a module above it, * in it is any text, and the factors of several paths are
    # multiplied: {"head": 10.0, "*/bias": 2.0}.
    c.optim.lr_factors = ConfigDict()  # open: {path: factor of the learning rate}
    c.optim.freeze = ()  # paths of parts that are not trained, e.g. ("encoder",); their norms' statistics stay, too
    c.optim.weight_decay = 1e-4  # decoupled for adamw, added to the gradient for sgd; not on biases and norms
    c.optim.beta1 = 0.9  # adamw
    c.optim.beta2 = 0.999  # adamw
    c.optim.momentum = 0.9  # sgd
    c.optim.nesterov = False  # sgd
    c.optim.schedule = "poly"  # "poly", "cosine", "steps" or "constant", after the warm-up
    c.optim.power = 0.9  # of the poly schedule
    c.optim.drops = (0.6, 0.8)  # of the steps schedule: shares of the run after which the learning rate drops
    c.optim.drop_factor = 0.1  # of the steps schedule: what each drop multiplies the learning rate by
    c.optim.warmup_steps = 0  # n updates in which the learning rate rises linearly from lr / n to lr
    c.optim.clip_norm = 0.0  # largest global gradient norm; 0 is off
    c.optim.accumulate = 1  # consecutive batches whose gradients are averaged into one update
    c.optim.ema = 0.0  # decay, per update, of the averaged variables that evaluation uses, e.g. 0.999; 0 is off

    c.train = ConfigDict()
    c.train.steps = 0  # batches, rounded down to a multiple of optim.accumulate; set this or epochs
    c.train.epochs = 0  # passes over the training split; set this or steps
    c.train.devices = 0  # accelerators to shard the batch over; 0 is all
    c.train.fsdp = 1  # n devices share one copy of parameters, optimizer and average; 1 keeps a copy on each
    c.train.remat = ""  # "blocks" computes the model's blocks again for the gradient: less memory, a third more time
    c.train.batch_norm = "global"  # statistics of the "global" batch, or of each "device"'s part of it
    c.train.compilation_cache = "~/.cache/jaxseg/compiled"  # folder of compiled programs kept between runs; "" is off
    c.train.xla = ""  # flags of XLA: "", "gpu" or "deterministic" of jaxseg/experiment/xla.py; XLA_FLAGS goes before
    c.train.autotune_cache = ""  # file of XLA's choices of GPU kernels, read if it is there, else written; "" is off

    c.log = ConfigDict()
    c.log.every = 10  # steps between rows of metrics.jsonl
    c.log.tensorboard = True
    c.log.grad_norm = False  # whether to log the gradient's global norm; costs a GPU two small kernels a parameter
    c.log.images = 6  # images in the grid of each evaluation; 0 is none

    c.checkpoint = ConfigDict()
    c.checkpoint.minutes = 10.0  # between checkpoints; so much is lost at most when the program is killed; 0 is off
    c.checkpoint.every = 0  # steps between checkpoints, besides; 0 is off; every evaluation saves, too
    c.checkpoint.keep = 2  # latest checkpoints kept; the best by validation mIoU is kept besides

    c.eval = ConfigDict()
    c.eval.every = 0  # steps between evaluations; 0 evaluates once an epoch
    c.eval.strict = False  # True: an image that does not read ends the evaluation, which else leaves it out and says so
    c.eval.batch_size = 8  # images of one size evaluated together
    c.eval.bucket = 0  # pixels; padded sizes differ by multiples of it; 0: the model's stride, more for large images
    c.eval.phase = "crop"  # padded sizes are congruent to data.crop modulo the bucket; "none": multiples of the bucket
    c.eval.fill = "auto"  # of padding: "gray" as outside of training's images, "mean" color, "reflect"; "auto" chooses
    c.eval.tile = "auto"  # sides of tiles, pixels, e.g. "512"; "none" sees images whole, "auto" cuts what does not fit
    c.eval.overlap = 0.25  # share of a tile that its neighbor has too, 0 to less than 1
    c.eval.blend = "gaussian"  # of tiles: "gaussian", "constant", or "center", which takes a pixel from one tile
    c.eval.tta = ""  # test-time augmentation: "flip", "d4" and scales, e.g. "flip,0.75,1.25"; "" is none
    c.eval.threshold = 0.5  # probability above which a pixel is of the class, for data of one class
    c.eval.metrics = ("confusion",)  # keys of jaxseg.metrics.METRICS; "confusion" is always among them
    c.eval.metric_options = ConfigDict()  # open: {metric: {argument: value}}, e.g. {"calibration": {"bins": 10}}

    c.eval.crf = ConfigDict()  # of `jaxseg eval --crf` and `predict --crf`; tune-crf's WORKDIR/crf.json goes before it
    c.eval.crf.iterations = 5  # of the mean field
    c.eval.crf.spatial_weight = 3.0  # of the kernel of positions, in units of the scores
    c.eval.crf.spatial_sigma = 3.0  # its width, pixels
    c.eval.crf.bilateral_weight = 4.0  # of the kernel of positions and colors, in units of the scores
    c.eval.crf.bilateral_sigma = 50.0  # its width in space, pixels
    c.eval.crf.color_sigma = 5.0  # its width in color, in units of 1/255
    c.eval.guided = ConfigDict()  # of `jaxseg eval --refine guided`, the guided filter
    c.eval.guided.radius = 8  # of its windows, pixels
    c.eval.guided.eps = 1e-3  # variance of a flat window, in units of the image from 0 to 1, squared
    c.lock()
    for key in OPEN:
        group, name = key.split(".")
        c[group][name].unlock()
    return c
