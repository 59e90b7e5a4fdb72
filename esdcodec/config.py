"""Where the Hydra configuration files are: in a clone at the top level, in a wheel inside the package."""

from pathlib import Path


def config_folder() -> Path:
    """Folder with `esdcodec_train.yaml` and the groups data, machine, model and trainer."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def config_names() -> list[str]:
    """What `--config-name` takes."""
    return sorted(path.stem for path in config_folder().glob("*.yaml"))
