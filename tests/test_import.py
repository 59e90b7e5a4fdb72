"""What importing costs."""

import subprocess
import sys

import pytest

TRAINING = ("torchaudio", "transformers", "audiotools", "accelerate", "hydra", "webdataset", "tensorboard", "librosa")


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import esdcodec") & {"torch", "numpy", "matplotlib", "huggingface_hub", *TRAINING}


def test_loading_and_coding_needs_no_training_library():
    code = "import torch, esdcodec; codec = esdcodec.load(); codec.decode(codec.encode(torch.zeros(2400), 16000))"
    assert not loaded_by(code) & set(TRAINING)


def test_text_as_bytes_and_the_acoustic_network_need_no_transformers():
    modules = "acoustic, decoding, generate, text, text_to_codes"
    code = f"from esdcodec.model_tts import {modules}; text.ByteText().ids('a')"
    assert not loaded_by(code) & set(TRAINING)


WITHOUT_MATPLOTLIB = "import sys; sys.modules['matplotlib'] = None; from esdcodec.cli.main import main"


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--output", "out"], 0), (["--output", "out", "--plot"], 2)], ids=["as it is", "--plot"]
)
def test_the_demonstration_needs_no_matplotlib_and_a_picture_says_so(tmp_path, arguments, code):
    script = f"{WITHOUT_MATPLOTLIB}\nsys.exit(main(['roundtrip', *{arguments!r}]))"
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert (tmp_path / "out/sample.wav").exists() == (code == 0)
    assert ("pip install matplotlib" in result.stderr) == (code == 2)


def test_old_names_still_work_and_warn():
    import esdcodec

    with pytest.warns(DeprecationWarning, match=r"now in esdcodec\.codec"):
        from esdcodec.pretrained import load
    with pytest.warns(DeprecationWarning, match=r"now in esdcodec\.weights"):
        from esdcodec.pretrained import WeightsError
    with pytest.warns(DeprecationWarning, match="now in esdcodec"):
        from esdcodec.model_codec import ESDCodec
    assert (load, WeightsError, ESDCodec) == (esdcodec.load, esdcodec.WeightsError, esdcodec.ESDCodec)


def test_all_names_are_there():
    import esdcodec

    assert {name for name in esdcodec.__all__ if getattr(esdcodec, name)} >= {
        "ESDCodec",
        "Inference",
        "gain_for",
        "get_model",
        "load",
    }
    for name in ("AudioFileError", "BitstreamError", "ModelNotFoundError", "WeightsError"):
        assert issubclass(getattr(esdcodec, name), esdcodec.ESDCodecError)
    assert "load" in dir(esdcodec)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        esdcodec.other  # noqa: B018
