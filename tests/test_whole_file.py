"""Every file is whole: it appears when it is complete, whoever else writes, stops or dies."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from esdcodec import whole_file as module
from esdcodec.whole_file import OLD, whole_file


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_slowly(target: Path, content: bytes) -> subprocess.Popen:
    """A process that writes a file, and goes on with it for each line that it gets."""
    script = f"""
        import sys
        from pathlib import Path
        from esdcodec.whole_file import whole_file
        with whole_file(Path({str(target)!r})) as stream:
            stream.write({content!r})
            stream.flush()
            print("half", flush=True)
            sys.stdin.readline()
            stream.write({content!r})
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"half\n"
    return process


class TestWholeFile:
    def test_two_processes_that_write_one_file_each_publish_a_whole_one(self, tmp_path):
        target = tmp_path / "file"
        first, second = write_slowly(target, b"first"), write_slowly(target, b"second")
        assert len(list(tmp_path.iterdir())) == 2
        second.communicate(b"\n")
        assert target.read_bytes() == b"secondsecond"
        first.communicate(b"\n")
        assert (first.returncode, second.returncode) == (0, 0)
        assert target.read_bytes() == b"firstfirst"
        assert list(tmp_path.iterdir()) == [target]

    def test_what_a_killed_process_left_is_tidied_up_and_nothing_else(self, tmp_path):
        killed, working = write_slowly(tmp_path / "killed", b"x"), write_slowly(tmp_path / "working", b"y")
        killed.kill()
        killed.communicate()
        touch(tmp_path / ".mine.part", tmp_path / f".name.another-host.{'0' * 16}.part")
        module._tidy_once.cache_clear()
        with whole_file(tmp_path / "new"):
            pass
        left = {path.name for path in tmp_path.iterdir()}
        assert not any("killed" in name for name in left)
        assert any("working" in name for name in left)
        working.communicate(b"\n")
        assert (tmp_path / "working").read_bytes() == b"yy"
        assert {".mine.part", f".name.another-host.{'0' * 16}.part", "new", "working"} == {
            path.name for path in tmp_path.iterdir()
        }

    def test_what_another_computer_left_is_tidied_up_when_it_is_old(self, tmp_path):
        left = tmp_path / f".name.another-host.{'0' * 16}.part"
        touch(left)
        os.utime(left, (left.stat().st_mtime - 2 * OLD,) * 2)
        module._tidy_once.cache_clear()
        with whole_file(tmp_path / "new"):
            pass
        assert not left.exists()

    def test_a_file_that_loses_its_name_before_it_is_locked_gets_it_again(self, tmp_path, monkeypatch):
        lock, taken = module._lock, []

        def tidied_meanwhile(stream, *, wait):
            if not taken:
                taken.append(stream.name)
                Path(stream.name).unlink()
            return lock(stream, wait=wait)

        monkeypatch.setattr(module, "_lock", tidied_meanwhile)
        with whole_file(tmp_path / "file") as stream:
            stream.write(b"whole")
        assert (tmp_path / "file").read_bytes() == b"whole"

    @pytest.mark.parametrize("locks", ["without", "refused"])
    def test_it_needs_no_locks(self, tmp_path, monkeypatch, locks):
        if locks == "without":
            monkeypatch.setattr(module, "fcntl", None)
        else:
            monkeypatch.setattr(module, "_lock", lambda stream, wait: None)
        with whole_file(tmp_path / "file") as stream:
            stream.write(b"whole")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    @pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "\udcff.wav"], ids=["255 letters", "254 bytes", "no UTF-8"])
    def test_any_name_that_the_system_allows(self, tmp_path, name):
        with whole_file(tmp_path / name) as stream:
            stream.write(b"whole")
        assert (tmp_path / name).read_bytes() == b"whole"

    def test_links_are_followed(self, tmp_path):
        (tmp_path / "there").mkdir()
        (tmp_path / "old").symlink_to("there/old")
        (tmp_path / "there/old").write_bytes(b"old")
        (tmp_path / "new").symlink_to("there/new")
        for name in ("old", "new"):
            with whole_file(tmp_path / name) as stream:
                stream.write(b"whole")
            assert (tmp_path / name).is_symlink()
            assert (tmp_path / "there" / name).read_bytes() == b"whole"

    def test_a_file_that_is_replaced_keeps_its_permissions(self, tmp_path):
        touch(tmp_path / "file")
        (tmp_path / "file").chmod(0o640)
        with whole_file(tmp_path / "file"):
            pass
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640

    def test_a_folder_is_not_replaced(self, tmp_path):
        with pytest.raises(IsADirectoryError), whole_file(tmp_path):
            pass
        assert tmp_path.is_dir()
