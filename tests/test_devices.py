"""Processes share the GPUs of a machine: worker i has GPU i modulo their number."""

import pytest
import torch

from esdcodec.cli.file_task import load_codec
from esdcodec.cli.options import CodecSettings
from esdcodec.codec import device_of_worker
from esdcodec.evaluation.evaluate import Evaluator
from esdcodec.evaluation.settings import EvaluationSettings
from esdcodec.infer.tokenise import TokeniseSettings
from esdcodec.infer.tokenise.worker import Worker
from esdcodec.processes import in_processes, pool


class Loaded(Exception):
    """Instead of a codec on a GPU."""


def pretend_gpus(count: int) -> None:
    torch.cuda.is_available = lambda: count > 0
    torch.cuda.device_count = lambda: count


def device_here(job: str | None) -> str:
    return str(device_of_worker(job))


def devices(jobs: list[str | None], processes: int, gpus: int) -> list[str]:
    return sorted(str(device) for _, device in in_processes(processes, device_here, jobs, pretend_gpus, gpus))


def test_each_worker_has_its_own_device_and_what_is_asked_for_by_number_is_given():
    assert set(devices([None, "cuda"] * 4, 2, 2)) <= {"cuda:0", "cuda:1"}
    assert devices(["cuda:1", "cpu"], 2, 2) == ["cpu", "cuda:1"]
    assert str(device_of_worker("cuda")) == "cuda", "a process of its own has what `load` gives it"


@pytest.mark.parametrize(("number", "device"), [(0, "cuda:0"), (2, "cuda:2"), (4, "cuda:1")])
def test_whatever_loads_a_codec_in_a_worker_shares_the_devices(number, device, monkeypatch, tmp_path):
    loaded = []

    def load(model, *, device, **options):
        loaded.append(str(device))
        raise Loaded

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(pool, "_number", number)
    for module in ("codec", "evaluation.evaluate", "infer.tokenise.worker"):
        monkeypatch.setattr(f"esdcodec.{module}.load", load)
    users = (
        lambda: load_codec(CodecSettings("model")),
        lambda: Evaluator(EvaluationSettings(folder=tmp_path, metrics=(), model="model", device="cuda")),
        lambda: Worker(TokeniseSettings("model"), tmp_path, threads=None).start(),
    )
    for user in users:
        with pytest.raises(Loaded):
            user()
    assert loaded == [device] * 3
