"""What the trainings on tokens put together alike: the network as it learns, and the trainer."""

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from torch import nn

from ...dataset.transcripts import Transcripts
from ...dataset.voiced_stream import VoicedBatches, VoicedStream
from ..optimizer import Learner
from ..run import Run
from ..task import Task
from ..trainer import Trainer
from .corpora import count_skipped
from .settings import SpeechTrainerSettings, TokenDataSettings


def make_learner(accelerator: Accelerator, name: str, network: nn.Module, settings: SpeechTrainerSettings) -> Learner:
    """The network with its optimizer, and with an average of its weights if one is wanted."""
    learner = Learner.make(accelerator, name, network, settings.optimizer)
    if settings.ema_decay is not None:
        learner.keep_average(accelerator, settings.ema_decay)
    return learner


def trainer_on_tokens(
    settings: SpeechTrainerSettings,
    data: TokenDataSettings,
    values: Mapping[str, Any],
    accelerator: Accelerator,
    task: Task,
    corpus: Transcripts,
    stream: VoicedStream,
) -> Trainer:
    """The loop of `task` on the batches of `stream`, which are of `corpus`.

    Args:
        values: the whole configuration, for the run's folder.

    Raises:
        TooMuchIsBroken: more of the corpus than `data.max_broken_share` cannot be used.
    """
    return Trainer(
        settings,
        Run(settings, accelerator, dict(values)),
        task,
        VoicedBatches(stream, data.num_workers),
        batch_size=None,
        skip_counts=count_skipped(corpus, stream.epoch_size, data, accelerator),
        max_broken_share=data.max_broken_share,
        data_digest=corpus.digest(),
    )
