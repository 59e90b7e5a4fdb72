"""recipes/speech_data, without its packages: splits, licences, augmentation, shards."""

import random
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from esdcodec.dataset.make_shards import Utterance

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes/speech_data"))

import augment
import prepare
import sources
import test_sets
import texts
import voices

RATE = 24000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def strongest(waveform: np.ndarray) -> float:
    """Frequency in Hz."""
    return float(np.abs(np.fft.rfft(waveform)).argmax() * RATE / len(waveform))


def bumps(seed: int = 0) -> np.ndarray:
    """A signal with an envelope, so that its position in time shows."""
    noise = np.random.default_rng(seed).standard_normal(RATE, np.float32)
    return (
        0.1 * noise * np.interp(np.arange(RATE), [0, 5000, 9000, 12000, RATE], [0, 1, 0.1, 0.8, 0]).astype(np.float32)
    )


# ---- splits ----------------------------------------------------------------------------------------------------------


def some_voices() -> dict[str, np.ndarray]:
    names = [*voices.TEST, "af_one", "bf_two", "ef_six", "am_three", "bm_four", "zm_five"]
    return {name: np.full((510, 1, 256), i, np.float32) for i, name in enumerate(names)}


def test_no_test_voice_is_in_a_training_voice_or_a_mixture():
    styles = some_voices()
    tested = {styles[name][0, 0, 0] for name in voices.TEST}
    numbers = np.random.default_rng(0)
    for _ in range(200):
        name, style = voices.draw_voice(styles, numbers)
        parts = {part.rstrip("0123456789") for part in name[3:].split("-")}
        assert not parts & {known[3:] for known in voices.TEST}
        assert not set(np.unique(style)) & tested


def test_a_mixture_is_of_one_sex():
    numbers = np.random.default_rng(0)
    styles = some_voices()
    of_sex = {sex: {name[3:] for name in styles if name[1] == sex} for sex in "fm"}
    for _ in range(100):
        name, _ = voices.draw_voice(styles, numbers)
        assert {part.rstrip("0123456789") for part in name[3:].split("-")} <= of_sex[name[1]]


def test_reserved_voices_are_not_even_read(tmp_path):
    folder = tmp_path / "voices"
    folder.mkdir()
    for name in (*voices.RESERVED, "am_adam"):
        np.zeros((510, 1, 256), np.float32).tofile(folder / f"{name}.bin")
    assert list(voices.read_voices(tmp_path)) == ["am_adam"]


def test_a_sentence_is_in_one_split():
    sentences = [f"Sentence number {i} is this one." for i in range(400)]
    tested = [each for each in sentences if texts.split(each) == "test"]
    assert 10 < len(tested) < 50
    assert all(texts.split(each) in ("train", "test") for each in sentences)


# ---- texts -----------------------------------------------------------------------------------------------------------


def r_database(lines: list[str]) -> bytes:
    """A character vector as R's lazy-load database has it."""
    strings = b"".join(struct.pack(">Ii", 0x00040009, len(line.encode())) + line.encode() for line in lines)
    header = b"X\n" + struct.pack(">IIIi", 3, 0x40201, 0x30500, 5) + b"UTF-8"
    serialized = header + struct.pack(">II", 16, len(lines)) + strings
    return struct.pack(">I", len(serialized)) + zlib.compress(serialized)


def test_sentences_are_read_from_an_r_package(tmp_path):
    path = tmp_path / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
    path.parent.mkdir(parents=True)
    one = [
        "CHAPTER I",
        "",
        '"You are very kind to say so," said Mr. Elton',
        "to his _friend_.--She did not",
        "believe it.",
    ]
    path.write_bytes(r_database(one) + r_database(["It was a short walk home."]))
    assert texts.austen(tmp_path) == ["She did not believe it.", "It was a short walk home."]


@pytest.mark.parametrize("language", ["en", "es", "fr", "it", "pt", "hi", "ja", "zh"])
def test_every_gap_of_every_template_is_filled(language):
    draw = random.Random(0)
    sentences = [texts.from_template(language, draw) for _ in range(100)]
    assert not any("{" in sentence or "}" in sentence for sentence in sentences)
    assert len(set(sentences)) > 20


# ---- augmentation ----------------------------------------------------------------------------------------------------


def test_a_stretched_voice_has_another_pitch_within_bounds():
    low, high = augment.STRETCH
    pitches = [strongest(augment.stretched(tone(200), np.random.default_rng(seed))) for seed in range(8)]
    assert all(200 * low - 2 < pitch < 200 * high + 2 for pitch in pitches)
    assert max(pitches) / min(pitches) > 1.2


def test_a_narrowed_voice_has_nothing_above_its_band():
    for seed in range(4):
        spectrum = np.abs(np.fft.rfft(augment.narrowed(bumps(), np.random.default_rng(seed))))
        _, high = (round(hertz * len(bumps()) / RATE) for hertz in augment.NARROW_HZ)
        assert spectrum[high:].max() < 1e-3 * spectrum.max()


def test_gain_never_clips():
    for seed in range(20):
        assert np.abs(augment.gain(3 * tone(200), np.random.default_rng(seed))).max() <= augment.LOUDEST + 1e-6


@pytest.mark.parametrize(("hertz", "passes"), [(150, False), (1000, True), (3000, True), (4500, False)])
def test_a_telephone_passes_300_to_3400_hz(hertz, passes):
    ratio = np.std(augment.telephone(tone(hertz))) / np.std(tone(hertz))
    assert (ratio > 0.9) if passes else (ratio < 0.05)


@pytest.mark.parametrize("stage", [augment.noisy, augment.room, augment.lossy])
@pytest.mark.parametrize("seed", range(6))
def test_damage_stays_in_time_with_the_clean_signal(stage, seed):
    clean = bumps()
    damaged = stage(clean, np.random.default_rng(seed))
    assert damaged.shape == clean.shape
    assert damaged.dtype == np.float32
    correlation = np.fft.irfft(np.fft.rfft(damaged) * np.fft.rfft(clean).conj())
    assert abs((int(correlation.argmax()) + 500) % RATE - 500) <= 1


def test_augmentation_is_that_of_its_seed():
    first, second = (
        augment.damage(augment.new_voice(bumps(), generator), generator)
        for generator in (np.random.default_rng(3), np.random.default_rng(3))
    )
    np.testing.assert_array_equal(first, second)


# ---- recordings ------------------------------------------------------------------------------------------------------


def a_source(phrase: str, **settings: object) -> sources.Source:
    return sources.Source("a-package", "xm_one", "en", "CC0", phrase, "somebody", "*.raw", **settings)


def licensed(root: Path, text: str) -> Path:
    path = root / "usr/share/doc/a-package/copyright"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return root


def test_a_licence_file_that_says_something_else_stops_the_recipe(tmp_path):
    root = licensed(tmp_path, "Files: *\nLicense: GPL-2\n")
    assert len(sources.check_licence(a_source("GPL-2"), root)) == 64
    with pytest.raises(ValueError, match="doesn't say that somebody's recordings are under CC0"):
        sources.check_licence(a_source("CC0"), root)


def test_a_source_has_each_recording_once_and_only_where_it_matches(tmp_path):
    for name, content in (("a-v-1.raw", b"one"), ("a-v-2.raw", b"one"), ("a-m-3.raw", b"three"), ("b-v-4.raw", b"4")):
        (tmp_path / name).write_bytes(content)
    assert [path.name for path in a_source("", only="-v-").paths(tmp_path)] == ["a-v-1.raw", "b-v-4.raw"]


def test_nothing_is_both_trained_on_and_tested():
    assert not {(s.package, s.speaker) for s in sources.TRAIN} & {(s.package, s.speaker) for s in sources.TEST}
    assert not any("GPL" in source.licence or "SA" in source.licence for source in sources.TRAIN)


# ---- test sets and shards --------------------------------------------------------------------------------------------


def test_the_quiet_set_is_at_its_level():
    quiet = test_sets.quiet(tone(200))
    assert 10 * np.log10(np.mean(quiet**2)) == pytest.approx(test_sets.QUIET_DBFS, abs=0.01)


def test_long_recordings_are_cut_and_short_ones_left_out():
    def seconds(length: float) -> list[float]:
        return [len(waveform) / RATE for _, waveform in test_sets._pieces(Path("a.raw"), tone(200, length))]

    assert seconds(1.0) == []
    assert seconds(5.0) == [5.0]
    assert seconds(20.0) == [6.0, 6.0, 6.0]


def test_a_shard_that_was_cut_off_is_not_there(tmp_path):
    def broken():
        yield Utterance("one", tone(200), RATE, "am_one", "en", "one")
        raise KeyboardInterrupt

    shard = tmp_path / "train-kokoro-0000.tar"
    with pytest.raises(KeyboardInterrupt):
        prepare.write_shard(broken(), shard)
    assert not list(tmp_path.iterdir())
    prepare.write_shard([Utterance("one", tone(200), RATE, "am_one", "en", "one")], shard)
    with tarfile.open(shard) as tar:
        assert sorted(tar.getnames()) == ["one.flac", "one.json"]
    assert prepare._metadata(shard)[0]["text"] == "one"
