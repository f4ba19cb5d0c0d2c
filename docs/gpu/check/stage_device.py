from common import *
import jax
gpu = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm", "--format=csv,noheader"], capture_output=True, text=True) if not TINY else None
try:
    import torch
    torch_version = torch.__version__
except ImportError:
    torch_version = None
import flax, optax
add(kind="device", name=jax.devices()[0].device_kind, smi=gpu.stdout.strip() if gpu else "", jax=jax.__version__, flax=flax.__version__, optax=optax.__version__, torch=torch_version, python=sys.version.split()[0], cpus=os.cpu_count())
