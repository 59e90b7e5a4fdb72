"""The root of the errors that this package raises on purpose."""


class ESDCodecError(Exception):
    """Base of `AudioFileError`, `BitstreamError`, `ModelNotFoundError`, `WeightsError`; of training,
    `ConfigurationError` and `CheckpointError`."""
