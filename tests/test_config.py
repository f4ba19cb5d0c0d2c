"""The defaults, once more: one that moves changes every run that leaves it alone, so it moves in two places."""

import pytest

from jaxseg.config import default_config
from jaxseg.experiment.limits import flatten

DEFAULTS = {
    "seed": 0,
    # A data set that is made on the spot, so that a first run needs no file.
    "data.name": "shapes",
    "data.root": "",
    "data.train_split": "train",
    "data.eval_split": "val",
    "data.label_offset": 0,
    "data.label_ignore": (),
    "data.resize.factor": 1.0,
    "data.resize.short_side": 0,
    "data.resize.size": (),
    "data.balance": 0.0,
    "data.threads": 0,
    "data.canvas": (128, 128),
    "data.crop": (128, 128),
    "data.batch_size": 16,
    "data.workers": 0,  # threads: processes start too slowly for small sets
    # Nothing but the flip, which suits nearly any data: the rest would change what an unsuspecting run learns.
    "augment.scale": (1.0, 1.0),
    "augment.aspect": 1.0,
    "augment.flip": 0.5,
    "augment.flip_vertical": 0.0,
    "augment.rotate": 0.0,
    "augment.elastic": 0.0,
    "augment.elastic_grid": 4,
    "augment.brightness": 0.0,
    "augment.contrast": 0.0,
    "augment.saturation": 0.0,
    "augment.hue": 0.0,
    "augment.blur": 0.0,
    "augment.blur_sigma": (0.1, 2.0),  # SimCLR's
    "augment.noise": 0.0,
    # Whatever the architecture was published with, from random weights: nothing is fetched unasked.
    "model.name": "unet",
    "model.encoder": "",
    "model.encoder_weights": "",
    "model.weights": "",
    "model.replace_head": False,
    "model.output_stride": None,
    "model.dtype": "float32",
    "model.head_dtype": "",
    "loss.terms.cross_entropy": 1.0,
    "loss.heads.logits": 1.0,
    # AdamW as Loshchilov and Hutter have it, with a decay that short runs stand; poly as in DeepLab.
    "optim.name": "adamw",
    "optim.lr": 1e-3,
    "optim.encoder_lr_factor": 1.0,
    "optim.freeze": (),
    "optim.weight_decay": 1e-4,
    "optim.beta1": 0.9,
    "optim.beta2": 0.999,
    "optim.momentum": 0.9,
    "optim.nesterov": False,
    "optim.schedule": "poly",
    "optim.power": 0.9,
    # As Detectron has them, roughly: two drops to a tenth.
    "optim.drops": (0.6, 0.8),
    "optim.drop_factor": 0.1,
    "optim.warmup_steps": 0,
    "optim.clip_norm": 0.0,
    "optim.accumulate": 1,
    "optim.ema": 0.0,
    # Neither length is chosen for anyone: a run must say one.
    "train.steps": 0,
    "train.epochs": 0,
    "train.batch_norm": "global",
    "train.devices": 0,
    "train.fsdp": 1,
    "train.remat": "",
    "train.compilation_cache": "~/.cache/jaxseg/compiled",
    "train.xla": "",
    "train.autotune_cache": "",
    "log.every": 10,
    "log.grad_norm": False,
    "log.tensorboard": True,
    "log.images": 6,
    "checkpoint.every": 0,
    "checkpoint.keep": 2,
    "checkpoint.minutes": 10.0,
    "eval.every": 0,
    "eval.batch_size": 8,
    "eval.bucket": 0,
    "eval.phase": "crop",
    "eval.strict": False,
    "eval.fill": "auto",
    "eval.tile": "auto",
    "eval.overlap": 0.25,
    "eval.blend": "gaussian",
    "eval.tta": "",
    "eval.threshold": 0.5,
    "eval.metrics": ("confusion",),
    # In the ranges that DeepLabV2 searched (arXiv:1606.00915, section 4.1).
    "eval.crf.iterations": 5,
    "eval.crf.spatial_weight": 3.0,
    "eval.crf.spatial_sigma": 3.0,
    "eval.crf.bilateral_weight": 4.0,
    "eval.crf.bilateral_sigma": 50.0,
    "eval.crf.color_sigma": 5.0,
    "eval.guided.radius": 8,
    "eval.guided.eps": 1e-3,
}


def test_defaults_are_those_that_runs_rely_on():
    assert flatten(default_config()) == DEFAULTS


def test_settings_are_locked_but_for_the_open_mappings():
    config = default_config()
    options = (config.data.options, config.model.options, config.model.encoder_options, config.eval.metric_options)
    for group in (*options, config.loss.terms, config.loss.heads, config.loss.options):
        group.something = 1.0
    for group in (config, config.data, config.augment, config.optim, config.eval.crf):
        with pytest.raises(AttributeError, match="something"):
            group.something = 1.0
