"""Audio files in memory, of all kinds that people have."""

import io
from fractions import Fraction

import av
import numpy as np

from tests.corpora import audio


class Pipe:
    """Takes bytes and cannot go back, so no header in it is ever mended."""

    def __init__(self):
        self.content = bytearray()

    def write(self, data):
        self.content += data
        return len(data)


def encoded(waveform, rate, format, codec, *, pipe=False, channels=1, options=None, **codec_options) -> bytes:
    """``[T]`` as a file's bytes, format and codec as FFmpeg names them; `pipe`: as what is written into a pipe."""
    target = Pipe() if pipe else io.BytesIO()
    with av.open(target, "w", format=format, options=options or {}) as container:
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
        stream = container.add_stream(codec, rate=rate, layout=layout, options=codec_options)
        pcm = (np.clip(waveform, -1, 1) * 32767).round().astype(np.int16)
        for start in range(0, len(pcm), 4096):
            frame = av.AudioFrame.from_ndarray(
                np.repeat(pcm[start : start + 4096], channels)[None], format="s16", layout=layout
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return bytes(target.content) if pipe else target.getvalue()


def mp3(waveform, rate=24000, *, xing=True) -> bytes:
    """Of variable rate."""
    options = {"write_xing": str(int(xing))}
    return encoded(waveform, rate, "mp3", "libmp3lame", options=options, flags="+qscale", global_quality="472")


SOUNDFILE_FORMATS = {  # that soundfile reads: what makes a file of a waveform at 24 kHz
    "wav": lambda w: audio(w, format="WAV"),
    "rf64": lambda w: audio(w, format="RF64"),
    "aiff": lambda w: audio(w, format="AIFF"),
    "au": lambda w: audio(w, format="AU"),
    "caf": lambda w: audio(w, format="CAF"),
    "w64": lambda w: audio(w, format="W64"),
    "sph": lambda w: audio(w, format="NIST"),
    "flac": lambda w: audio(w, format="FLAC"),
    "ogg": lambda w: audio(w, format="OGG", subtype="VORBIS"),
    "mp3": mp3,
}
