"""Which files are read and written: every source has a target of its own, and every target is whole."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from esdcodec.infer import files
from esdcodec.infer.files import OLD, STDOUT, can_seek, find_jobs, is_stream, output, printable, whole_file


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def targets(*sources) -> dict[str, str]:
    return {job.source.name: str(job.target) for job in find_jobs(sources)}


class TestTargets:
    def test_a_target_is_the_name_without_extension(self, tmp_path):
        touch(tmp_path / "a.wav", tmp_path / "b.c.mp3")
        assert targets(tmp_path / "a.wav", tmp_path / "b.c.mp3") == {"a.wav": "a", "b.c.mp3": "b.c"}

    def test_recordings_of_one_name_keep_their_extensions_however_they_are_named(self, tmp_path):
        names = [tmp_path / "in" / name for name in ("a.wav", "a.MP3", "b.wav")]
        touch(*names)
        (tmp_path / "some.lst").write_text("in/a.wav\nin/a.MP3\nin/b.wav\n")
        for sources in ([tmp_path / "in"], [tmp_path / "some.lst"], [tmp_path / "in/*"], names):
            assert {Path(t).name for t in targets(*sources).values()} == {"a.wav", "a.MP3", "b"}
        assert targets(names[0]) == {"a.wav": "a.wav"}

    def test_names_that_some_systems_do_not_tell_apart_keep_their_extensions(self, tmp_path):
        touch(tmp_path / "A.wav", tmp_path / "a.flac")
        assert set(targets(tmp_path).values()) == {f"{tmp_path.name}/A.wav", f"{tmp_path.name}/a.flac"}

    def test_no_target_is_above_the_output_folder(self, tmp_path):
        touch(tmp_path / "lists/a.wav", tmp_path / "other/b.wav", tmp_path / "lists/..wav", tmp_path / "lists/...wav")
        (tmp_path / "lists/some.lst").write_text("a.wav\n../other/b.wav\n../../../../../../../../../../x.wav\n..wav\n")
        for sources in ([tmp_path / "lists/some.lst"], [tmp_path / "lists/..wav"], [tmp_path / "lists/...wav"]):
            for target in targets(*sources).values():
                assert ".." not in Path(target).parts
                assert Path(target).name
                assert not Path(target).is_absolute()

    @pytest.mark.parametrize("ending", ["\n", "\r\n"])
    def test_lists_hold_any_name(self, tmp_path, ending):
        names = [b"\xff\xfe.wav", "ü b.wav".encode(), "\u2028.wav".encode()]
        for name in names:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
        (tmp_path / "some.lst").write_bytes(b"\xef\xbb\xbf# names" + ending.encode() + ending.encode().join(names))
        assert [os.fsencode(job.source.name) for job in find_jobs([tmp_path / "some.lst"])] == names

    def test_a_list_may_have_any_name_or_be_a_pipe(self, tmp_path):
        touch(tmp_path / "a.wav")
        (tmp_path / "list").write_text("a.wav\n")
        assert targets(f"@{tmp_path / 'list'}") == {"a.wav": "a"}
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text(f"{tmp_path}/a.wav\n"))
        writer.start()
        assert targets(f"@{tmp_path / 'pipe'}") == {"a.wav": "a"}
        writer.join()

    def test_what_cannot_be_looked_at_is_a_job_that_will_fail(self, tmp_path):
        sources = ["x" * 300 + ".wav", "no\0name.wav", str(tmp_path / "gone.wav")]
        assert [str(job.source) for job in find_jobs(sources)] == sources

    def test_a_pattern_matches_folders_as_the_shell_does(self, tmp_path):
        touch(tmp_path / "in/s1/a.wav", tmp_path / "in/s2/b.wav", tmp_path / "in/c.wav", tmp_path / "in/c.txt")
        for pattern in ("in/*", "in/**"):
            assert set(targets(tmp_path / pattern).values()) == {"s1/a", "s2/b", "c"}

    def test_a_closed_folder_is_told(self, tmp_path, monkeypatch):
        touch(tmp_path / "open/a.wav", tmp_path / "closed/b.wav")
        scandir = os.scandir

        def scan(path):
            if Path(path).name == "closed":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", scan)
        found = find_jobs([tmp_path])
        assert [job.source.name for job in found] == ["a.wav"]
        assert found.failed == {tmp_path / "closed": "folder cannot be listed (Permission denied)"}


def write_slowly(target: Path, content: bytes) -> subprocess.Popen:
    """A process that writes a file, and goes on with it for each line that it gets."""
    script = f"""
        import sys
        from pathlib import Path
        from esdcodec.infer.files import whole_file
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
        files._tidy_once.cache_clear()
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
        files._tidy_once.cache_clear()
        with whole_file(tmp_path / "new"):
            pass
        assert not left.exists()

    def test_a_file_that_loses_its_name_before_it_is_locked_gets_it_again(self, tmp_path, monkeypatch):
        lock, taken = files._lock, []

        def tidied_meanwhile(stream, *, wait):
            if not taken:
                taken.append(stream.name)
                Path(stream.name).unlink()
            return lock(stream, wait=wait)

        monkeypatch.setattr(files, "_lock", tidied_meanwhile)
        with whole_file(tmp_path / "file") as stream:
            stream.write(b"whole")
        assert (tmp_path / "file").read_bytes() == b"whole"

    @pytest.mark.parametrize("locks", ["without", "refused"])
    def test_it_needs_no_locks(self, tmp_path, monkeypatch, locks):
        if locks == "without":
            monkeypatch.setattr(files, "fcntl", None)
        else:
            monkeypatch.setattr(files, "_lock", lambda stream, wait: None)
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


def test_no_name_harms_a_terminal():
    assert printable("a\x1b[31m\n\udcff ü") == r"a\x1b[31m\n\udcff ü"
