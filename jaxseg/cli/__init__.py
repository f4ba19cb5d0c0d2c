"""The command line: one file per command, and one line here.

A command is a module with `arguments(parser)`, which adds its flags, and `main(args)`, which does the work and returns
the exit status. The module is imported only when its command is asked for.
"""

# name -> (module of jaxseg.cli, what it does)
COMMANDS = {
    "train": ("train", "train a model of a recipe or config file, in a folder"),
    "eval": ("eval", "score a trained model: table, scores.json, figures"),
    "predict": ("predict", "label images with a trained model: label maps and overlays"),
    "serve": ("serve", "a trained model behind HTTP: images in, label maps out"),
    "demo": ("demo", "a local page: drop an image, see what a trained model says"),
    "bundle": ("bundle", "write a trained model as a folder, to keep and share"),
    "verify": ("verify", "whether a bundle or a file says here what it said elsewhere"),
    "push": ("push", "send a bundle to the Hugging Face hub"),
    "pull": ("pull", "fetch a bundle from the Hugging Face hub into a folder"),
    "export": ("export", "write a model as ONNX, StableHLO, LiteRT or a web page"),
    "convert": ("convert", "turn other libraries' weights into a bundle of jaxseg"),
    "data": ("data", "what a data set holds and what is wrong with it; statistics"),
    "list": ("list", "names of configs, models, encoders, losses, ..."),
    "show": ("show", "parameters, FLOPs, strides and memory of a model, by part"),
    "errors": ("errors", "one page of a trained model's errors, with images"),
    "attention": ("attention", "attention maps of a trained model"),
    "receptive-field": ("receptive_field", "theoretical and effective receptive fields of features"),
    "tune-crf": ("tune_crf", "search the CRF's settings that score best on a split"),
    "losses": ("losses", "plot each loss's surface and gradient on an example"),
    "league": ("league", "train every architecture, small, on shapes; a table"),
    "ablation": ("ablation", "train a small U-Net with every loss by itself; a table"),
    "refinement": ("refinement", "what the CRF and the guided filter gain on random errors"),
    "export-table": ("export_table", "export every architecture, small; a table"),
    "bench": ("bench", "init, compile, forward and train-step time of a model"),
    "environment": ("environment", "versions and devices, for a report of an error"),
    "completion": ("completion", "a script for bash, zsh or fish to complete with Tab"),
}
