"""Run under `accelerate launch --num_processes 2` by the tests: train, then compare the ranks' parameters."""

import sys

import torch
from hydra import compose, initialize_config_dir

from esdcodec.config import config_folder
from esdcodec.training.trainer import Trainer

with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
    trainer = Trainer(compose("esdcodec_smoke", overrides=sys.argv[1:]))
assert trainer.accelerator.num_processes == 2


def compare() -> None:
    for network in (trainer.codec, trainer.discriminator):
        parameters = torch.cat([p.detach().flatten() for p in network.parameters()])
        ranks = trainer.accelerator.gather(parameters[None])
        assert torch.equal(ranks[0], ranks[1]), "the ranks' parameters differ"
    print("both ranks hold the same")


trainer.accelerator.end_training = compare  # the last thing of a run, which would close the process group
trainer.run()
