"""The examples run on files, without a sound card."""

import importlib
import socket
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import esdcodec
from esdcodec.audio import read
from esdcodec.bitstream import BitstreamError, Header, Writer
from tests.conftest import PATIENCE, write_speech

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    return importlib.import_module


@pytest.fixture
def talk(tmp_path):
    return write_speech(tmp_path / "talk.wav", 0.6)


def test_live(example, model, talk, tmp_path):
    output = tmp_path / "decoded.wav"
    arguments = ["--model", model, "--look-ahead", "15", "-n", "2", "--input", str(talk), "--output", str(output)]
    loop = example("live").main(arguments)
    decoded, _ = read(output)
    assert len(decoded) == len(read(talk)[0])
    assert np.abs(decoded).max() > 0
    assert loop.delay_ms >= 2 * 15  # what the encoder waits for, and the decoder


def test_the_meter_shows_the_level(example):
    meter = example("live").meter
    assert meter(np.zeros(960, np.float32)).strip() == ""
    loud, soft = (len(meter(np.full(960, level, np.float32)).strip()) for level in (0.5, 0.05))
    assert 0 < soft < loud <= 30


@pytest.fixture
def called(example, model, talk, tmp_path, monkeypatch):
    """What was heard of `talk`, and by whom, with a share of the packets lost."""
    call = example("call")
    monkeypatch.setattr(call, "PATIENCE", PATIENCE)

    def run(*options):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        output, both, listening = tmp_path / "heard.wav", ["--port", port, "--model", model], threading.Event()
        heard = []
        receive = call.receive
        monkeypatch.setattr(call, "receive", lambda *each: (listening.set(), receive(*each)))
        args = ["hear", *both, "--output", str(output), "--look-ahead", "15"]
        thread = threading.Thread(target=lambda: heard.append(call.main(args)))
        thread.start()
        assert listening.wait(PATIENCE)
        call.main(["say", *both, "--input", str(talk), "--look-ahead", "15", *options])
        thread.join(PATIENCE)
        return read(output)[0], heard[0]

    return run


def test_a_call_without_loss(called, model, talk):
    heard, listener = called()
    codec = esdcodec.load(model)
    encoder, decoder = codec.stream_encoder(look_ahead_ms=15), codec.stream_decoder(look_ahead_ms=15)
    parts = [decoder.push(encoder.push(read(talk)[0])), decoder.push(encoder.finish()), decoder.finish()]
    expected = torch.cat(parts, dim=-1)[0, 0].numpy()[: len(heard)]
    assert listener.n_lost == 0
    assert len(heard) == len(read(talk)[0])
    assert np.abs(heard - expected).max() < 1e-3


@pytest.mark.parametrize("frames", ["1", "4"])
def test_a_call_with_loss_is_as_long(called, talk, frames):
    heard, listener = called("--loss", "0.2", "--frames", frames)
    assert listener.n_lost > 0
    assert len(heard) == len(read(talk)[0])
    assert np.isfinite(heard).all()


def test_packets_that_are_damaged_or_of_nobody_are_as_if_they_had_not_come(example, codec, talk):
    """The number of one may be damaged too: it must not be believed, as that many frames would be concealed."""
    call, samples = example("call"), read(talk)[0]
    sent: list[bytes] = []
    codes = codec.encode(samples)[0].numpy()
    bits = tuple((size - 1).bit_length() for size in codec.codebook_sizes)
    header = Header(codec.name, codec.fingerprint[:8], 24000, codec.hop_length, 24000, bits, block_frames=4)
    writer = Writer(call.Packets(SimpleNamespace(send=sent.append), 0.0), header)
    writer.write(codes)
    writer.finish(len(samples))
    sent[3] = b"\xff" + sent[3][1:]
    sent[6] = sent[6][:-1] + bytes([sent[6][-1] ^ 1])
    sent[8:8] = [b"", b"\xff" * 9, sent[5], sent[1]]
    listener, heard = call.Listener(codec, 0), []
    for packet in sent:
        with suppress(BitstreamError, struct.error, IndexError):  # as `receive` does
            heard += listener.take(packet)
    assert listener.n_lost == 2
    assert sum(map(len, heard)) == codes.shape[1] * codec.hop_length
