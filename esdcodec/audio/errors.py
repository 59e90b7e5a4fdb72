"""What is raised for a file that is no audio."""

from ..errors import ESDCodecError


class AudioFileError(ESDCodecError, ValueError):
    """A file could not be read or written as audio; the message names it and says why."""
