import os, sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).resolve().parent))
import networks


def get_config():
    c = networks.config("unet_r34")
    c.data.update(name="folder", root=os.environ["LOOP_ROOT"])
    c.train.compilation_cache = os.environ["LOOP_CACHE"]
    c.log.update(every=10, tensorboard=False, images=0)
    c.checkpoint.every = 10**6
    c.eval.every = 10**6
    return c
