"""A corpus becomes codes on a Ray cluster as on one machine, whatever dies meanwhile."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import torch

from esdcodec.cli.main import main
from esdcodec.infer.tokenise import TokeniseSettings, ray_address, ray_engine, tokenise, verify
from esdcodec.processes import SIGNALS, stop
from tests.conftest import PATIENCE, write_speech
from tests.infer.test_tokenise import contents, corpus  # noqa: F401


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'esdcodec[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def settings(model, monkeypatch) -> TokeniseSettings:
    monkeypatch.setattr(ray_engine, "TIDY", PATIENCE)
    return TokeniseSettings(model=model, device="cpu")


@pytest.fixture(scope="module")
def undisturbed(model, corpus, tmp_path_factory) -> dict[str, bytes]:  # noqa: F811
    """What one machine writes."""
    folder, before = tmp_path_factory.mktemp("local"), torch.get_num_threads()
    tokenise([corpus], folder, TokeniseSettings(model=model, device="cpu"), threads=1)
    torch.set_num_threads(before)
    return contents(folder)


def actors() -> list[int]:
    """Processes of this machine that are actors."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"TokeniseActor" in file.read_bytes():
                found.append(int(file.parent.name))
        except OSError:
            pass  # it has just ended
    return found


def wait_until(condition) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_a_unit_that_kills_its_process_fails_by_name_and_the_rest_is_done(
    cluster, settings, corpus, undisturbed, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(ray_engine, "TRIES", 2)
    ray = {"engine": "ray", "ray_address": cluster.address, "jobs": 1}
    deadly = "pipe:kill -KILL $PPID; cat /nowhere/deadly.tar"
    summary = tokenise([deadly, corpus], tmp_path, settings, **ray)
    assert (summary.units, list(summary.failed)) == (3, ["nowhere/deadly"])
    assert "died, 2 times" in summary.failed["nowhere/deadly"]
    assert not list(tmp_path.rglob(".*")), "what it had begun to write is deleted"
    found = {Path(name).name: content for name, content in contents(tmp_path).items() if "below" not in name}
    assert found.items() >= {n: c for n, c in undisturbed.items() if "below" not in n}.items()


@pytest.mark.slow
def test_a_run_that_is_stopped_leaves_nothing_behind(cluster, settings, corpus, tmp_path):  # noqa: F811
    slow = f"pipe:touch {tmp_path}/begun; sleep 5; cat {tmp_path}/missing.tar"

    def interrupt():
        wait_until((tmp_path / "begun").exists)
        os.kill(os.getpid(), signal.SIGINT)

    ray = {"engine": "ray", "ray_address": cluster.address, "jobs": 1}
    handlers = {number: signal.signal(number, stop) for number in SIGNALS}  # as the command does
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(SystemExit) as stopped:
            tokenise([str(corpus / "shard-000000.tar"), slow], tmp_path / "out", settings, **ray)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert stopped.value.code == 128 + signal.SIGINT
    wait_until(lambda: not actors())
    assert not list((tmp_path / "out").rglob(".*"))
    assert all(not problems for _, problems in verify(tmp_path / "out"))


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_writes_what_one_machine_writes_and_a_repeat_continues(
    cluster, settings, corpus, undisturbed, tmp_path  # noqa: F811
):  # fmt: skip
    nodes = list(cluster.worker_nodes)

    def kill_a_node(*result):
        if len(cluster.worker_nodes) == len(nodes):
            cluster.remove_node(nodes[0], allow_graceful=False)

    ray = {"engine": "ray", "ray_address": cluster.address}
    summary = tokenise([corpus], tmp_path, settings, **ray, report=kill_a_node)
    assert (summary.units, summary.complete) == (3, True)
    assert contents(tmp_path) == undisturbed
    (tmp_path / "shard-000001.manifest.json").unlink()
    again = tokenise([corpus], tmp_path, settings, **ray)
    assert (again.units, again.finished) == (1, 2)
    assert contents(tmp_path) == undisturbed


@pytest.mark.parametrize("address", ["nonsense", "ray://head:10001", "head:port"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="no address of a Ray cluster"):
        ray_address.check_answers(address)


class TestCommand:
    @pytest.fixture
    def command(self, model, tmp_path) -> list[str]:
        write_speech(tmp_path / "speech/a.wav", 0.2)
        return ["tokenise", str(tmp_path / "speech"), "-o", str(tmp_path / "out"), "--model", model]

    @pytest.mark.parametrize("listens", [False, True], ids=["nobody is there", "who is there says nothing"])
    def test_an_address_where_no_cluster_answers_is_named_soon(self, command, listens, monkeypatch, capsys):
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'esdcodec[ray]'")
        monkeypatch.setattr(ray_address, "ANSWER", 0.2)
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            if listens:
                server.listen()
            address = "{}:{}".format(*server.getsockname())
            assert main([*command, "--engine", "ray", "--ray-address", address]) == 2
        assert f"no Ray cluster answers at {address}" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--ray-address", "auto"], "for --engine ray"),
            (["--jobs", "0"], "at least 1"),
            (["--threads", "0"], "at least"),
        ],
    )
    def test_options_that_cannot_be_are_refused(self, command, options, words, capsys):
        assert main([*command, *options]) == 2
        assert words in capsys.readouterr().err
