"""How far a long file is can be told while it is coded, and is, on a terminal."""

import io

import pytest
import soundfile

from esdcodec.cli.main import main
from esdcodec.cli.terminal import SecondsBar
from esdcodec.infer.files import Pieces, decode_file, encode_file
from esdcodec.infer.sinks import sink_into
from tests.conftest import make_tiny_codec, speech

PIECES = Pieces(chunk_seconds=0.5)


@pytest.fixture
def source(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(2.0)[0, 0].numpy(), 24000)
    return tmp_path / "a.wav"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_encoding_and_decoding_tell_the_seconds_that_are_done_of_those_there_are(source, tmp_path):
    codec, coded, calls = make_tiny_codec(), io.BytesIO(), []

    def progress(done: float, total: float | None) -> None:
        calls.append((done, total))

    encode_file(codec, source, coded, 3, PIECES, gain_db=0.0, progress=progress)
    assert calls == [(0.5, 2.0), (1.0, 2.0), (1.5, 2.0), (2.0, 2.0)]
    calls.clear()
    coded.seek(0)
    with open(tmp_path / "b.wav", "wb") as target:
        decode_file(codec, coded, sink_into(target, "wav"), pieces=PIECES, progress=progress)
    assert calls[-1] == (2.0, 2.0)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert len(calls) > 2


def test_measuring_the_loudness_is_told_before(tmp_path):
    calls = []
    soundfile.write(tmp_path / "a.wav", speech(2.0, sample_rate=192_000)[0, 0].numpy(), 192_000)
    encode_file(
        make_tiny_codec(), tmp_path / "a.wav", io.BytesIO(), 3, PIECES, progress=lambda *each: calls.append(each)
    )
    assert all(total == 2.0 for _, total in calls)
    done = [done for done, _ in calls]
    assert done == [2**18 / 192_000, 2.0, 0.5, 1.0, 1.5, 2.0]


def test_a_pipe_that_does_not_know_its_length_tells_none(source):
    calls = []
    with open(source, "rb") as stream:
        encode_file(make_tiny_codec(), stream, io.BytesIO(), 3, PIECES, progress=lambda *each: calls.append(each))
    assert calls[-1] == (2.0, None)


def test_the_bar_shows_seconds_rate_and_time_left_and_begins_anew(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    with SecondsBar(disable=False) as bar:
        bar(20.0, 80.0)
        assert "20 of 80 s of audio" in str(bar)
        assert "left" in str(bar)
        bar(60.0, 80.0)
        assert " 75 %" in str(bar)
        bar(10.0, None)  # now it is decoded, from a pipe
        assert str(bar).startswith("10 s of audio")
        bar(90.0, 80.0)  # more than was stated
        assert str(bar).startswith("90 s of audio")


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "no terminal"])
def test_only_a_terminal_is_shown_it(source, tmp_path, monkeypatch, terminal):
    make_tiny_codec().save_pretrained(tmp_path / "tiny")
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    assert main(["encode", str(source), "--model", str(tmp_path / "tiny"), "--chunk-seconds", "0.5"]) == 0
    assert ("s of audio" in stderr.getvalue()) == terminal


def test_both_rates_are_named(source, tmp_path, capsys):
    """The codes alone have 25 frames of so many bits; a file has a header and checksums besides."""
    codec = make_tiny_codec()
    codec.save_pretrained(tmp_path / "tiny")
    assert main(["encode", str(source), "--model", str(tmp_path / "tiny"), "-n", "3"]) == 0
    printed = capsys.readouterr().out
    size = (tmp_path / "a.esd").stat().st_size
    assert f"{codec.bitrate(3):.0f} bit/s of codes" in printed
    assert f"{size:,} bytes: {8 * size / 2:.0f} bit/s of files" in printed
