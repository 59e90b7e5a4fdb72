"""What a run hands on: a codec that `esdcodec.load` takes, and the discriminators that go with it."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from .. import weights
from ..codec import ESDCodec
from .state import host_copy

DISCRIMINATOR = "discriminator.safetensors"
IN_CHECKPOINT = "model_1.safetensors"  # accelerate's name of the second network


class Export:
    """A codec, and the discriminators that go with it if there are any, copied to host memory.

    Args:
        reuse: an export that nobody needs any more, whose memory is written over.
    """

    def __init__(self, codec: ESDCodec, discriminator: nn.Module | None, reuse: "Export | None" = None) -> None:
        before = (None, None) if reuse is None else (reuse.codec, reuse.discriminator)
        self.config = codec.config
        self.codec: dict[str, Tensor] = host_copy(codec.plain_state_dict(), before[0])
        self.discriminator: dict[str, Tensor] | None = None
        if discriminator is not None:
            self.discriminator = host_copy(discriminator.state_dict(), before[1])

    def write(self, folder: Path) -> None:
        """Write the codec, and its discriminators in a file of their own, into `folder`."""
        weights.write(folder, self.config, self.codec)
        if self.discriminator is not None:
            partial = folder / f".{DISCRIMINATOR}.partial"
            save_file(self.discriminator, partial, metadata={"format": "pt"})
            partial.replace(folder / DISCRIMINATOR)


def export(folder: Path, codec: ESDCodec, discriminator: nn.Module | None) -> None:
    """Write the codec, and its discriminators if there are any, into `folder`."""
    Export(codec, discriminator).write(folder)


def load_discriminator(discriminator: nn.Module, source: str | Path) -> None:
    """Give `discriminator` the weights of an export folder, a checkpoint folder or a file.

    Raises:
        WeightsError: they are not there, or of discriminators of other sizes.
    """
    path = Path(source)
    candidates = [path / DISCRIMINATOR, path / IN_CHECKPOINT] if path.is_dir() else [path]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise weights.WeightsError(
            f"{source} holds no discriminators ({DISCRIMINATOR}): give a trainer's export or checkpoint"
        )
    tensors, _ = weights.read_tensors(file)
    expected = discriminator.state_dict()
    differing = [
        n
        for n in {*tensors, *expected}
        if n not in tensors or n not in expected or tensors[n].shape != expected[n].shape
    ]
    if differing:
        raise weights.WeightsError(
            f"{file} does not fit model.discriminator: {len(differing)} tensors differ, such as {min(differing)}"
        )
    discriminator.load_state_dict(tensors)
