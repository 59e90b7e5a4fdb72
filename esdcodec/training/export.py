"""What a run hands on: a codec that `esdcodec.load` takes, and the discriminators that go with it."""

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from ..codec import ESDCodec
from ..weights import WeightsError, read_tensors

DISCRIMINATOR = "discriminator.safetensors"
IN_CHECKPOINT = "model_1.safetensors"  # accelerate's name of the second network


def export(folder: Path, codec: ESDCodec, discriminator: nn.Module | None) -> None:
    """Write the codec, and its discriminators in a file of their own, into `folder`."""
    codec.save_pretrained(folder)
    if discriminator is not None:
        tensors = {name: t.detach().cpu().contiguous() for name, t in discriminator.state_dict().items()}
        partial = folder / f".{DISCRIMINATOR}.partial"
        save_file(tensors, partial, metadata={"format": "pt"})
        partial.replace(folder / DISCRIMINATOR)


def load_discriminator(discriminator: nn.Module, source: str | Path) -> None:
    """Give `discriminator` the weights of an export folder, a checkpoint folder or a file.

    Raises:
        WeightsError: they are not there, or of discriminators of other sizes.
    """
    path = Path(source)
    candidates = [path / DISCRIMINATOR, path / IN_CHECKPOINT] if path.is_dir() else [path]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise WeightsError(f"{source} holds no discriminators ({DISCRIMINATOR}): give a trainer's export or checkpoint")
    tensors, _ = read_tensors(file)
    expected = discriminator.state_dict()
    differing = [
        n
        for n in {*tensors, *expected}
        if n not in tensors or n not in expected or tensors[n].shape != expected[n].shape
    ]
    if differing:
        raise WeightsError(
            f"{file} does not fit model.discriminator: {len(differing)} tensors differ, such as {min(differing)}"
        )
    discriminator.load_state_dict(tensors)
