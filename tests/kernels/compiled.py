"""Compile every kernel for an H100, without a GPU, and print what it needs of one, as JSON.

In a process of its own: Triton decides when it is first imported whether it compiles or interprets.
"""

import json
import re
import subprocess
import tempfile

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from noisylearn.chips.execution.one_launch import MOST_UNITS
from noisylearn.kernels.on_gpu import noisy_product, programming, recurrent

H100 = GPUTarget("cuda", 90, 32)
POINTERS = [
    "x", "weight", "bias", "variance", "out", "scale", "drive", "start", "activities", "states", "written", "numbers",
]  # fmt: skip
FLOATS = "per_us", "largest", "gain", "g_min_us", "slow_size", "fresh"
TILE = dict(zip(("BLOCK_OUT", "BLOCK_IN"), programming.BLOCKS, strict=True))
KERNELS = {
    "noisy_product": (
        noisy_product._noisy_product,
        {"has_bias": True} | dict(zip(("BLOCK_ROWS", "BLOCK_OUT", "BLOCK_IN"), noisy_product.BLOCKS, strict=True)),
        {},
    ),
    "programming": (programming._program, {"shape": (3,)} | TILE, {}),
    "as_read": (programming._as_read, {"shape": (4 + 32 + 64 + 128, 32), "in_us": True} | TILE, {}),
    "recurrent": (
        recurrent._recurrent,
        {"BLOCK_ROWS": recurrent.ROWS, "BLOCK_UNITS": MOST_UNITS, "BLOCK_SOURCES": recurrent.SOURCES},
        recurrent.OPTIONS,
    ),
}


def kind(name: str) -> str:
    if name in POINTERS:
        return "*fp32"
    return "*i64" if name.endswith("key") or name == "keys" else "fp32" if name in FLOATS else "i32"


def needs(kernel: triton.JITFunction, constants: dict, options: dict) -> dict[str, int]:
    """Shared memory in bytes, registers of a thread, bytes that do not fit into registers."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else kind(name) for name in names}
    found = triton.compile(ASTSource(kernel, signature, constants), target=H100, options=options)
    with tempfile.NamedTemporaryFile(suffix=".ptx") as file:
        file.write(found.asm["ptx"].encode())
        file.flush()
        command = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    spilled = sum(map(int, re.findall(r"(\d+) bytes spill", told)))
    (registers,) = map(int, re.findall(r"Used (\d+) registers", told))
    return {"shared": found.metadata.shared, "registers": registers, "spilled": spilled}


if __name__ == "__main__":
    print(json.dumps({name: needs(*given) for name, given in KERNELS.items()}))
