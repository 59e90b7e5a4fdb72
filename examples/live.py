"""Hear what the codec makes of your voice while you speak: microphone, codes, loudspeaker. Put headphones on.

    python examples/live.py [--n-quantizers 3] [--look-ahead 120]    # needs `pip install sounddevice`
    python examples/live.py --input talk.wav --output decoded.wav    # without a sound card

It shows a level meter, the bit rate, and the delay from mouth to ear: what is not out yet of what went in, and how long
it takes to compute.
"""

from __future__ import annotations

import argparse
import math
import queue
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

import esdcodec
from esdcodec import ESDCodec
from esdcodec.audio import read, write

Samples = np.ndarray  # [T] float32, at the codec's rate
Sink = Callable[[Samples], None]


# ---- the codec -------------------------------------------------------------------------------------------------------


class Loop:
    """Encodes and decodes pieces of a voice, and measures what that takes."""

    def __init__(self, codec: ESDCodec, n_quantizers: int | None, look_ahead_ms: float | None) -> None:
        self.codec = codec
        self.encoder = codec.stream_encoder(n_quantizers=n_quantizers, look_ahead_ms=look_ahead_ms)
        self.decoder = codec.stream_decoder(look_ahead_ms=look_ahead_ms)
        self.samples_in = self.samples_out = 0
        self.seconds: list[float] = []  # that pieces took to compute

    def push(self, samples: Samples) -> Samples:
        started = time.perf_counter()
        audio = self.decoder.push(self.encoder.push(torch.from_numpy(samples).to(self.codec.device)))
        decoded: Samples = audio[0, 0].cpu().numpy()
        self.seconds.append(time.perf_counter() - started)
        self.samples_in += len(samples)
        self.samples_out += len(decoded)
        return decoded

    def finish(self) -> Samples:
        """What was still waiting."""
        parts = [self.decoder.push(self.encoder.finish()), self.decoder.finish()]
        rest: Samples = torch.cat(parts, dim=-1)[0, 0].cpu().numpy()
        return rest

    @property
    def delay_ms(self) -> float:
        """Of what goes in now: it comes out after all that has gone in and not come out, and after its computation."""
        waiting = (self.samples_in - self.samples_out) / self.codec.sample_rate
        return 1000 * (waiting + statistics.median(self.seconds[-50:]))


def meter(samples: Samples, width: int = 30) -> str:
    """The level of some samples, from -60 dB on."""
    level = 10 * math.log10(float(np.mean(np.square(samples))) + 1e-9) if len(samples) else -90.0
    return ("█" * max(0, min(width, round(width * (level + 60) / 60)))).ljust(width)


# ---- where the voice comes from, and goes to -------------------------------------------------------------------------


@contextmanager
def sound_card(codec: ESDCodec, size: int) -> Iterator[tuple[Iterator[Samples], Sink]]:
    """Pieces of `size` samples from the microphone, for as long as it is open, and what plays others."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # the latter: PortAudio is not there
        raise SystemExit(f"{error}: pip install sounddevice, or give --input and --output") from error
    heard: queue.SimpleQueue[Samples] = queue.SimpleQueue()

    def listen(data: np.ndarray, *_: object) -> None:
        heard.put(data[:, 0].copy())

    settings = {"samplerate": codec.sample_rate, "channels": 1, "dtype": "float32", "latency": "low"}
    with (
        sounddevice.InputStream(blocksize=size, callback=listen, **settings) as microphone,
        sounddevice.OutputStream(**settings) as loudspeaker,
    ):
        print(f"the sound card adds {1000 * (microphone.latency + loudspeaker.latency):.0f} ms", file=sys.stderr)
        yield iter(heard.get, None), lambda samples: loudspeaker.write(samples[:, None]) or None


@contextmanager
def files(codec: ESDCodec, size: int, source: str, target: str | None) -> Iterator[tuple[Iterator[Samples], Sink]]:
    """Pieces of a recording, and what collects others for another."""
    waveform, _ = read(source, codec.sample_rate)
    collected: list[Samples] = []
    yield (waveform[i : i + size] for i in range(0, len(waveform), size)), collected.append
    if target is not None:
        write(target, np.concatenate(collected)[: len(waveform)], codec.sample_rate)


def main(arguments: list[str] | None = None) -> Loop:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="as `esdcodec.load` takes it (default: the bundled one)")
    parser.add_argument("-n", "--n-quantizers", type=int, default=None, help="codebooks (default: all)")
    parser.add_argument("--look-ahead", type=float, default=120, help="ms, of the encoder and of the decoder")
    parser.add_argument("--frames", type=int, default=1, help="of a piece")
    parser.add_argument("--input", help="a recording, instead of the microphone")
    parser.add_argument("--output", help="a file, instead of the loudspeaker")
    args = parser.parse_args(arguments)
    if args.output and not args.input:
        parser.error("--output needs --input")
    codec = esdcodec.load(args.model) if args.model else esdcodec.load()
    loop, size = Loop(codec, args.n_quantizers, args.look_ahead), args.frames * codec.hop_length
    bitrate = codec.bitrate(args.n_quantizers)
    with files(codec, size, args.input, args.output) if args.input else sound_card(codec, size) as (source, sink):
        try:
            for samples in source:
                sink(loop.push(samples))
                print(f"\r{meter(samples)} {bitrate:g} bit/s, {loop.delay_ms:.0f} ms ", end="", file=sys.stderr)
        except KeyboardInterrupt:
            pass
        sink(loop.finish())
    print(file=sys.stderr)
    return loop


if __name__ == "__main__":
    main()
