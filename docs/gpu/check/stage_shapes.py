"""The README's first job on the GPU: configs/shapes_unet.py to its mIoU, images/s, seconds, utilisation."""
from common import *
from stage_loop import follow

work = f"/tmp/gpu_check_shapes_{time.monotonic_ns()}"
command = [sys.executable, "-X", "faulthandler", "train.py", "--config", "configs/shapes_unet.py", "--workdir", work, f"--config.train.compilation_cache={os.environ['JAX_COMPILATION_CACHE_DIR']}", "--config.log.tensorboard=False"]
if TINY:
    command += ["--config.train.epochs=0", "--config.train.steps=4", "--config.optim.warmup_steps=0", "--config.log.every=2"]
found = follow(command, work, dict(os.environ), 100, "shapes")
rows, before = found.pop("rows"), found.pop("before")
speeds = [r["images_per_s"] for r in rows if r["kind"] == "train"]
add(kind="shapes", miou=[round(r["miou"], 4) for r in rows if r["kind"] == "eval"], eval_s=[round(r["seconds"], 2) for r in rows if r["kind"] == "eval"],
    images_per_s=statistics.median(speeds[before + 1:]) if speeds[before + 1:] else None, steps=max([r["step"] for r in rows], default=0), **found)
