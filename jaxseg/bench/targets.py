"""Descriptions of GPUs for XLA's compiler, which a program can be compiled for where there is none."""

from pathlib import Path

from jaxseg.checks import UserError, listing

# What the driver says of a card (CUDA's device properties), under the names of XLA's GpuDeviceInfoProto.
H100_SXM = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 48 * 2**10,
    "shared_memory_per_block_optin": 227 * 2**10,
    "shared_memory_per_core": 228 * 2**10,
    "threads_per_core_limit": 2048,
    "core_count": 132,
    "fpus_per_core": 128,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 2**16 - 1,
    "block_dim_limit_z": 2**16 - 1,
    "registers_per_core_limit": 2**16,
    "registers_per_block_limit": 2**16,
    "memory_bandwidth": 3_352_320_000_000,  # bytes a second
    "l2_cache_size": 50 * 2**20,
    "clock_rate_ghz": 1.98,
    "device_memory_size": 84_942_979_072,
}
# name -> (properties, compute capability, what the driver calls the card)
CARDS = {"h100": (H100_SXM, (9, 0), "NVIDIA H100 80GB HBM3")}
CUDNN = (9, 10, 0)  # the oldest version that the programs may be run with


def find_target(name: str | Path) -> str:
    """Returns the description of a GPU, the text of XLA's GpuTargetConfigProto.

    Args:
      name: of a file that holds it, or a key of `CARDS`.

    >>> print(find_target("h100").splitlines()[-1])
    device_description_str: "NVIDIA H100 80GB HBM3"
    """
    if str(name) in CARDS:
        return _text(str(name))
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"There is no description of a GPU in {name}. Give a file with the text of XLA's GpuTargetConfigProto, or"
            f" one of {listing(list(CARDS))}."
        )
    return path.read_text()


def _text(name: str) -> str:
    properties, (major, minor), title = CARDS[name]
    lines = [f"  {key}: {value}" for key, value in properties.items()]
    cudnn = " ".join(f"{part}: {n}" for part, n in zip(("major", "minor", "patch"), CUDNN, strict=True))
    return "\n".join(
        [
            "gpu_device_info {",
            *lines,
            f"  cuda_compute_capability {{ major: {major} minor: {minor} }}",
            "}",
            'platform_name: "CUDA"',
            f"dnn_version_info {{ {cudnn} }}",
            f'device_description_str: "{title}"',
        ]
    )
