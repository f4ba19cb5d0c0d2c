"""Evaluates a run: python eval.py --workdir runs/shapes [--split val] [--checkpoint best|latest|STEP]."""

from absl import flags

from jaxseg import launch

WORKDIR = flags.DEFINE_string("workdir", None, "The folder that train.py wrote.")
SPLIT = flags.DEFINE_string("split", None, "The split to score; the config's eval_split by default.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by validation mIoU), latest, or a step.")
ROOT = flags.DEFINE_string("root", None, "Where the data is now, if it moved since training.")
OUT = flags.DEFINE_string("out", None, "Where to write; WORKDIR/eval/SPLIT by default.")


def main(_):
    from jaxseg.evaluate import evaluate_workdir

    evaluate_workdir(WORKDIR.value, SPLIT.value, CHECKPOINT.value, root=ROOT.value, out=OUT.value)


if __name__ == "__main__":
    launch.run(main, required=["workdir"])
