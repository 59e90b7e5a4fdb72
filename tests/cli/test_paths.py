"""Which files are read, and where results go: every source has a target of its own."""

import os
import threading
from pathlib import Path

import pytest

from esdcodec.cli.paths import find_jobs
from esdcodec.cli.terminal import printable


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

    def test_a_link_to_a_folder_may_be_named_like_a_recording(self, tmp_path):
        touch(tmp_path / "in/album.mp3/a.wav")
        (tmp_path / "in/b.wav").symlink_to("album.mp3")
        found = find_jobs([tmp_path / "in"])
        assert [job.source.name for job in found] == ["a.wav"]
        assert found.left_out == {tmp_path / "in/b.wav": "folder that is searched under another name"}
        assert not found.failed

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


def test_no_name_harms_a_terminal():
    assert printable("a\x1b[31m\n\udcff ü") == r"a\x1b[31m\n\udcff ü"
