"""A corpus of speech becomes shards of codes."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import soundfile
import torch

from esdcodec import gain_for
from esdcodec.codec import load
from esdcodec.dataset.make_shards import Utterance, write_shards
from esdcodec.dataset.tokens import Tokens
from esdcodec.infer.tokenise import TokeniseSettings, tokenise, verify, worker
from esdcodec.infer.tokenise.item import SpeechItem
from esdcodec.infer.tokenise.read import Recording, windows_ahead
from esdcodec.infer.tokenise.run import part_of_environment
from esdcodec.infer.tokenise.sources import find_units
from esdcodec.infer.tokenise.work import encode_window
from esdcodec.processes import WorkerDied
from esdcodec.whole_file import HOST
from tests import corpora
from tests.conftest import PATIENCE, speech, write_speech

SECONDS = (0.3, 0.5, 0.3, 0.7, 0.5, 0.31)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Three shards of two utterances in a folder, one of them in a folder below."""
    folder = tmp_path_factory.mktemp("corpus")
    utterances = (
        Utterance(f"u{i}", speech(seconds, seed=i)[0, 0].numpy(), 24000, f"speaker{i % 2}", "en", f"text {i}")
        for i, seconds in enumerate(SECONDS)
    )
    shards = write_shards(utterances, folder, per_shard=2)
    (folder / "below").mkdir()
    shards[2].rename(folder / "below" / shards[0].name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def recordings(corpus: Path) -> dict[str, torch.Tensor]:
    found = {}
    for shard in sorted(corpus.rglob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".flac"):
                    audio, _ = soundfile.read(io.BytesIO(tar.extractfile(member).read()), dtype="float32")
                    found[member.name.removesuffix(".flac")] = torch.from_numpy(audio)
    return found


def items(shard: Path) -> dict[str, tuple[np.ndarray, dict]]:
    with tarfile.open(shard) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    keys = [name.removesuffix(".json") for name in members if name.endswith(".json")]
    return {key: (np.load(io.BytesIO(members[f"{key}.codes.npy"])), json.loads(members[f"{key}.json"])) for key in keys}


def settings_of(model: str, **more) -> TokeniseSettings:
    return TokeniseSettings(**{"model": model, "device": "cpu", **more})


def test_codes_are_those_of_each_utterance_alone(model, corpus, tmp_path):
    summary = tokenise([corpus], tmp_path, settings_of(model, n_quantizers=2))
    codec = load(model, device="cpu")
    assert (summary.units, summary.utterances, summary.complete) == (3, 6, True)
    found = {
        key: item
        for name in ("shard-000000", "shard-000001", "below/shard-000000")
        for key, item in items(tmp_path / f"{name}.tar").items()
    }
    assert list(found) == [f"u{i}" for i in range(6)]
    for i, audio in enumerate(recordings(corpus)[key] for key in found):
        codes, metadata = found[f"u{i}"]
        gain = gain_for(audio, 24000)
        assert codes.dtype == np.uint16
        assert np.mean(codes == codec.encode(audio, n_quantizers=2, gain_db=gain)[0].numpy()) > 0.99  # near ties
        assert (metadata["text"], metadata["speaker"], metadata["gain_db"]) == (f"text {i}", f"speaker{i % 2}", gain)
        assert (metadata["frames"], metadata["fingerprint"]) == (codes.shape[1], codec.fingerprint.hex())


def test_what_is_written_depends_on_shards_and_settings_alone(model, corpus, tmp_path):
    whole = settings_of(model)
    tokenise([corpus], tmp_path / "one", whole)
    tokenise([corpus], tmp_path / "parts", whole, part=(1, 2))
    tokenise([corpus], tmp_path / "parts", whole, part=(0, 2))
    assert contents(tmp_path / "one") == contents(tmp_path / "parts")


def test_what_is_finished_is_not_done_again_unless_the_settings_differ(model, corpus, tmp_path):
    tokenise([corpus], tmp_path, settings_of(model))
    (tmp_path / "shard-000001.manifest.json").unlink()
    again = tokenise([corpus], tmp_path, settings_of(model))
    assert (again.units, again.finished) == (1, 2)
    assert tokenise([corpus], tmp_path, settings_of(model, n_quantizers=1)).units == 3


def test_a_long_recording_is_coded_in_pieces_like_a_short_one(model, corpus, tmp_path):
    tokenise([corpus], tmp_path / "whole", settings_of(model))
    tokenise([corpus], tmp_path / "pieces", settings_of(model, long_seconds=0.4))
    for shard in (tmp_path / "whole").rglob("*.tar"):
        pieces = items(tmp_path / "pieces" / shard.relative_to(tmp_path / "whole"))
        for key, (codes, metadata) in items(shard).items():
            assert pieces[key][1] == metadata
            assert np.mean(pieces[key][0] == codes) > 0.98  # near ties


class TestSources:
    def test_a_folder_of_audio_is_cut_into_groups(self, model, tmp_path):
        for name in ("a.wav", "b/a.wav", "b/c.flac"):
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / "in" / name, speech(0.2)[0, 0].numpy(), 16000)
        (tmp_path / "in/b/c.txt").write_text("hello")
        (tmp_path / "in/b/d.txt").write_text("of no recording")
        summary = tokenise([tmp_path / "in"], tmp_path / "out", settings_of(model, group_size=2))
        assert [line.split(" (")[0] for line in summary.left_out] == ["extension .txt: 1"]
        first, second = (items(tmp_path / f"out/in-{i:06d}.tar") for i in range(2))
        assert (list(first), list(second)) == (["a", "b/a"], ["b/c"])
        assert second["b/c"][1]["text"] == "hello"

    def test_equal_names_keep_the_folders_that_tell_them_apart(self, corpus):
        names = [unit.name for unit in find_units([corpus], 10).units]
        assert sorted(names) == ["below/shard-000000", "shard-000000", "shard-000001"]

    def test_commands_and_addresses_have_names(self):
        sources = ["pipe:cat /a/b/one.tar", "https://host.example/c/two.tar.gz?token=1"]
        assert [unit.name for unit in find_units(sources, 10).units] == ["a/b/one", "host.example/c/two"]

    def test_what_was_written_into_a_folder_that_is_read_is_no_source(self, corpus, tmp_path):
        folder = shutil.copytree(corpus, tmp_path / "in")
        first = find_units([folder], 10, folder / "out")
        shutil.copytree(corpus, folder / "out")
        for source in (folder, f"{folder}/**/*.tar"):
            again = find_units([source], 10, folder / "out")
            assert {unit.name for unit in again.units} == {unit.name for unit in first.units}
            assert again.left_out == first.left_out
        write_speech(tmp_path / "speech/a.wav", 0.1)
        shutil.copytree(corpus, tmp_path / "speech/out")
        (unit,) = find_units([tmp_path / "speech"], 10, tmp_path / "speech/out").units
        assert unit.shard is None

    @pytest.mark.parametrize("source", ["", "shard-000000.tar", "*.tar"])
    def test_sources_are_not_written_over(self, model, corpus, tmp_path, source):
        folder = shutil.copytree(corpus, tmp_path / "in")
        with pytest.raises(ValueError, match="where the sources are: write into a folder of its own"):
            tokenise([folder / source], folder, settings_of(model))
        assert contents(folder) == contents(corpus)
        assert len(find_units([folder], 10, tmp_path).units) == 3  # above them is no danger

    def test_a_recording_is_no_list_of_shards(self, tmp_path):
        with pytest.raises(ValueError, match="neither a tar nor a list"):
            find_units([write_speech(tmp_path / "a.wav", 0.1)], 10)

    def test_nothing_to_do_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nothing to tokenise"):
            find_units([tmp_path], 10)


def test_what_cannot_be_coded_is_counted_and_named(model, tmp_path):
    members = {"good.wav": None, "good.json": b"{}", "text.json": b"{}", "bad.mp3": b"no audio", "worse.json": b"[[["}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in members.items():
            if content is None:
                audio = io.BytesIO()
                soundfile.write(audio, speech(0.2)[0, 0].numpy(), 24000, format="WAV")
                content = audio.getvalue()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    summary = tokenise([tmp_path / "x.tar"], tmp_path / "out", settings_of(model))
    assert (summary.utterances, summary.complete) == (1, False)
    assert summary.skipped == {"no audio member": 2, "audio cannot be read": 1}
    told = json.loads((tmp_path / "out/x.manifest.json").read_text())
    ((_, reason),) = [each for each in told["skipped"] if each[0] == "bad"]
    assert reason.startswith("audio cannot be read: ")
    again = tokenise([tmp_path / "x.tar"], tmp_path / "out", settings_of(model))
    assert (again.finished, again.complete, again.skipped) == (1, False, summary.skipped)


def test_what_is_skipped_is_named_in_the_order_of_the_shard_however_far_is_read_ahead(model, tmp_path):
    members = {}
    for i in range(6):
        members |= {f"bad{i}.wav": b"no audio", f"none{i}.json": b"{}", f"half{i}.wav": b"", f"half{i}.json": b"["}
    shard = corpora.add(tmp_path / "x.tar", members)
    for readers in (1, 3):
        tokenise([shard], tmp_path / str(readers), settings_of(model, readers=readers, window=4))
    keys = [key for key, _ in json.loads((tmp_path / "1/x.manifest.json").read_text())["skipped"]]
    assert keys == [f"{name}{i}" for i in range(6) for name in ("bad", "none", "half")]
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_the_next_window_is_read_while_one_is_in_the_network(model):
    read = [Event() for _ in range(3)]

    def recordings():
        for i, event in enumerate(read):
            event.set()
            yield Recording(SpeechItem(str(i), b""), 1.0, 0.0, None)

    windows = windows_ahead(recordings(), settings_of(model, window=1))
    assert [each.utterance.key for each in next(windows)] == ["0"]
    assert read[1].wait(PATIENCE)
    assert not read[2].is_set()
    assert [each.utterance.key for window in windows for each in window] == ["1", "2"]


@pytest.mark.parametrize(("batch_seconds", "largest"), [(None, 80), (1.0, 5), (60.0, 90)])
def test_a_batch_holds_no_more_seconds_than_its_budget(model, batch_seconds, largest):
    codec, sizes = load(model, device="cpu"), []
    original = codec.encode
    codec.encode = lambda batch, **more: sizes.append(len(batch)) or original(batch, **more)
    waveforms = [speech(0.2, seed=i % 3)[0, 0].numpy() for i in range(90)]
    window = [Recording(SpeechItem(str(i), b""), 0.2, 0.0, waveform) for i, waveform in enumerate(waveforms)]
    codes = encode_window(codec, window, 1, settings_of(model, batch_seconds=batch_seconds))
    assert (max(sizes), sum(sizes)) == (largest, 90)
    alone = original(torch.from_numpy(waveforms[4])[None, None], n_quantizers=1)[0].numpy()
    assert np.mean(codes[4] == alone) > 0.99  # near ties


def test_utterances_of_one_key_in_a_shard_are_numbered_and_read_back(model, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for key in ("u", "v", "u"):
            content = corpora.audio(speech(0.2)[0, 0].numpy())
            member = tarfile.TarInfo(f"{key}.wav")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    tokenise([tmp_path / "x.tar"], tmp_path / "out", settings_of(model))
    assert [item["key"] for item in Tokens(tmp_path / "out")] == ["u", "v", "u-2"]


def test_a_shard_that_cannot_be_had_fails_alone_and_is_tried_again(model, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("esdcodec.dataset.tar_stream.WAITS", (0.0,))
    sources = [f"pipe:cat {tmp_path}/missing.tar", str(corpus / "shard-000000.tar")]
    summary = tokenise(sources, tmp_path / "out", settings_of(model))
    assert (summary.units, len(summary.failed), summary.complete) == (1, 1, False)
    assert len(tokenise(sources, tmp_path / "out", settings_of(model)).failed) == 1


def test_of_a_shard_that_was_cut_what_is_there_is_coded_and_the_rest_is_named(model, corpus, tmp_path):
    content = (corpus / "shard-000000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: len(content) * 3 // 4])
    summary = tokenise([tmp_path / "cut.tar"], tmp_path / "out", settings_of(model))
    assert (summary.units, summary.complete) == (1, False)
    assert any("to its end" in reason for reason in summary.skipped)
    assert items(tmp_path / "out/cut.tar")


class TestVerify:
    def test_finds_what_was_changed(self, model, corpus, tmp_path):
        tokenise([corpus], tmp_path, settings_of(model))
        assert [problems for _, problems in verify(tmp_path)] == [[], [], []]
        shard = tmp_path / "shard-000000.tar"
        content = bytearray(shard.read_bytes())
        content[700] ^= 1
        shard.write_bytes(content)
        (tmp_path / "shard-000001.manifest.json").unlink()
        bad = {path.name for path, problems in verify(tmp_path) if problems}
        assert bad == {"shard-000000.manifest.json", "shard-000001.tar"}


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, (0, 1)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "3"}, (2, 4)),
        ({f"SLURM_ARRAY_TASK_{n}": v for n, v in (("ID", "6"), ("COUNT", "4"), ("MIN", "0"), ("STEP", "2"))}, (3, 4)),
        ({"RANK": "1", "WORLD_SIZE": "8"}, (1, 8)),
        ({"JOB_COMPLETION_INDEX": "7", "JOB_COMPLETIONS": "9"}, (7, 9)),
    ],
)
def test_a_launcher_says_which_part(environment, part):
    assert part_of_environment(environment) == part


@pytest.fixture
def one_thread():
    """As a process of several has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("format", "jobs"), [("tar", 2), ("parquet", 1), ("packed", 1)])
def test_killed_anywhere_and_repeated_it_ends_with_the_same_bytes(model, corpus, tmp_path, format, jobs):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    settings = settings_of(model, format=format)
    tokenise([corpus], tmp_path / "undisturbed", settings)
    undisturbed = contents(tmp_path / "undisturbed")
    script = (
        "import sys; from esdcodec.infer.tokenise import *\n"
        "if __name__ == '__main__':\n"
        "    s = TokeniseSettings(model=sys.argv[1], device='cpu', format=sys.argv[4])\n"
        f"    tokenise([sys.argv[2]], sys.argv[3], s, jobs={jobs}, threads=1)\n"
    )
    (tmp_path / "run.py").write_text(script)
    arguments = [sys.executable, str(tmp_path / "run.py"), model, str(corpus), str(tmp_path / "killed"), format]
    for name in (".*.part", "*.manifest.json")[:jobs]:  # while a shard is written; between two, or anywhere
        run = subprocess.Popen(arguments, start_new_session=True)
        while run.poll() is None and not list((tmp_path / "killed").rglob(name)):
            time.sleep(0.002)
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    tokenise([corpus], tmp_path / "killed", settings)
    assert contents(tmp_path / "killed") == undisturbed


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_one_process_that_is_killed_amid_a_shard_changes_no_byte(model, corpus, tmp_path):
    once = f"test -e {tmp_path}/once || {{ touch {tmp_path}/once; kill -KILL $PPID; }}"
    sources = [f"pipe:cat {corpus}/shard-000000.tar; {once}"]
    for name, jobs in (("killed", 2), ("undisturbed", 1)):
        assert tokenise(sources, tmp_path / name, settings_of(model), jobs=jobs, threads=1).complete
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def test_what_a_process_that_is_killed_each_time_had_begun_is_deleted(model, corpus, tmp_path, monkeypatch):
    def killed(jobs, work, units, *_):
        for unit in units:
            (tmp_path / f".{unit.name}.tar.{HOST}.{0:016x}.part").touch()
            yield unit, WorkerDied("killed")

    monkeypatch.setattr(worker, "in_processes", killed)
    summary = tokenise([corpus / "shard-000000.tar"], tmp_path, settings_of(model), jobs=2)
    assert summary.failed == {"shard-000000": "killed"}
    assert not list(tmp_path.iterdir())
