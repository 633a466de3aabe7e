"""What an engine depends on besides TensorRT: the board, its L4T, its GPU, its memory."""

import ctypes
import os
import re
import subprocess
from typing import Dict

MEMORY_SHARE = 0.4  # of what is available: the board's GPU shares memory with everything else
SMALLEST_WORKSPACE = 32 << 20
SPARSE_FROM = (8, 0)  # compute capability: Ampere was the first with 2:4 tensor cores
CUDART_NAMES = (
    "libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "libcudart.so.10.2",
    "/usr/local/cuda/lib64/libcudart.so",  # where ldconfig was not told of it
)


def read_text(path: str) -> str:
    """The file's text without trailing NULs and newlines; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""


def l4t_version(root: str = "/") -> str:
    """L4T release such as 36.4.3, or an empty string off a Jetson."""
    text = read_text(os.path.join(root, "etc/nv_tegra_release"))
    found = re.search(r"R(\d+)\D.*?REVISION:\s*([\d.]+)", text)
    if found:
        return "{}.{}".format(*found.groups())
    try:
        command = ["dpkg-query", "--show", "--showformat=${Version}", "nvidia-l4t-core"]
        out = subprocess.check_output(command, stderr=subprocess.DEVNULL)
        return out.decode("ascii", "replace").split("-")[0]
    except (OSError, subprocess.CalledProcessError):
        return ""


def available_bytes(root: str = "/") -> int:
    """MemAvailable of /proc/meminfo, or 0 where there is none."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", read_text(os.path.join(root, "proc/meminfo")))
    return int(found.group(1)) * 1024 if found else 0


def default_workspace(root: str = "/") -> int:
    """Bytes: a share of what is free, since a Jetson's GPU and CPU have one memory."""
    return max(SMALLEST_WORKSPACE, int(available_bytes(root) * MEMORY_SHARE))


def compute_capability() -> str:
    """Such as 8.7, asked of the CUDA runtime; empty where there is no GPU or no CUDA."""
    for name in CUDART_NAMES:
        try:
            cudart = ctypes.CDLL(name)
        except OSError:
            continue
        values = []
        for attribute in (75, 76):  # cudaDevAttrComputeCapabilityMajor, …Minor
            value = ctypes.c_int(0)
            if cudart.cudaDeviceGetAttribute(ctypes.byref(value), attribute, 0) != 0:
                return ""
            values.append(str(value.value))
        return ".".join(values)
    return ""


def has_sparse_kernels(capability: str) -> bool:
    """Whether a GPU of that compute capability has 2:4 tensor cores; True where unknown."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", capability))
    return not numbers or numbers >= SPARSE_FROM


def machine(root: str = "/") -> Dict[str, str]:
    """What an engine depends on besides TensorRT."""
    return {
        "device": read_text(os.path.join(root, "proc/device-tree/model")) or os.uname().machine,
        "compute_capability": compute_capability(),
        "l4t": l4t_version(root),
    }
