"""What is raised for a file that is no audio."""


class AudioFileError(ValueError):
    """A file could not be read or written as audio; the message names it and says why."""
