"""The blocks of docs/tts.md run."""

import shutil
from pathlib import Path

from esdcodec.tts import load_tts
from tests.test_readme import example

PAGE = (Path(__file__).parents[3] / "docs/tts.md").read_text(encoding="utf-8")


def test_the_examples_of_the_guide_run(tts_folder, parts, talk, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("FOLDER").symlink_to(tts_folder)
    shutil.copy(talk, "talk.wav")
    namespace: dict[str, object] = {}
    exec(example("speaking", PAGE), namespace)
    assert Path("said.wav").stat().st_size > 1000
    assert len(namespace["both"]) == 2
    Path("FOLDER").unlink()
    for name, part in (("ar", "text_to_codes"), ("nar", "acoustic")):
        shutil.copytree(parts[part], f"runs/{name}/export")
    exec(example("bundle", PAGE).replace('"25hz_nano"', repr(model)), {})
    assert load_tts("FOLDER", device="cpu").voices == ("talk",)
