"""The project's own tests of operations, losses, metrics and contracts, on the GPU; float32 products as exact as on the CPU."""
import re
from common import *

files = ["tests/ops", "tests/contracts/test_losses.py", "tests/contracts/test_metrics.py", "tests/losses", "tests/metrics", "tests/training/test_step.py", "tests/contracts/test_models.py", "tests/contracts/test_encoders.py"]
if TINY:
    files = ["tests/ops/test_conv.py"]
env = {**os.environ, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
env["XLA_FLAGS"] = env.get("XLA_FLAGS", "") + ("" if TINY else " --xla_gpu_autotune_level=0")
log = WORK / "pytest.txt"
with log.open("w") as file:
    try:
        subprocess.run([sys.executable, "-m", "pytest", "-q", "--tb=line", "-n", "2" if TINY else "12", "-p", "no:cacheprovider", "--maxfail=60", *([] if TINY else ["--timeout=90"]), *files], env=env, stdout=file, stderr=subprocess.STDOUT, timeout=max(left() - 3, 5))
    except subprocess.TimeoutExpired:
        file.write("\nTIME IS UP\n")
text = log.read_text()
add(kind="pytest", summary=text.strip().splitlines()[-1][-200:], failed=re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.M)[:60], so_far=len(re.findall(r"\.", text)))
