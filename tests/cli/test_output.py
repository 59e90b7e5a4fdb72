"""Where results go: the format that a name says, pipes and devices as they are, and one file's failure is its own."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from esdcodec import pipes, whole_file
from esdcodec.cli import many_files
from esdcodec.cli.encode import Encode
from esdcodec.cli.main import main
from esdcodec.cli.options import AUDIO_FORMATS, CodecSettings, FileSettings
from esdcodec.infer.files import CodedFile
from esdcodec.infer.sinks import FORMATS
from tests.conftest import write_speech

ESDCODEC = [sys.executable, "-m", "esdcodec.cli"]
RATE = 44100


def write(file: Path, seconds: float = 0.3) -> Path:
    return write_speech(file, seconds, rate=RATE)


@pytest.fixture(scope="module")
def coded(model, tmp_path_factory):
    """A folder with `a.wav` and its codes `a.esd`."""
    folder = tmp_path_factory.mktemp("coded")
    assert main(["encode", str(write(folder / "a.wav")), "--model", model, "--device", "cpu"]) == 0
    return folder


@pytest.fixture
def run(model, monkeypatch, tmp_path):
    """Run a command within `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return lambda command, *args: main([command, *map(str, args), "--model", model, "--device", "cpu"])


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class TestFormats:
    @pytest.mark.parametrize("format", AUDIO_FORMATS)
    def test_the_name_or_the_option_chooses_the_format(self, run, coded, tmp_path, format):
        assert run("decode", coded / "a.esd", "-o", f"named.{format}") == 0
        assert run("decode", coded / "a.esd", "-o", "folder/", "--format", format) == 0
        assert names(tmp_path) == {f"named.{format}", "folder", f"folder/a.{format}"}
        for file in (f"named.{format}", f"folder/a.{format}"):
            info = soundfile.info(file)
            assert (info.format, info.subtype) == (FORMATS[format].container, FORMATS[format].subtype)
            assert info.samplerate == (48000 if format == "opus" else RATE)
            assert info.frames == 0.3 * info.samplerate

    def test_formats_that_are_offered_are_those_that_can_be_written(self):
        assert set(AUDIO_FORMATS) == set(FORMATS)

    def test_codes_as_an_array(self, run, coded):
        assert run("encode", coded / "a.wav", "-o", "codes.NPY", "--n-quantizers", "2") == 0
        assert np.load("codes.NPY").shape == (2, 60)

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["-o", "x.aac"], "known are .wav, .flac, .mp3, .ogg, .opus"),
            (["-o", "x.esd"], "known are"),
            (["-o", "x.flac", "--format", "wav"], "two formats"),
            (["-o", "x.opus", "--sample-rate", "44100"], "opus has 8000, 12000, 16000, 24000, 48000 Hz alone"),
            (["-o", "-", "--json"], "--json"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_with_the_way_out(self, run, coded, tmp_path, capsys, args, words):
        assert run("decode", coded / "a.esd", *args) == 2
        assert words in capsys.readouterr().err
        assert not names(tmp_path)

    def test_many_sources_need_a_folder(self, run, coded, tmp_path, capsys):
        for sources in ([coded], [coded / "a.esd", coded / "b.esd"]):
            for output in ("x.flac", "-", "/dev/null"):
                assert run("decode", *sources, "-o", output) == 2
                assert "name a folder" in capsys.readouterr().err
        assert run("roundtrip", coded / "a.wav", "-o", "x.wav") == 2
        assert run("roundtrip", coded / "a.wav", "-o", "-") == 2
        assert not names(tmp_path)

    def test_a_folder_may_look_like_a_file(self, run, coded, tmp_path):
        (tmp_path / "x.flac").mkdir()
        assert run("decode", coded / "a.esd", "-o", "x.flac") == 0
        assert run("decode", coded / "a.esd", "-o", "y.v2/") == 0
        assert run("decode", coded, "-o", "z.v2") == 0
        assert {"x.flac/a.wav", "y.v2/a.wav", f"z.v2/{coded.name}/a.wav"} < names(tmp_path)


class TestPipesAndDevices:
    @pytest.mark.parametrize("output", ["-", "/dev/stdout", "/dev/fd/1"])
    def test_the_standard_output_gets_the_result_and_nothing_else(self, run, coded, tmp_path, capfdbinary, output):
        assert run("encode", coded / "a.wav", "-o", output) == 0
        assert capfdbinary.readouterr().out == (coded / "a.esd").read_bytes()
        assert run("decode", coded / "a.esd", "-o", output) == 0
        decoded = capfdbinary.readouterr().out
        assert soundfile.info(io.BytesIO(decoded)).frames == 0.3 * RATE
        assert not names(tmp_path)

    def test_pipes_take_every_format(self, run, coded, capfdbinary):
        assert run("decode", coded / "a.esd", "-o", "-", "--format", "flac") == 0
        assert soundfile.info(io.BytesIO(capfdbinary.readouterr().out)).format == "FLAC"

    def test_a_named_pipe_stays_one(self, run, coded, tmp_path):
        os.mkfifo("pipe")
        got = []
        reader = threading.Thread(target=lambda: got.append(Path(tmp_path, "pipe").read_bytes()))
        reader.start()
        assert run("decode", coded / "a.esd", "-o", "pipe") == 0
        reader.join()
        assert soundfile.info(io.BytesIO(got[0])).frames == 0.3 * RATE
        assert Path("pipe").is_fifo()

    def test_a_named_pipe_can_be_a_source(self, run, coded, tmp_path):
        os.mkfifo("pipe.wav")
        writer = threading.Thread(target=lambda: Path(tmp_path, "pipe.wav").write_bytes((coded / "a.wav").read_bytes()))
        writer.start()
        assert run("encode", "pipe.wav", "-o", "b.esd") == 0
        writer.join()
        assert Path("b.esd").read_bytes() == (coded / "a.esd").read_bytes()

    def test_devices_stay_devices(self, run, coded):
        assert run("decode", coded / "a.esd", "-o", "/dev/null") == 0
        assert run("encode", coded / "a.wav", "-o", "/dev/null") == 0
        assert Path("/dev/null").is_char_device()

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_a_full_device_is_told(self, run, coded, capsys):
        assert run("decode", coded / "a.esd", "-o", "/dev/full") == 1
        assert capsys.readouterr().err == f"failed     {coded}/a.esd: No space left on device\n"

    def test_links_are_followed(self, run, coded, tmp_path):
        (tmp_path / "there").mkdir()
        Path("link.wav").symlink_to("there/target.wav")
        assert run("decode", coded / "a.esd", "-o", "link.wav") == 0
        assert Path("link.wav").is_symlink()
        assert soundfile.info("there/target.wav").frames == 0.3 * RATE

    @pytest.mark.parametrize(("mode", "known"), [("wb", True), ("ab", False)])
    def test_a_wav_that_is_piped_into_a_file_states_its_length_if_it_can(self, model, coded, tmp_path, mode, known):
        with open(tmp_path / "x.wav", mode) as file:
            result = subprocess.run(
                [*ESDCODEC, "decode", "-", "--model", model, "--device", "cpu"],
                input=(coded / "a.esd").read_bytes(),
                stdout=file,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert (result.returncode, result.stderr) == (0, b"")
        size = int.from_bytes((tmp_path / "x.wav").read_bytes()[4:8], "little")
        assert (size == (tmp_path / "x.wav").stat().st_size - 8) == known
        assert soundfile.info(tmp_path / "x.wav").frames == 0.3 * RATE

    def test_a_broken_stream_fails_and_leaves_nothing(self, model, coded, tmp_path):
        result = subprocess.run(
            [*ESDCODEC, "decode", "-", "-o", "x.wav", "--model", model, "--device", "cpu"],
            input=(coded / "a.esd").read_bytes()[:-3],
            capture_output=True,
            cwd=tmp_path,
            check=False,
        )
        assert result.returncode == 1
        assert result.stderr.startswith(b"failed     -: ")
        assert not names(tmp_path)


class TestPlaces:
    def test_a_list_leads_to_no_place_outside_the_output(self, run, tmp_path):
        write(tmp_path / "lists/a.wav")
        write(tmp_path / "b.wav")
        (tmp_path / "lists/some.lst").write_text("a.wav\n../b.wav\nx/../../b.wav\n")
        assert run("encode", "lists/some.lst", "-o", "out/deep") == 0
        assert {path for path in names(tmp_path) if path.endswith(".esd")} == {"out/deep/lists/a.esd", "out/deep/b.esd"}

    @pytest.mark.parametrize("as_json", [True, False])
    def test_names_of_any_bytes(self, run, coded, tmp_path, capsys, as_json):
        name = os.fsdecode(b"\xff\n\x1b[31m")
        Path("in").mkdir()
        Path(f"in/{name}.esd").write_bytes((coded / "a.esd").read_bytes())
        Path("in/b.esd").write_bytes(b"no codes")
        assert run("decode", "in", "-o", "out", *["--json"] * as_json) == 1
        assert Path(f"out/in/{name}.wav").is_file()
        output, errors = capsys.readouterr()
        assert "\x1b" not in output + errors
        if as_json:
            sources = [json.loads(line).get("source") for line in output.splitlines()]
            assert sources == ["in/b.esd", f"in/{name}.esd", None]
        assert run("decode", f"in/{name}.esd") == 0
        assert r"\udcff\n\x1b[31m.wav" in capsys.readouterr().out
        assert main(["info", f"in/{name}.esd"]) == 0
        assert r"\udcff\n\x1b[31m.esd" in capsys.readouterr().out

    def test_recordings_with_names_of_any_bytes(self, run, tmp_path):
        name = os.fsdecode(b"\xff")
        for extension in (".wav", ".m4a"):  # read by soundfile and by FFmpeg
            write(tmp_path / "in/a.wav").rename(f"in/{name}{extension}")
        assert run("encode", "in", "-o", "out") == 0
        assert names(tmp_path / "out/in") == {f"{name}.wav.esd", f"{name}.m4a.esd"}

    def test_a_name_that_is_too_long_fails_alone(self, run, tmp_path, capsys):
        for suffix in ("wav", "flac"):  # each keeps its extension: a.wav.esd
            write(tmp_path / f"in/{'n' * 250}.{suffix}"[: len(str(tmp_path)) + 4 + 255])
        write(tmp_path / "in/b.wav")
        assert run("encode", "in", "-o", "out") == 1
        assert capsys.readouterr().err.count("File name too long") == 2
        assert {path for path in names(tmp_path) if path.endswith(".esd")} == {"out/in/b.esd"}

    def test_a_file_where_a_folder_must_be(self, run, coded, tmp_path, capsys):
        (tmp_path / "out").write_text("precious")
        assert run("decode", coded, "-o", "out") == 1
        assert "failed" in capsys.readouterr().err
        assert (tmp_path / "out").read_text() == "precious"

    def test_an_input_is_not_replaced_under_another_name(self, run, tmp_path, capsys):
        before = write(tmp_path / "a.wav").read_bytes()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/a.wav").symlink_to("../a.wav")
        os.link("a.wav", "b.wav")
        assert run("roundtrip", "a.wav", "-o", "out", "--overwrite") == 1
        assert run("roundtrip", "a.wav", "b.wav", "-o", ".", "--overwrite") == 1
        assert capsys.readouterr().err.count("would replace an input") == 3
        assert Path("a.wav").read_bytes() == before

    def test_a_folder_where_a_file_must_be(self, run, coded, tmp_path, capsys):
        (tmp_path / "out/a.wav").mkdir(parents=True)
        assert run("decode", coded / "a.esd", "-o", "out") == 1
        assert "is a folder, and a file should go there" in capsys.readouterr().err


class Full(io.FileIO):
    """A file on a disk that is full after 100 bytes."""

    def write(self, data):
        if self.tell() + len(data) > 100:
            raise OSError(28, "No space left on device")
        return super().write(data)


class TestOneFileAlone:
    @pytest.mark.parametrize("format", AUDIO_FORMATS)
    def test_a_full_disk_is_one_line_for_each_file_and_what_is_done_stays(
        self, run, coded, tmp_path, monkeypatch, capfd, format
    ):
        for name in ("a", "b", "c"):
            Path("in").mkdir(exist_ok=True)
            Path("in", f"{name}.esd").write_bytes((coded / "a.esd").read_bytes())
        create = whole_file._create
        monkeypatch.setattr(
            whole_file,
            "_create",
            lambda path: io.BufferedRandom(Full(path, "x+")) if path.name.startswith(".b.") else create(path),
        )
        assert run("decode", "in", "-o", "out", "--format", format) == 1
        assert capfd.readouterr().err == "failed     in/b.esd: No space left on device\n"
        assert names(tmp_path / "out") == {"in", f"in/a.{format}", f"in/c.{format}"}

    @pytest.mark.parametrize("format", ["esd", "npy"])
    def test_a_full_disk_while_encoding(self, run, coded, tmp_path, monkeypatch, capfd, format):
        monkeypatch.setattr(whole_file, "_create", lambda path: io.BufferedRandom(Full(path, "x+")))
        assert run("encode", coded / "a.wav", "-o", f"x.{format}") == 1
        assert capfd.readouterr().err == f"failed     {coded}/a.wav: No space left on device\n"
        assert not names(tmp_path)

    def test_what_may_not_be_written_is_told(self, run, coded, tmp_path, monkeypatch, capsys):
        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(whole_file, "_create", refuse)
        assert run("decode", coded / "a.esd", "-o", "x.wav") == 1
        assert "Permission denied" in capsys.readouterr().err

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_whatever_one_file_raises_the_others_are_done(self, model, tmp_path, monkeypatch, capsys, jobs):
        monkeypatch.chdir(tmp_path)
        for name in ("assertion", "overflow", "unknown", "speechless", "good", "better", *["killed"] * (jobs > 1)):
            write(Path("in", f"{name}.wav"))
        task = Troubled(CodecSettings(model, "cpu"), 3)
        assert many_files.run(FileSettings(("in",), "out", jobs), task, (".wav",), ("esd",)) == 1
        errors = capsys.readouterr().err
        assert "failed     in/assertion.wav: AssertionError\n" in errors
        assert "failed     in/overflow.wav: OverflowError: too large\n" in errors
        assert "failed     in/unknown.wav: Unknown: what is this\n" in errors
        assert "failed     in/speechless.wav: Speechless\n" in errors
        if jobs > 1:
            assert "failed     in/killed.wav: the process that worked on it was killed (SIGKILL)" in errors
            assert errors.count("failed") == 5
        assert names(tmp_path / "out") == {"in", "in/good.esd", "in/better.esd"}


class Unknown(Exception):
    pass


class Speechless(Exception):
    def __str__(self):
        raise AttributeError("no words")


class Troubled(Encode):
    """Fails on files by their names."""

    def run(self, source: Path, targets: list[Path]) -> CodedFile:
        if source.stem == "assertion":
            raise AssertionError
        if source.stem == "overflow":
            raise OverflowError("too large")
        if source.stem == "unknown":
            raise Unknown("what is this")
        if source.stem == "speechless":
            raise Speechless
        if source.stem == "killed":
            with pipes.output(targets[0]) as target:
                target.write(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().run(source, targets)
