"""Pipes, devices and what is open are written to as they are."""

import os
import threading
from pathlib import Path

import pytest

from esdcodec.pipes import STDOUT, can_seek, is_stream, output


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


class TestStreams:
    def test_a_pipe_stays_one_and_gets_what_is_written(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        got = []
        reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
        reader.start()
        with output(tmp_path / "pipe") as stream:
            assert not can_seek(stream)
            stream.write(b"whole")
        reader.join()
        assert got == [b"whole"]
        assert (tmp_path / "pipe").is_fifo()

    def test_devices_stay_devices(self):
        with output(Path("/dev/null")) as stream:
            assert not can_seek(stream)
            stream.write(b"whole")
        assert Path("/dev/null").is_char_device()

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
    def test_what_is_open_is_written_to_and_not_replaced(self, tmp_path):
        with open(tmp_path / "file", "wb+") as file:
            file.write(b"before ")
            file.flush()
            (tmp_path / "link").symlink_to(f"/dev/fd/{file.fileno()}")
            for path in (f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}", tmp_path / "link"):
                assert is_stream(Path(path))
                with output(Path(path)) as stream:
                    assert can_seek(stream)
                    stream.write(b"whole ")
            assert (tmp_path / "file").read_bytes() == b"before whole whole whole "
        assert is_stream(STDOUT)

    def test_what_is_appended_to_cannot_be_changed(self, tmp_path):
        with open(tmp_path / "file", "ab") as file:
            assert not can_seek(file)

    def test_files_are_no_streams(self, tmp_path):
        touch(tmp_path / "file")
        (tmp_path / "link").symlink_to("file")
        for name in ("file", "link", "none", "0"):
            assert not is_stream(tmp_path / name)
