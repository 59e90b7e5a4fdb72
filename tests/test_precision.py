"""`dtype="auto"` takes the format that is faster, whatever a processor says of itself."""

import pytest
import torch

import esdcodec
from esdcodec import precision
from tests.conftest import make_tiny_codec

CPU = torch.device("cpu")


@pytest.fixture
def cost(monkeypatch):
    """Seconds that a measurement is to find."""
    found = {torch.float32: 1.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "seconds", lambda dtype: found[dtype])
    precision._faster_on_cpu.cache_clear()
    yield found
    precision._faster_on_cpu.cache_clear()


@pytest.mark.parametrize(
    ("bfloat16", "expected"),
    [(0.5, torch.bfloat16), (0.95, torch.float32), (1.5, torch.float32)],
    ids=["faster", "hardly faster", "slower"],
)
def test_a_cpu_is_measured(cost, bfloat16, expected):
    cost[torch.bfloat16] = bfloat16
    assert precision.fastest_dtype(CPU) == expected


def test_it_is_measured_once_for_each_number_of_threads(cost):
    cost[torch.bfloat16] = 0.5
    first = precision.fastest_dtype(CPU)
    cost[torch.bfloat16] = 2.0
    assert precision.fastest_dtype(CPU) == first
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert precision.fastest_dtype(CPU) == torch.float32
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_is_asked(monkeypatch, supported):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    expected = torch.bfloat16 if supported else torch.float32
    assert precision.fastest_dtype(torch.device("cuda")) == expected


def test_other_devices_stay_in_float32():
    assert precision.fastest_dtype(torch.device("mps")) == torch.float32


def test_a_real_measurement_is_a_time():
    assert all(precision.seconds(dtype) > 0 for dtype in (torch.float32, torch.bfloat16))


def test_load_takes_auto_and_its_default_is_float32(cost, tmp_path):
    make_tiny_codec().save_pretrained(tmp_path)
    cost[torch.bfloat16] = 0.5
    assert esdcodec.load(tmp_path, device="cpu", dtype="auto").dtype == torch.bfloat16
    assert esdcodec.load(tmp_path, device="cpu").dtype == torch.float32
