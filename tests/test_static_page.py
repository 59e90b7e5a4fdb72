"""The page without a server as files: complete, listed by content, and refused where it was not built."""

import hashlib
import json

import pytest

from esdcodec import ESDCodecError, static_page
from esdcodec.cli.main import main
from esdcodec.static_page import write_page


@pytest.fixture
def built(tmp_path, monkeypatch):
    """What stands for the built page, and for the export of a model."""

    def export(_, target):
        target.mkdir(parents=True, exist_ok=True)
        (target / "weights.bin").write_bytes(bytes(9))
        return [target / "weights.bin"]

    folder = tmp_path / "built"
    (folder / "gpu").mkdir(parents=True)
    for name in ("index.html", "gpu/worker.js", "service-worker.js"):
        (folder / name).write_text(f"// {name}\n")
    monkeypatch.setattr(static_page, "BUILT", folder)
    monkeypatch.setattr(static_page, "export_onnx", export)
    return folder


def test_every_file_is_listed_by_its_content_but_the_one_with_the_list(codec, built, tmp_path):
    page = tmp_path / "page"
    written = {path.relative_to(page).as_posix() for path in write_page(codec, page)}
    assert written == {path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()}
    assert {"index.html", "gpu/worker.js", "sample.flac", "model/weights.bin"} < written
    stamped, rest = (page / "service-worker.js").read_text().split("\n", 1)
    assert rest == "// service-worker.js\n"
    files = json.loads(stamped.removeprefix("self.FILES = ").removesuffix(";"))
    assert set(files) == written - {"service-worker.js"}
    for name, digits in files.items():
        assert hashlib.sha256((page / name).read_bytes()).hexdigest().startswith(digits)
    (built / "index.html").write_text("another")
    write_page(codec, page)
    assert (page / "service-worker.js").read_text().split("\n")[0] != stamped


def test_the_command_says_where_it_is_and_how_to_look_at_it(model, built, tmp_path, capsys):
    assert main(["demo", "--static", str(tmp_path / "my page"), "--model", model]) == 0
    said = capsys.readouterr().out
    assert f"--directory '{tmp_path / 'my page'}'" in said
    assert (tmp_path / "my page/index.html").exists()


def test_without_a_built_page_it_says_how_to_build_it(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(static_page, "BUILT", tmp_path / "nothing")
    assert main(["demo", "--static", str(tmp_path / "page"), "--model", model]) == 2
    assert "cd web && npm ci && npm run build" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()
    assert issubclass(static_page.PageNotBuiltError, ESDCodecError)
