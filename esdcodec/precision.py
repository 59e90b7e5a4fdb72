"""The dtype in which a codec runs fastest on this machine."""

import time
from functools import cache

import torch
from torch import nn

WORTH = 1.15  # bfloat16 costs a little accuracy: it has to be faster by this factor


def fastest_dtype(device: torch.device) -> torch.dtype:
    """`torch.bfloat16` where convolutions and products are faster in it than in float32, else `torch.float32`.

    CUDA devices that report bfloat16 use it. CPUs are measured, once in a process for each number of threads, which
    takes a few hundredths of a second: of two CPUs that report it, one was 1.5 times slower in it.
    """
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if supported else torch.float32
    if device.type != "cpu":
        return torch.float32
    return _faster_on_cpu(torch.get_num_threads())


@cache
def _faster_on_cpu(n_threads: int) -> torch.dtype:
    slow, fast = seconds(torch.float32), seconds(torch.bfloat16)
    return torch.bfloat16 if slow > WORTH * fast else torch.float32


@torch.inference_mode()
def seconds(dtype: torch.dtype) -> float:
    """Time of layers as the codec has them: a wide product, a convolution of few channels over many samples."""
    generator = torch.Generator().manual_seed(0)
    product, convolution = nn.Linear(512, 1536).to(dtype), nn.Conv1d(64, 64, 7, padding=3).to(dtype)
    frames = torch.randn(256, 512, generator=generator).to(dtype)
    samples = torch.randn(1, 64, 12000, generator=generator).to(dtype)
    spent = []
    for _ in range(4):  # the first prepares
        started = time.perf_counter()
        product(frames)
        convolution(samples)
        spent.append(time.perf_counter() - started)
    return min(spent[1:])
