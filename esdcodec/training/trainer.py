"""The trainer: a codec, its discriminators and its teacher, on Accelerate."""

import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import ProjectConfiguration, broadcast, gather_object, set_seed
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..dataset.batch import Batch
from ..dataset.filters import Filters
from ..dataset.loader import Reader, Source
from ..dataset.shards import list_shards
from ..dataset.tally import Tally, check_share
from ..model_codec import ESDCodec
from ..model_codec.discriminator import Discriminator
from ..model_codec.losses import (
    Maps,
    adversarial_loss,
    discriminator_loss,
    distillation_loss,
    feature_matching_loss,
    reconstruction_losses,
    weighted_sum,
)
from ..pretrained import load
from . import checkpoint
from .export import export, load_discriminator
from .initialise import fit_to_latents
from .interruption import Interrupted, Interruption
from .monitor import Window, log_sounds, progress_line
from .optimizer import make_optimizer
from .records import Records
from .schedule import warmup_cosine
from .validation import Scores, n_quantizers_shown

log = get_logger(__name__)  # of the main process

Scalars = dict[str, Tensor]


class Trainer:
    """Trains what a configuration from `conf/` describes; `run` does it all."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        settings = config.trainer
        self.folder = Path(settings.output_dir)
        self.accelerator = Accelerator(
            mixed_precision=settings.mixed_precision,
            gradient_accumulation_steps=settings.gradient_accumulation,
            log_with=settings.tracker,
            project_config=ProjectConfiguration(
                project_dir=str(self.folder), logging_dir=str(self.folder / "tensorboard")
            ),
            step_scheduler_with_optimizer=False,
        )
        self._check_settings()
        torch.backends.cudnn.allow_tf32 = settings.tf32
        torch.set_float32_matmul_precision("high" if settings.tf32 else "highest")
        logging.getLogger("accelerate").setLevel(logging.WARNING)  # it tells of every file of a checkpoint
        set_seed(settings.seed)
        self.records = Records(self.accelerator, config)
        self.step = 0
        self.place = 0  # segments that all ranks have read
        self.audio_seconds = 0.0  # of them
        self.skipped_steps = self.skipped_in_a_row = 0
        self.score: float | None = None  # of the last validation, if it was at this step
        self.tally = Tally()

        # the data's lists first: a missing shard is said before a large teacher is loaded
        sources = Source.parse(config.data.train)
        held_out = list_shards(config.data.validation) if config.data.validation else None
        codec = load(settings.init, device="cpu") if settings.init else ESDCodec(**config.model.codec)
        self._freeze(codec)
        discriminator = Discriminator(**config.model.discriminator) if config.model.discriminator else None
        if discriminator is not None and settings.init_discriminator:
            load_discriminator(discriminator, settings.init_discriminator)
        self.teacher, extract = self._teacher(codec)
        self.segment_seconds = config.data.segment_speech.segment_length / codec.sample_rate
        self._prepare_data(sources, held_out, codec.sample_rate, extract)

        self.networks = {
            "codec": codec.config,
            "discriminator": OmegaConf.to_container(config.model.discriminator) if discriminator else None,
            "ema": settings.ema_decay is not None,
        }
        self.codec, self.optimizer, self.schedule = self._prepare(codec, settings.generator)
        self.adversarial = discriminator is not None
        if discriminator is not None:
            self.discriminator, self.d_optimizer, self.d_schedule = self._prepare(discriminator, settings.discriminator)
        self.ema = None
        if settings.ema_decay is not None:
            self.ema = AveragedModel(self._own_codec, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay))
            self.accelerator.register_for_checkpointing(self.ema)
        self.window = Window(self._own_codec.codebook_sizes, self.accelerator.device)

    # ---- putting the parts together ---------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        settings = self.config.trainer
        if self.accelerator.mixed_precision not in ("no", "bf16"):
            raise ValueError(
                f"mixed_precision={self.accelerator.mixed_precision!r}: the codec trains in 'no' (float32) or 'bf16'; "
                "the exponentials and the nearest neighbours do not survive float16"
            )
        if settings.tracker and not self.accelerator.log_with:
            raise ValueError(f"trainer.tracker={settings.tracker}: its package is not installed, or set it to null")

    def _freeze(self, codec: ESDCodec) -> None:
        """Leave the parts that `trainer.freeze` names as they are; with encoder and quantizers, so are the codes."""
        parts = dict(codec.named_children())
        for name in self.config.trainer.freeze:
            if name not in parts:
                raise ValueError(f"trainer.freeze: the codec has no part {name!r}, but {', '.join(parts)}")
            parts[name].requires_grad_(False)

    def _teacher(self, codec: ESDCodec) -> tuple[nn.Module | None, Any]:
        if self.config.model.teacher is None:
            return None, None
        from .teacher import FeatureExtraction, W2vBert  # transformers takes seconds to import

        teacher = W2vBert(**self.config.model.teacher)
        if teacher.dim != codec.config["latent_dim"]:
            raise ValueError(
                f"the teacher has {teacher.dim} channels and the codec latent_dim={codec.config['latent_dim']}: "
                "they must be equal, or set model.teacher=null"
            )
        extract = FeatureExtraction(self.config.model.teacher.path, codec.sample_rate)
        return teacher.place(self.accelerator.device), extract

    def _prepare_data(self, sources: list[Source], held_out: list[str] | None, sample_rate: int, extract: Any) -> None:
        data = self.config.data
        filters: dict[str, Any] = dict(data.filters)
        filters["languages"] = tuple(filters["languages"]) if filters["languages"] is not None else None
        reader = Reader(
            Filters(**filters),
            sample_rate=sample_rate,
            batch_size=self.config.trainer.batch_size,
            num_workers=data.num_workers,
            max_broken_share=data.max_broken_share,
            rank=self.accelerator.process_index,
            n_ranks=self.accelerator.num_processes,
            barrier=self.accelerator.wait_for_everyone,
        )
        segments = data.segment_speech
        self.validation = (
            reader.validation(held_out, segment_length=segments.validation_length) if held_out is not None else None
        )
        self.training = reader.training(
            sources,
            segment_length=segments.segment_length,
            per_utterance=segments.per_utterance,
            shuffle_buffer=data.shuffle_buffer,
            shuffle_window=data.shuffle_window,
            seed=self.config.trainer.seed,
            tally=self.tally,
            extract=extract,
        )

    def _prepare(self, network: nn.Module, settings: DictConfig) -> tuple[Any, Any, Any]:
        optimizer = make_optimizer(
            network,
            muon_lr=settings.muon_lr,
            lr=settings.lr,
            betas=tuple(settings.betas),
            weight_decay=settings.weight_decay,
        )
        schedule = warmup_cosine(
            optimizer,
            warmup_steps=settings.warmup_steps,
            decay_steps=settings.decay_steps,
            final_ratio=settings.final_lr / settings.lr,
        )
        network, optimizer = self.accelerator.prepare(network, optimizer)
        self.accelerator.register_for_checkpointing(schedule)
        return network, optimizer, schedule

    @property
    def _own_codec(self) -> ESDCodec:
        """The codec that is trained, without what Accelerate wraps around it."""
        return self.accelerator.unwrap_model(self.codec, keep_torch_compile=False)

    @property
    def exported_codec(self) -> ESDCodec:
        """The codec that is validated and exported: the moving average, where there is one."""
        return self.ema.module if self.ema is not None else self._own_codec

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to `max_steps`, from the newest checkpoint in `output_dir` if there is one.

        Raises:
            Interrupted: a SystemExit with code 75, after SIGTERM or SIGUSR1; all is saved.
            CheckpointError: there is a checkpoint that cannot be gone on from.
            TooMuchIsBroken: more of the data than `data.max_broken_share`.
            FloatingPointError: `trainer.max_skipped_steps` steps in a row were not finite.
        """
        self._resume()
        self.records.start(self.step)
        batches = self.training.batches(self.place)
        try:
            with Interruption() as self.interruption:
                self._train(batches)
        except BaseException as error:
            self.records.status("interrupted" if isinstance(error, Interrupted) else f"failed: {error!r}", self.step)
            raise
        finally:
            batches.close()
            self.records.attempt(self.accelerator.end_training, self.step)
        self.records.status("finished", self.step)

    def _train(self, batches: Iterator[Batch]) -> None:
        settings = self.config.trainer
        self.codec.train()
        self.window.clear()
        while self.step < settings.max_steps:
            if self.step == settings.continuous_steps and settings.fit_batches:
                self._fit_to_latents(batches)
            interrupted = self._take_step(batches)
            self.step, self.score = self.step + 1, None
            last = self.step == settings.max_steps
            if last or self.step % settings.log_every == 0:
                self._log()
            if last or self.step % settings.validate_every == 0:
                self._validate()
            if last or self.step % settings.sample_every == 0:
                self._log_samples()
            if last or interrupted or self.step % settings.checkpoint_every == 0:
                self._save()
            if interrupted and not last:
                log.warning("told to stop: saved at step %d; the same command goes on from there", self.step)
                raise Interrupted

    def _next(self, batches: Iterator[Batch]) -> Batch:
        started = time.perf_counter()
        batch = next(batches)
        self.window.waited += time.perf_counter() - started
        self.tally.add(batch)
        n_segments = self.config.trainer.batch_size * self.accelerator.num_processes
        self.place += n_segments
        self.audio_seconds += n_segments * self.segment_seconds
        self.window.audio_seconds += n_segments * self.segment_seconds
        return batch.to(self.accelerator.device)

    def _take_step(self, batches: Iterator[Batch]) -> bool:
        """One optimizer step of both networks, over as many batches as `gradient_accumulation` says.

        A step that is not finite on any rank is left out on all. Returns whether a rank was told to stop.
        """
        networks, optimizers, schedules = [self.codec], [self.optimizer], [self.schedule]
        if self._adversarial_now:
            networks, optimizers = [*networks, self.discriminator], [*optimizers, self.d_optimizer]
            schedules = [*schedules, self.d_schedule]
        broken = torch.zeros((), device=self.accelerator.device)
        scalars: list[Scalars] = []
        keys: list[str] = []
        for _ in range(self.config.trainer.gradient_accumulation):
            batch = self._next(batches)
            keys += batch.keys
            with self.accelerator.accumulate(*networks):
                scalars.append(self._backward(batch))
                broken += ~torch.isfinite(torch.stack(list(scalars[-1].values()))).all()
                if self.accelerator.sync_gradients:
                    norms = [self._clip(network) for network in networks]
                    broken += ~torch.isfinite(torch.stack(norms)).all()
                    flags = torch.stack([broken, broken.new_tensor(float(self.interruption.received))])
                    n_broken, n_told_to_stop = self.accelerator.reduce(flags, "sum").tolist()
                for optimizer in optimizers:
                    if not (self.accelerator.sync_gradients and n_broken):
                        optimizer.step()
                    optimizer.zero_grad()
        for schedule in schedules:
            schedule.step()
        self.window.steps += 1
        if n_broken:
            self._skip_step(scalars, norms, keys)
        else:
            self.skipped_in_a_row = 0
            for each in scalars:
                self.window.add(each)
            self.window.add(dict(zip(("grad_norm/codec", "grad_norm/discriminator"), norms)))
            if self.ema is not None:
                self.ema.update_parameters(self._own_codec)
        return n_told_to_stop > 0

    @property
    def _adversarial_now(self) -> bool:
        return self.adversarial and self.step >= self.config.trainer.discriminator_start

    def _backward(self, batch: Batch) -> Scalars:
        """Gradients of both networks' losses on a batch; returns what there is to see of it."""
        n_quantizers, semantic_only = self._draw_quantizers(len(batch.audio))
        continuous = self.step < self.config.trainer.continuous_steps
        with self.accelerator.autocast():
            output = self.codec(batch.audio, n_quantizers, continuous=continuous)
        codec = self._own_codec
        losses = reconstruction_losses(
            output,
            batch.audio,
            codec.sample_rate,
            codec.subband_sample_rate,
            semantic_only=semantic_only and not continuous,
        )
        if self.teacher is not None:
            target, mask = self.teacher(**batch.teacher_inputs)
            losses["distillation"] = distillation_loss(output.semantic_latent, target, mask)
        scalars: Scalars = {}
        if self._adversarial_now:
            # both networks are judged as they were before this step, so D(real) is needed once
            real, fake = self._discriminate(batch.audio, output.audio.detach())
            loss = discriminator_loss(real, fake)
            self.accelerator.backward(loss)
            scalars = {
                "discriminator/loss": loss,
                "discriminator/real": _mean_score(real),
                "discriminator/fake": _mean_score(fake),
            }
            judged = self._judge(output.audio)
            losses["adversarial"] = adversarial_loss(judged)
            losses["feature_matching"] = feature_matching_loss(real, judged)
        weights = dict(self.config.trainer.loss_weights)
        if continuous:
            weights |= dict.fromkeys(output.losses, 0.0)
        total = weighted_sum(losses, weights)
        self.accelerator.backward(total)
        self.window.usage.add(output.codes)
        return {
            **{f"loss/{name}": value.detach() for name, value in losses.items()},
            **{f"weighted/{name}": weights[name] * value.detach() for name, value in losses.items()},
            "loss/total": total.detach(),
            **{name: value.detach() for name, value in scalars.items()},
        }

    def _draw_quantizers(self, batch_size: int) -> tuple[Tensor, bool]:
        """How many codebooks each item keeps, and whether this step is a semantic-only one, the same on all ranks.

        Drawn from the seed, the step and the item's place: a resumed run draws what it would have drawn, and so do
        other numbers of processes.
        """
        settings = self.config.trainer
        n_codebooks = self._own_codec.n_codebooks
        semantic_only = random.Random(f"{settings.seed}/{self.step}").random() < settings.semantic_only_probability
        n_ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        first = self.place + (rank - n_ranks) * batch_size
        numbers = [
            1 if semantic_only else random.Random(f"{settings.seed}/{place}").randint(2, n_codebooks)
            for place in range(first, first + batch_size)
        ]
        return torch.tensor(numbers, device=self.accelerator.device), semantic_only

    def _discriminate(self, real_audio: Tensor, fake_audio: Tensor) -> tuple[Maps, Maps]:
        """Feature maps whose gradients reach the discriminators."""
        n = len(real_audio)
        with self.accelerator.autocast():
            maps = self.discriminator(torch.cat([real_audio, fake_audio]))
        return (
            [[m[:n].float() for m in maps_of] for maps_of in maps],
            [[m[n:].float() for m in maps_of] for maps_of in maps],
        )

    def _judge(self, audio: Tensor) -> Maps:
        """Feature maps whose gradients reach the audio, but not the discriminators."""
        discriminator = self.accelerator.unwrap_model(self.discriminator, keep_torch_compile=False)
        parameters = {name: p.detach() for name, p in discriminator.named_parameters()}
        with self.accelerator.autocast():
            maps = functional_call(discriminator, parameters, (audio,))
        return [[m.float() for m in maps_of] for maps_of in maps]

    def _clip(self, network: nn.Module) -> Tensor:
        """Clip the gradient; returns its norm before."""
        return self.accelerator.clip_grad_norm_(network.parameters(), self.config.trainer.clip_grad_norm).detach()

    def _skip_step(self, scalars: list[Scalars], norms: list[Tensor], keys: list[str]) -> None:
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        bad = sorted({name for each in scalars for name, value in each.items() if not torch.isfinite(value)})
        log.warning(
            "step %d is not finite (%s; gradient norms %s) and was skipped on all ranks; its utterances: %s",
            self.step + 1,
            ", ".join(bad) or "no loss of this rank",
            ", ".join(f"{norm.item():.3g}" for norm in norms),
            " ".join(gather_object(keys)),
        )
        if self.skipped_in_a_row == self.config.trainer.max_skipped_steps:
            good = checkpoint.every(self.folder)
            raise FloatingPointError(
                f"{self.skipped_in_a_row} steps in a row were not finite (trainer.max_skipped_steps). The last good "
                f"checkpoint is {good[-1] if good else 'none'}: lower the learning rate or lengthen the warm-up, "
                "and go on from it"
            )

    def _fit_to_latents(self, batches: Iterator[Batch]) -> None:
        """Start the quantizers where the latents of some batches are, on all ranks alike."""
        some = [self._next(batches) for _ in range(self.config.trainer.fit_batches)]
        audio = self.accelerator.gather(torch.cat([batch.audio for batch in some]))
        codec = self._own_codec
        fit_to_latents(codec, audio)
        for parameter in codec.parameters():  # sums on a GPU may differ in the last bit
            broadcast(parameter.data)
        if self.ema is not None:
            self.ema.n_averaged.zero_()  # the average begins anew

    # ---- what is seen and kept --------------------------------------------------------------------------------------

    def _log(self) -> None:
        reasons: Counter[str] = sum(gather_object([self.tally.reasons()]), Counter())
        used = sum(gather_object([self.tally.used]))
        values = self.window.summary(self.accelerator)
        values |= {
            "lr/codec": self.schedule.get_last_lr()[0],
            "data/hours": self.audio_seconds / 3600,
            "data/epoch": self.place / self.training.epoch_size if self.training.epoch_size else 0.0,
            "data/skipped": reasons.total(),
            "skipped_steps": self.skipped_steps,
        }
        if self.adversarial:
            values["lr/discriminator"] = self.d_schedule.get_last_lr()[0]
        self.records.track(values, self.step)
        log.info(progress_line(self.step, self.config.trainer.max_steps, values))
        for disease in self.window.diseases(values, quantized=self.step > self.config.trainer.continuous_steps):
            log.warning(disease)
        self.window.clear()
        check_share(reasons, used, self.config.data.max_broken_share)

    def _validate(self) -> None:
        """Scores on the validation shards, from 1, 3 and all codebooks."""
        if self.validation is None:
            return
        codec = self.exported_codec
        codec.eval()
        scores = Scores(codec, self.accelerator.device)
        with self.accelerator.autocast():
            scores.add(self.validation)
        codec.train()
        means = scores.means(self.accelerator.reduce(scores.as_tensor(), "sum"))
        scores.usage.counts = self.accelerator.reduce(scores.usage.counts, "sum")
        if not means:
            log.warning("no utterance of data.validation is readable and passes data.filters: nothing validated")
            return
        n = n_quantizers_shown(codec)
        self.score = means[f"mel_{n[min(1, len(n) - 1)]}"]
        used = scores.usage.used()
        values = {f"validation/{name}": value for name, value in means.items()}
        values |= {"validation/usage_semantic": used[0], "validation/usage_acoustic": sum(used[1:]) / len(used[1:])}
        self.records.track(values, self.step)
        log.info("step %d: %s", self.step, "  ".join(f"{k.split('/')[1]} {v:.3f}" for k, v in values.items()))

    @torch.no_grad()
    def _log_samples(self) -> None:
        """The first utterances of the validation shards, as they are and as they come out."""
        if self.validation is None or not self.accelerator.is_main_process:
            return
        codec = self.exported_codec
        codec.eval()
        sounds = {}
        for batch in islice(self.validation, 1):
            for i, audio in enumerate(batch.audio[:2].to(self.accelerator.device).split(1)):
                with self.accelerator.autocast():
                    codes = codec.encode(audio)
                    decoded = {f"{n}_codebooks": codec.decode(codes[:, :n]) for n in n_quantizers_shown(codec)}
                    subband = codec(audio).subband
                for name, sound in {"input": audio, **decoded, "subband": subband}.items():
                    rate = codec.subband_sample_rate if name == "subband" else codec.sample_rate
                    sounds[f"{i}_{name}"] = sound[0, 0].float().cpu().numpy(), rate
        codec.train()
        self.records.attempt(lambda: log_sounds(self.accelerator, sounds, self.step), self.step)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "place": self.place,
            "audio_seconds": self.audio_seconds,
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
            "score": self.score,
            "networks": self.networks,
            "environment": self.records.environment,
            "config": OmegaConf.to_container(self.config, resolve=True),
        }
        saved = checkpoint.save(self.accelerator, self.folder, state, keep=self.config.trainer.keep_checkpoints)
        if saved is None:
            return
        if self.accelerator.is_main_process:
            discriminator = (
                self.accelerator.unwrap_model(self.discriminator, keep_torch_compile=False)
                if self.adversarial
                else None
            )
            names = ["export", "export_best"] if checkpoint.best(self.folder) == saved else ["export"]
            for folder in (self.folder / name for name in names):
                problem = checkpoint.attempt(partial(export, folder, self.exported_codec, discriminator))
                if problem:
                    log.error("%s not written (%s)", folder, problem)
        log.info("step %d: wrote %s", self.step, saved)

    def _resume(self) -> None:
        if self.accelerator.is_main_process:
            checkpoint.remove_partial(self.folder)
        self.accelerator.wait_for_everyone()
        found = checkpoint.every(self.folder)
        if not found:
            return
        state = checkpoint.load(self.accelerator, found[-1], self.networks)
        self.step, self.place, self.audio_seconds = state["step"], state["place"], state["audio_seconds"]
        self.skipped_steps, self.skipped_in_a_row = state["skipped_steps"], state["skipped_in_a_row"]
        log.info("resumed from %s", found[-1])


def _mean_score(maps: Maps) -> Tensor:
    return torch.stack([maps_of[-1].mean() for maps_of in maps]).mean()
