"""Evaluates a run: python eval.py --workdir runs/shapes [--split val] [--checkpoint best|latest|STEP]."""

from absl import flags

from jaxseg.cli import launch

WORKDIR = flags.DEFINE_string("workdir", None, "The folder that train.py wrote.")
SPLIT = flags.DEFINE_string("split", None, "The split to score; the config's eval_split by default.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by validation mIoU), latest, or a step.")
CRF = flags.DEFINE_bool("crf", False, "Short for --refine=crf.")
ROOT = flags.DEFINE_string("root", None, "Where the data is now, if it moved since training.")
OPTIONS = {
    "out": flags.DEFINE_string("out", None, "Where to write; WORKDIR/eval/SPLIT by default."),
    "metric_names": flags.DEFINE_list("metrics", None, "Of jaxseg.metrics.METRICS; by default the config's."),
    "calibrate": flags.DEFINE_string("calibrate", None, "temperature or vector: fit the probabilities to the split."),
    "refine": flags.DEFINE_enum("refine", None, ["crf", "guided"], "Mend the edges by the picture, then score."),
}


def main(_):
    from jaxseg import evaluation, load

    options = {name: flag.value for name, flag in OPTIONS.items()}
    options["refine"] = "crf" if CRF.value else options["refine"]
    trained = load(WORKDIR.value, CHECKPOINT.value)
    evaluation.evaluate(trained, *evaluation.find_dataset(trained, SPLIT.value, root=ROOT.value), **options)


if __name__ == "__main__":
    launch.run(main, required=["workdir"])
