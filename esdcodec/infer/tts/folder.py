"""The folder of a model that speaks: two networks, voices, and which codec they are of."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ... import weights
from ...bundled import with_version
from ...codec import ESDCodec, load
from ...errors import ESDCodecError
from ...model_tts.acoustic_folder import load_acoustic
from ...model_tts.text_to_codes import TextToCodes
from ...weights import ModelNotFoundError
from .settings import SpeechSettings
from .voice import Voice

FORMAT = "esdcodec-tts-1"
CONFIG, TEXT_TO_CODES, ACOUSTIC, VOICES, CODEC = "config.json", "text_to_codes", "acoustic", "voices", "codec"
DTYPES = ("float32", "float16", "bfloat16")
BUNDLED = {"25hz_nano_tts": Path(__file__).parents[2] / "assets/25hz_nano_tts"}


class SpeechModelError(ESDCodecError, ValueError):
    """A folder holds no model that speaks, or its parts do not fit together; the message says what to do."""


@dataclass(frozen=True)
class SpeechModelConfig:
    """`config.json` of the folder."""

    codec: str  # a name that `esdcodec.load` knows, or a folder within this one
    fingerprint: str  # of the codec, hexadecimal
    language: str = "en"  # by which text is split into sentences
    default_voice: str | None = None
    about: str = ""  # what it was trained on, its licence
    settings: dict[str, Any] = field(default_factory=dict)  # that suit it best; as `SpeechSettings.to_dict` gives them
    format: str = FORMAT

    @classmethod
    def read(cls, folder: Path) -> "SpeechModelConfig":
        """
        Raises:
            SpeechModelError: there is none, or one of another version.
        """
        file = folder / CONFIG
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if values.get("format") != FORMAT:
                raise ValueError(f"format {values.get('format')!r}")
            config = cls(**values)
            SpeechSettings.from_dict(config.settings)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SpeechModelError(
                f"{file}: no model that speaks, of this version ({error}): `esdcodec.tts.bundle_tts` makes its folder "
                "of two trainings' exports"
            ) from error
        return config

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        (folder / CONFIG).write_text(text, encoding="utf-8")


def find_folder(source: str | Path) -> Path:
    """The folder of a model, by its name or its path.

    Raises:
        ModelNotFoundError: there is none.
    """
    bundled = BUNDLED.get(str(source))
    if bundled is not None and not (bundled / CONFIG).is_file():
        raise ModelNotFoundError(
            f"{source} does not come with this version of esdcodec: train one (docs/tts.md, recipes/tts) and give its "
            "folder, such as load_tts('FOLDER') or --model FOLDER"
        )
    folder = bundled or Path(source).expanduser()
    if not folder.is_dir():
        known = ", ".join(name for name, path in BUNDLED.items() if (path / CONFIG).is_file())
        raise ModelNotFoundError(
            f"{str(source)!r} is no model that speaks: give {f'a name ({known}), or ' * bool(known)}the folder that "
            "`esdcodec.tts.bundle_tts` wrote"
        )
    return folder


def voice_files(folder: Path) -> dict[str, Path]:
    """The voices of a model by their names."""
    return {file.stem: file for file in sorted((folder / VOICES).glob("*.voice"))}


def bundle_tts(
    folder: str | Path,
    *,
    text_to_codes: str | Path,
    acoustic: str | Path,
    codec: ESDCodec | str | Path = "25hz_nano",
    voices: Iterable[Voice | str | Path] = (),
    default_voice: str | None = None,
    language: str = "en",
    dtype: str | None = None,
    settings: SpeechSettings | None = None,
    about: str = "",
) -> Path:
    """Join the exports of two trainings and voices into the folder of a model that speaks; returns it.

    It appears when it is complete. A model that is there is replaced.

    Args:
        text_to_codes, acoustic: `export` folders of an AR and an NAR training.
        codec: whose codes they were trained on. Only its name is written; one without a name is copied.
        voices: to be named by `voice=`.
        default_voice: the name of one of them. Default: the first.
        language: by which text is split into sentences, two letters.
        dtype: of the stored weights, such as "float16", which halves the files. Default: as they are.
        settings: that suit it best.
        about: what it was trained on, and its licence.

    Raises:
        CodecMismatchError, VoiceError: a part is of another codec.
        SpeechModelError: two voices have one name, or one that is no file's name, or the default one is not there; or
            the folder holds something else.
    """
    folder = Path(folder).absolute()
    if folder.exists() and any(folder.iterdir()):
        SpeechModelConfig.read(folder)  # nothing else is replaced
    if dtype not in (None, *DTYPES):
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(DTYPES)}")
    all_voices = [each if isinstance(each, Voice) else Voice.load(each) for each in voices]
    _check_names(all_voices, default_voice)
    loaded = codec if isinstance(codec, ESDCodec) else load(codec)
    parts = {TEXT_TO_CODES: Path(text_to_codes), ACOUSTIC: Path(acoustic)}
    _check_parts(parts, all_voices, loaded)
    named = weights.is_named(loaded.name)
    config = SpeechModelConfig(
        codec=with_version(loaded.name) if named else CODEC,
        fingerprint=loaded.fingerprint.hex(),
        language=language,
        default_voice=default_voice or (all_voices[0].name if all_voices else None),
        about=about,
        settings=(settings or SpeechSettings()).to_dict(),
    )
    with _replaced(folder) as partial:
        for name, source in parts.items():
            _copy(source, partial / name, dtype)
        for voice in all_voices:
            voice.save(partial / VOICES / f"{voice.name}.voice")
        if not named:
            loaded.save_pretrained(partial / CODEC)
        config.write(partial)
    return folder


def _check_parts(parts: Mapping[str, Path], voices: Iterable[Voice], codec: ESDCodec) -> None:
    TextToCodes.load(parts[TEXT_TO_CODES], codec.fingerprint)
    load_acoustic(parts[ACOUSTIC], codec.fingerprint)
    for voice in voices:
        voice.check_codec(codec)


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as parent:
        partial = Path(parent) / folder.name
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rename(Path(parent) / "replaced")
        partial.rename(folder)


def _check_names(voices: list[Voice], default: str | None) -> None:
    names = [voice.name for voice in voices]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SpeechModelError(f"two voices are called {', '.join(twice)}: give them other names")
    if wrong := [name for name in names if not name or Path(name).name != name or name.startswith(".")]:
        raise SpeechModelError(f"{wrong[0]!r} is no name of a file: give the voice another name")
    if default is not None and default not in names:
        raise SpeechModelError(
            f"default_voice={default!r} is none of the voices: {', '.join(names) or 'there is none'}"
        )


def _copy(source: Path, target: Path, dtype: str | None) -> None:
    """The files of an export, its weights in another type."""
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if not file.is_file() or file.name.startswith("."):
            continue
        if dtype is None or file.suffix != ".safetensors":
            shutil.copyfile(file, target / file.name)
            continue
        tensors = {name: each.to(getattr(torch, dtype)) for name, each in load_file(file).items()}
        save_file(tensors, target / file.name, metadata={"format": "pt"})
