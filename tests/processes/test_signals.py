"""A process that is told to stop while it reads audio stops."""

import io
import signal

import pytest
import soundfile

from esdcodec.audio import opened
from esdcodec.processes import SIGNALS, stop
from tests.conftest import speech


class Interrupted(io.BytesIO):
    """A stream during whose reading a signal comes, when it is armed."""

    armed = False

    def readinto(self, buffer):
        self._signal()
        return super().readinto(buffer)

    def read(self, size=-1):
        self._signal()
        return super().read(size)

    def _signal(self):
        if self.armed:
            self.armed = False
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "MP3"])
def test_a_signal_while_a_stream_is_read_is_not_lost(format, capfd):
    file = Interrupted()
    soundfile.write(file, speech(30.0)[0, 0].numpy(), 24000, format=format)
    file.seek(0)
    before = {number: signal.signal(number, stop) for number in SIGNALS}

    def read():
        with opened(file) as (_, blocks):
            next(blocks)
            file.armed = True
            for _ in blocks:
                pass

    try:
        with pytest.raises(SystemExit) as stopped:
            read()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "SystemExit" not in capfd.readouterr().err  # printed as what was lost in a callback
