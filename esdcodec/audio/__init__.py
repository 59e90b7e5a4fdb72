"""Audio files and sample rates: no other folder opens a file or resamples.

`containers` looks at the bytes of a file, `decoders` has soundfile and FFmpeg, `files` reads and writes.
"""

from .errors import AudioFileError
from .files import AudioSegment, opened, probe, read, read_segment, write
from .folder import EXTENSIONS, FolderContent, audio_files, is_failure
from .resample import Resampler, Waveform, resample

__all__ = [
    "EXTENSIONS",
    "AudioFileError",
    "AudioSegment",
    "FolderContent",
    "Resampler",
    "Waveform",
    "audio_files",
    "is_failure",
    "opened",
    "probe",
    "read",
    "read_segment",
    "resample",
    "write",
]
