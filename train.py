"""Train a codec: `accelerate launch train.py --config-name=esdcodec_train [group.key=value …]`."""

import hydra
from omegaconf import DictConfig

from esdcodec.training.setup import train


@hydra.main(version_base="1.3", config_path="conf", config_name="esdcodec_train")
def main(config: DictConfig) -> None:
    train(config)


if __name__ == "__main__":
    main()
