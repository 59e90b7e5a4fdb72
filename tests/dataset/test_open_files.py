"""Files stay open between reads, as many as there may be."""

import os
import pickle

import pytest

from esdcodec.dataset import open_files
from esdcodec.dataset.open_files import OpenFiles


@pytest.fixture
def files(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}").write_bytes(bytes(range(100 + i)))
    return [str(tmp_path / f"{i}") for i in range(5)]


def read(opened, path, offset=3, size=4):
    status = os.stat(path)
    return opened.read(path, offset, size, file_size=status.st_size, modified=status.st_mtime_ns)


@pytest.mark.parametrize("has_pread", [True, False])
def test_a_file_is_opened_once(files, monkeypatch, has_pread):
    if not has_pread:
        monkeypatch.delattr(os, "pread")
    opened, paths = OpenFiles(size=3), []
    monkeypatch.setattr(open_files, "open", lambda *a, **k: paths.append(a[0]) or open(*a, **k), False)  # noqa: SIM115
    for _ in range(3):
        for path in files[:3]:
            assert read(opened, path) == bytes([3, 4, 5, 6])
    assert paths == files[:3]
    read(opened, files[3])  # the first is closed for it
    read(opened, files[1])
    assert paths == files[:4]
    read(opened, files[0])
    assert paths == [*files[:4], files[0]]
    opened.close()


def test_too_many_open_files_are_closed_and_it_goes_on(files, monkeypatch):
    opened, n_open = OpenFiles(), [0]

    def limited(path, *arguments, **options):
        if n_open[0] == 2:
            n_open[0] = 0
            raise OSError(24, "Too many open files")
        n_open[0] += 1
        return open(path, *arguments, **options)

    monkeypatch.setattr(open_files, "open", limited, False)
    assert [read(opened, path, 100 + i - 1, 9) for i, path in enumerate(files)] == [
        bytes([100 + i - 1]) for i in range(5)
    ]
    opened.close()


def test_a_copy_for_another_process_opens_its_own(files):
    opened = OpenFiles()
    read(opened, files[0])
    assert read(pickle.loads(pickle.dumps(opened)), files[0]) == bytes([3, 4, 5, 6])
    opened.close()
