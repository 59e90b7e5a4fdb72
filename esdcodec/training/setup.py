"""From a configuration to a trainer: settings are checked first, then data, then networks, then a GPU is asked for."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    gather_object,
    set_seed,
)
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..codec import ESDCodec, load
from ..dataset.batch import FeatureExtractor
from ..dataset.loader import Loaders, Source
from ..dataset.skip_counts import SkipCounts
from ..model_codec.discriminator import Discriminator
from .codec_task import CodecTask
from .export import load_discriminator
from .objective import Objective, check_weights
from .optimizer import Learner
from .run import Run
from .settings import (
    ConfigurationError,
    DataSettings,
    ModelSettings,
    RunSettings,
    TrainerSettings,
    TrainingSettings,
    check_arguments,
    parse,
)
from .trainer import Trainer


def make_trainer(config: DictConfig) -> Trainer:
    """All parts of a codec's training.

    Raises:
        ConfigurationError: the configuration cannot be run; nothing was built yet.
        FileNotFoundError: a shard is not there.
        WeightsError: `trainer.init` or `trainer.init_discriminator` is not what it should be.
    """
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    settings = check(values)
    data, trainer = settings.data, settings.trainer
    # the lists of shards first: a missing one is reported before a large teacher is loaded
    sources = Source.parse(data.train)
    held_out = Source.parse(data.validation) if data.validation else None

    accelerator = make_accelerator(trainer)
    codec, discriminator = make_networks(settings.model, trainer)
    teacher, extract = make_teacher(settings.model, codec, accelerator.device)
    loaders = make_loaders(data, trainer, codec.sample_rate, accelerator)
    validation = (
        loaders.validation(held_out, segment_length=data.segment_speech.validation_length)
        if held_out is not None
        else None
    )
    skip_counts = SkipCounts()
    training = loaders.training(
        sources,
        segment_length=data.segment_speech.segment_length,
        per_utterance=data.segment_speech.per_utterance,
        shuffle_buffer=data.shuffle_buffer,
        shuffle_window=data.shuffle_window,
        seed=trainer.seed,
        skip_counts=skip_counts,
        extract=extract,
    )
    sizes = {
        "codec": codec.config,
        "discriminator": settings.model.discriminator,
        "ema": trainer.ema_decay is not None,
        "freeze": sorted(trainer.freeze),
        "muon": [trainer.generator.muon_lr is not None, trainer.discriminator.muon_lr is not None],
    }
    objective = make_objective(trainer, accelerator, codec, discriminator, teacher)
    task = CodecTask(trainer, accelerator, objective, sizes, validation, data.num_workers)
    return Trainer(
        trainer,
        Run(trainer, accelerator, values),
        task,
        training,
        batch_size=trainer.batch_size,
        item_seconds=data.segment_speech.segment_length / codec.sample_rate,
        skip_counts=skip_counts,
        max_broken_share=data.max_broken_share,
        data_digest=training.digest,
    )


def check(values: Mapping[str, Any]) -> TrainingSettings:
    """The settings in a configuration, checked as far as possible without building anything.

    Raises:
        ConfigurationError: they cannot; the message names the key.
    """
    settings = parse(TrainingSettings, values)
    model, trainer = settings.model, settings.trainer
    codec = without_weights(ESDCodec, model.codec, "model.codec")
    if model.discriminator is not None:
        without_weights(Discriminator, model.discriminator, "model.discriminator")
    elif trainer.init_discriminator is not None:
        raise ConfigurationError("trainer.init_discriminator is given, but model.discriminator is null")
    parts = [name for name, _ in codec.named_children()]
    for name in trainer.freeze:
        if name not in parts:
            raise ConfigurationError(f"trainer.freeze: the codec has no part {name!r}, but {', '.join(parts)}")
    check_weights(trainer, teacher=model.teacher is not None, discriminator=model.discriminator is not None)
    return settings


def without_weights(network: type[nn.Module], arguments: Mapping[str, Any], name: str) -> nn.Module:
    """A network of shapes alone."""
    check_arguments(network, arguments, name)
    try:
        with torch.device("meta"):
            return network(**arguments)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as error:
        raise ConfigurationError(f"{name}: {error}") from error


def make_accelerator(settings: RunSettings, *, tf32_products: bool = False) -> Accelerator:
    """The devices and processes of a run; random numbers begin at the seed.

    Args:
        tf32_products: whether `trainer.tf32` is for matrix products as well as for convolutions. Not where they find
            the nearest entries of codebooks: in TF32 these are others.
    """
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.gradient_accumulation,
        log_with=settings.tracker,
        project_config=ProjectConfiguration(
            project_dir=settings.output_dir, logging_dir=str(Path(settings.output_dir) / "tensorboard")
        ),
        step_scheduler_with_optimizer=False,
        dynamo_backend=settings.compile,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=settings.process_timeout)),
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False),
        ],
    )
    if not accelerator.is_main_process:
        for handler in logging.getLogger().handlers:
            handler.addFilter(partial(_warnings_of_rank, accelerator.process_index))
    torch.backends.cudnn.allow_tf32 = settings.tf32
    torch.set_float32_matmul_precision("high" if settings.tf32 and tf32_products else "highest")
    torch.backends.cudnn.benchmark = True  # batches have one shape
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it logs every file of a checkpoint
    set_seed(settings.seed)
    return accelerator


def _warnings_of_rank(rank: int, record: logging.LogRecord) -> bool:
    """Log only warnings of other ranks, with their number: the main process logs the rest."""
    prefix = f"rank {rank}: "
    if not str(record.msg).startswith(prefix):  # by another handler's filter
        record.msg = f"{prefix}{record.msg}"
    return record.levelno >= logging.WARNING


def make_networks(model: ModelSettings, settings: TrainerSettings) -> tuple[ESDCodec, Discriminator | None]:
    """Codec and discriminators, new or from `trainer.init` and `trainer.init_discriminator`.

    The parts that `trainer.freeze` names stay as they are; with encoder and quantizers, so do the codes.
    """
    codec = load(settings.init, device="cpu") if settings.init else ESDCodec(**model.codec)
    for name in settings.freeze:
        codec.get_submodule(name).requires_grad_(False)
    discriminator = Discriminator(**model.discriminator) if model.discriminator is not None else None
    if discriminator is not None and settings.init_discriminator:
        load_discriminator(discriminator, settings.init_discriminator)
    return codec, discriminator


def make_teacher(
    model: ModelSettings, codec: ESDCodec, device: torch.device
) -> tuple[nn.Module | None, FeatureExtractor | None]:
    """The teacher on its device, and what computes its inputs in the loader's workers."""
    if model.teacher is None:
        return None, None
    from .teacher import FeatureExtraction, W2vBert  # transformers takes seconds to import

    settings = model.teacher
    teacher = W2vBert(settings.path, settings.statistics, settings.layer, settings.pool)
    if teacher.dim != codec.config["latent_dim"]:
        raise ConfigurationError(
            f"model.codec.latent_dim={codec.config['latent_dim']}, but the teacher has {teacher.dim} channels: they "
            "must be equal, or set model.teacher=null"
        )
    return teacher.to_device(device), FeatureExtraction(settings.path, codec.sample_rate)


def make_loaders(data: DataSettings, settings: TrainerSettings, sample_rate: int, accelerator: Accelerator) -> Loaders:
    return Loaders(
        data.filters,
        sample_rate=sample_rate,
        batch_size=settings.batch_size,
        num_workers=data.num_workers,
        max_broken_share=data.max_broken_share,
        rank=accelerator.process_index,
        n_ranks=accelerator.num_processes,
        local_rank=accelerator.local_process_index,
        barrier=accelerator.wait_for_everyone,
        gather=gather_object,
        cache=Path(data.manifests or f"{settings.output_dir}/manifests"),
    )


def make_objective(
    settings: TrainerSettings,
    accelerator: Accelerator,
    codec: ESDCodec,
    discriminator: Discriminator | None,
    teacher: nn.Module | None,
) -> Objective:
    """The networks with their optimizers, in the order in which checkpoints number them."""
    codec_learner = Learner.make(accelerator, "codec", codec, settings.generator)
    discriminator_learner = (
        Learner.make(accelerator, "discriminator", discriminator, settings.discriminator)
        if discriminator is not None
        else None
    )
    if settings.ema_decay is not None:
        codec_learner.keep_average(accelerator, settings.ema_decay)
    return Objective(settings, accelerator, codec_learner, discriminator_learner, teacher)
