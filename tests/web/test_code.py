"""The page's code in node: files, rates, levels and codes are Python's."""

import io
import json

import numpy as np
import pytest
import soundfile

from esdcodec import bitstream, gain_for
from esdcodec.audio import read, resample
from esdcodec.infer.files import decode_file, encode_file
from esdcodec.infer.sinks import sink_into
from esdcodec.onnx_export import export_onnx
from tests.bitstream.test_bitstream import as_version_1, codes_of, written
from tests.conftest import make_tiny_codec, speech, write_speech


def test_the_tests_in_typescript_pass(node, programs):
    assert "# fail 0" in node("--test", programs)


def headers():
    """Of many kinds."""
    rng = np.random.default_rng(0)
    names = ["25hz_nano", "", "ü" * 127, "\ufeffname", "語" * 85]
    for i in range(40):
        bits = tuple(int(b) for b in rng.integers(1, 25, rng.integers(1, 33)))
        rates = int(rng.integers(1000, 1_000_001)), int(rng.integers(1, 2**16)), int(rng.integers(1000, 1_000_001))
        block, gain = int(rng.choice([1, 7, 8, 32, 255])), int(rng.integers(-6000, 6001))
        yield bitstream.Header(names[i % len(names)], rng.bytes(8), *rates, bits, block, gain)


def file_of(header, n_frames):
    """A recording whose length is not a whole number of frames."""
    samples = n_frames * header.hop_length * header.original_rate // header.sample_rate
    return written(codes_of(header.num_frames(samples), header.bits), header, samples)


def asked(node, programs, folder, files):
    """What TypeScript says of files."""
    (folder / "files.json").write_text(json.dumps([file.hex() for file in files]))
    node(programs / "command.mjs", "esd", folder / "files.json", folder / "answers.json")
    return json.loads((folder / "answers.json").read_text())


def test_files_are_read_and_written_byte_by_byte_as_in_python(node, programs, tmp_path):
    files = [file_of(header, i % 12 * 11) for i, header in enumerate(headers())]
    for file, answer in zip(files, asked(node, programs, tmp_path, files), strict=True):
        reader, header = bitstream.Reader(io.BytesIO(file)), answer["header"]
        of_python = reader.header
        assert (header["model"], header["fingerprint"]) == (of_python.model, of_python.fingerprint.hex())
        names = ("sample_rate", "hop_length", "original_rate", "bits", "block_frames", "gain")
        camel = ("sampleRate", "hopLength", "originalRate", "bits", "blockFrames", "gain")
        assert [header[name] for name in camel] == [
            list(value) if isinstance(value := getattr(of_python, name), tuple) else value for name in names
        ]
        assert answer["codes"] == reader.read().tolist()
        assert int(answer["samples"]) == reader.original_samples
        assert answer["written"] == file.hex()


def test_version_1_is_read_and_damage_is_refused_as_in_python(node, programs, tmp_path):
    whole = written(codes_of(70))
    rng = np.random.default_rng(1)
    files = [as_version_1(whole), b"", b"ESDC", b"ESDC\x03" + whole[5:], whole[:-1], whole + b"\0"]
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        files.append(bytes(damaged))
    answers = asked(node, programs, tmp_path, files)
    assert (answers[0]["header"]["gain"], answers[0]["codes"]) == (0, codes_of(70).tolist())
    for file, answer in zip(files[1:], answers[1:], strict=True):
        with pytest.raises(bitstream.BitstreamError):
            list(bitstream.Reader(io.BytesIO(file)).read_blocks())
        assert answer["error"].endswith(".")


def test_audio_is_resampled_as_by_soxr(node, programs, tmp_path):
    """Small ratios have its very filter, other usual rates one that equals it but for the first samples."""
    most_error = {  # dB
        -120: [(16000, 24000), (8000, 24000), (48000, 24000), (24000, 16000), (24000, 8000), (24000, 48000)],
        -95: [(44100, 24000), (22050, 24000), (11025, 24000), (24000, 44100)],
        -60: [(32000, 24000), (88200, 24000), (24000, 22050)],
    }
    ratios = [(*ratio, error) for error, ratios in most_error.items() for ratio in ratios]
    tasks = []
    for rate, target, _ in ratios:
        talk = resample(speech(0.5)[0, 0].numpy(), 24000, rate)
        talk.tofile(tmp_path / f"{rate}")
        tasks.append([str(tmp_path / f"{rate}"), str(tmp_path / f"{rate}-{target}"), rate, target])
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    node(programs / "command.mjs", "resample", tmp_path / "tasks.json")
    for rate, target, most in ratios:
        right = resample(np.fromfile(tmp_path / f"{rate}", np.float32), rate, target)
        ours = np.fromfile(tmp_path / f"{rate}-{target}", np.float32)
        assert len(ours) == len(right)
        error = 10 * np.log10(np.mean((ours - right)[1000:] ** 2) / np.mean(right**2))
        assert error < most, (rate, target)


def test_wav_files_have_the_samples_and_the_gain_that_python_reads(node, programs, tmp_path):
    rng = np.random.default_rng(0)
    stereo = (rng.uniform(-1, 1, (30_000, 2)) * np.repeat(rng.uniform(0, 0.5, 30), 1000)[:, None]).astype(np.float32)
    kinds = {"PCM_U8": 8000, "PCM_16": 16000, "PCM_24": 44100, "PCM_32": 11025, "FLOAT": 48000, "DOUBLE": 22050}
    files = []
    for kind, rate in kinds.items():
        for audio, form in ((stereo, "WAV"), (stereo[:, 0], "WAVEX"), (stereo[:500] * 1e-2, "RF64")):
            files.append(tmp_path / f"{kind}-{form}.wav")
            soundfile.write(files[-1], audio, rate, subtype=kind, format=form)
    node(programs / "command.mjs", "wav", tmp_path / "answers.json", *files)
    for file, answer in zip(files, json.loads((tmp_path / "answers.json").read_text()), strict=True):
        audio, rate = read(file)
        assert (answer["rate"], answer["notes"]) == (rate, [])
        assert np.array_equal(np.fromfile(f"{file}.raw", np.float32), audio), file
        assert answer["gain"] == gain_for(audio, rate), file


@pytest.mark.filterwarnings("ignore")
def test_codes_and_audio_are_those_of_python(node, programs, tmp_path):
    """Of a recording that takes several windows, at another rate than the codec's."""
    pytest.importorskip("onnx")
    codec = make_tiny_codec()
    codec.name = "tiny"
    export_onnx(codec, tmp_path / "model")
    talk = write_speech(tmp_path / "talk.wav", 9.03, rate=16000)
    node(programs / "command.mjs", "code", tmp_path / "model", talk, tmp_path / "talk.esd", tmp_path / "talk.out.wav")
    expected = io.BytesIO()
    encode_file(codec, talk, expected)
    ours, right = bitstream.Reader((tmp_path / "talk.esd").open("rb")), bitstream.Reader(expected)
    assert (ours.header, ours.original_samples) == (right.header, right.original_samples)
    assert (ours.read() == right.read()).mean() > 0.999
    with (tmp_path / "talk.esd").open("rb") as source, (tmp_path / "python.wav").open("wb") as target:
        decode_file(codec, source, sink_into(target, "wav"))
    mine, his = (soundfile.read(tmp_path / name)[0] for name in ("talk.out.wav", "python.wav"))
    assert len(mine) == len(his)
    assert np.abs(mine - his).max() < 1e-3
