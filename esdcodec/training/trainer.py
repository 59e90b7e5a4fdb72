"""The trainer: a codec, its discriminators and its teacher, on Accelerate."""

import random
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import ProjectConfiguration, broadcast, set_seed
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.func import functional_call

from ..dataset.batch import Batch, Segments, loader
from ..model_codec import ESDCodec
from ..model_codec.discriminator import Discriminator
from ..model_codec.losses import (
    WINDOWS,
    Maps,
    adversarial_loss,
    discriminator_loss,
    distillation_loss,
    feature_matching_loss,
    mel_loss,
    reconstruction_losses,
    weighted_sum,
)
from . import checkpoint
from .initialise import fit_to_latents
from .schedule import warmup_cosine

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
        set_seed(settings.seed)
        self.step = 0

        # the data first: a missing shard is said before a large teacher is loaded
        train = self._segments(config.data.train, training=True)
        validation = self._segments(config.data.validation) if config.data.validation else None
        codec = ESDCodec(**config.model.codec)
        discriminator = Discriminator(**config.model.discriminator) if config.model.discriminator else None
        self.teacher, extract = self._teacher(codec)
        self.train_loader = loader(train, settings.batch_size, num_workers=config.data.num_workers, extract=extract)
        self.validation_loader = loader(validation, settings.batch_size) if validation else None

        self.codec, self.optimizer, self.schedule = self._prepare(codec, settings.generator)
        if discriminator is not None:
            self.discriminator, self.d_optimizer, self.d_schedule = self._prepare(discriminator, settings.discriminator)
        self.adversarial = discriminator is not None

    # ---- putting the parts together ---------------------------------------------------------------------------------

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
        return teacher.to(self.accelerator.device), extract

    def _segments(self, shards: Any, *, training: bool = False) -> Segments:
        data = self.config.data
        return Segments(
            shards if isinstance(shards, str) else list(shards),
            segment_length=data.segment_speech.segment_length,
            sample_rate=self.config.model.codec.sample_rate,
            filters=OmegaConf.to_container(data.filters),  # type: ignore[arg-type]
            shuffle_buffer=data.shuffle_buffer if training else 0,
            segments_per_utterance=data.segment_speech.per_utterance if training else 1,
            rank=self.accelerator.process_index,
            n_ranks=self.accelerator.num_processes,
        )

    def _prepare(self, network: nn.Module, settings: DictConfig) -> tuple[Any, Any, Any]:
        parameters = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=settings.lr, betas=tuple(settings.betas), weight_decay=settings.weight_decay
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

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to `max_steps`, from the newest checkpoint in `output_dir` if there is one."""
        settings = self.config.trainer
        self._resume()
        self._start_trackers()
        self.codec.train()
        started, window = time.perf_counter(), self.step
        batches = self._batches()
        while self.step < settings.max_steps:
            if self.step == settings.continuous_steps and settings.fit_batches:
                self._fit_to_latents(batches)
            logs = self._accumulate(batches)
            self.step += 1
            validates, saves = (
                self.step % every == 0 or self.step == settings.max_steps
                for every in (settings.validate_every, settings.checkpoint_every)
            )
            if saves or self.step % settings.log_every == 0:
                self._check_finite(logs)
            if self.step % settings.log_every == 0:
                now = time.perf_counter()
                self._log(logs, (self.step - window) / (now - started))
                started, window = now, self.step
            if validates:
                self._validate()
            if saves:
                self._save()
        self.accelerator.end_training()

    def _batches(self) -> Iterator[Batch]:
        # a resumed run reads the corpus in another order instead of the one it had begun
        self.train_loader.dataset.seed = f"{self.config.trainer.seed}/{self.step}"
        for batch in self.train_loader:
            yield batch.to(self.accelerator.device)

    def _accumulate(self, batches: Iterator[Batch]) -> Scalars:
        """One optimizer step of both networks, over as many batches as `gradient_accumulation` says."""
        for micro_step in range(self.config.trainer.gradient_accumulation):
            networks = [self.codec, self.discriminator] if self.adversarial else [self.codec]
            with self.accelerator.accumulate(*networks):
                logs = self._training_step(next(batches), micro_step)
        self.schedule.step()
        if self.adversarial:
            self.d_schedule.step()
        return logs

    def _training_step(self, batch: Batch, micro_step: int) -> Scalars:
        n_quantizers, semantic_only = self._draw_quantizers(len(batch.keys), micro_step)
        continuous = self.step < self.config.trainer.continuous_steps
        with self.accelerator.autocast():
            output = self.codec(batch.audio, n_quantizers, continuous=continuous)
        codec = self.accelerator.unwrap_model(self.codec)
        losses = reconstruction_losses(
            output,
            batch.audio,
            codec.sample_rate,
            codec.subband_sample_rate,
            semantic_only=semantic_only and not continuous,
        )
        logs: Scalars = {}
        if self.teacher is not None:
            with self.accelerator.autocast():
                target = self.teacher(**batch.teacher_inputs)
            losses["distillation"] = distillation_loss(output.semantic_latent, target)
        if self.adversarial:
            logs |= self._discriminator_step(batch.audio, output.audio.detach())
            real, fake = self._judge(batch.audio, output.audio)
            losses["adversarial"] = adversarial_loss(fake)
            losses["feature_matching"] = feature_matching_loss(real, fake)
        weights = dict(self.config.trainer.loss_weights)
        if continuous:
            weights |= dict.fromkeys(output.losses, 0.0)
        total = weighted_sum(losses, weights)
        logs["grad_norm/codec"] = self._update(total, self.codec, self.optimizer)
        return {
            **{f"loss/{name}": value.detach() for name, value in losses.items()},
            "loss/total": total.detach(),
            **logs,
        }

    def _draw_quantizers(self, batch_size: int, micro_step: int) -> tuple[Tensor, bool]:
        """How many codebooks each item keeps, and whether this step is a semantic-only one, the same on all ranks.

        Drawn from the seed and the step, so that a resumed run draws what it would have drawn.
        """
        settings = self.config.trainer
        moment = f"{settings.seed}/{self.step}/{micro_step}"
        n_codebooks = self.accelerator.unwrap_model(self.codec).n_codebooks
        semantic_only = random.Random(moment).random() < settings.semantic_only_probability
        rng = random.Random(f"{moment}/{self.accelerator.process_index}")
        numbers = [1 if semantic_only else rng.randint(2, n_codebooks) for _ in range(batch_size)]
        return torch.tensor(numbers, device=self.accelerator.device), semantic_only

    def _discriminator_step(self, real_audio: Tensor, fake_audio: Tensor) -> Scalars:
        n = len(real_audio)
        with self.accelerator.autocast():
            maps = self.discriminator(torch.cat([real_audio, fake_audio]))
        real = [[m[:n].float() for m in maps_of] for maps_of in maps]
        fake = [[m[n:].float() for m in maps_of] for maps_of in maps]
        loss = discriminator_loss(real, fake)
        norm = self._update(loss, self.discriminator, self.d_optimizer)
        scores = [torch.stack([maps_of[-1].mean() for maps_of in side]).mean().detach() for side in (real, fake)]
        return {
            "discriminator/loss": loss.detach(),
            "discriminator/real": scores[0],
            "discriminator/fake": scores[1],
            "grad_norm/discriminator": norm,
        }

    def _judge(self, real_audio: Tensor, fake_audio: Tensor) -> tuple[Maps, Maps]:
        """Feature maps for the codec's step: gradients reach the audio, but not the discriminators."""
        discriminator = self.accelerator.unwrap_model(self.discriminator)
        parameters = {name: p.detach() for name, p in discriminator.named_parameters()}
        sides = []
        for audio, context in ((real_audio, torch.no_grad()), (fake_audio, nullcontext())):
            with context, self.accelerator.autocast():
                maps = functional_call(discriminator, parameters, (audio,))
            sides.append([[m.float() for m in maps_of] for maps_of in maps])
        return sides[0], sides[1]

    def _update(self, loss: Tensor, network: nn.Module, optimizer: Any) -> Tensor:
        """Backward and, where an accumulation ends, clip and step; returns the gradient norm before clipping."""
        norm = loss.new_zeros(())
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(network.parameters(), self.config.trainer.clip_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return norm.detach()

    def _fit_to_latents(self, batches: Iterator[Batch]) -> None:
        """Start the quantizers where the latents of some batches are, on all ranks alike."""
        some = islice(batches, self.config.trainer.fit_batches)
        audio = self.accelerator.gather(torch.cat([batch.audio for batch in some]))
        codec = self.accelerator.unwrap_model(self.codec)
        fit_to_latents(codec, audio)
        for parameter in codec.parameters():  # sums on a GPU may differ in the last bit
            broadcast(parameter.data)

    # ---- what is seen and kept --------------------------------------------------------------------------------------

    def _start_trackers(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.accelerator.is_main_process:
            OmegaConf.save(self.config, self.folder / "config.yaml", resolve=True)
        self.accelerator.init_trackers("esdcodec")

    def _check_finite(self, logs: Scalars) -> None:
        broken = [name for name, value in logs.items() if not torch.isfinite(value)]
        if broken:
            raise FloatingPointError(
                f"step {self.step}: {', '.join(broken)} not finite. Nothing of this is saved: lower the learning rate "
                "or raise the warm-up, and go on from the last checkpoint in trainer.output_dir"
            )

    def _log(self, logs: Scalars, steps_per_second: float) -> None:
        values = {name: float(value) for name, value in logs.items()}
        values["lr"] = self.schedule.get_last_lr()[0]
        values["steps_per_second"] = steps_per_second
        self.accelerator.log(values, step=self.step)
        shown = ("loss/total", "loss/mel", "loss/condition_mel", "loss/semantic_commitment", "discriminator/loss")
        terms = ", ".join(f"{name.removeprefix('loss/')} {values[name]:.3f}" for name in shown if name in values)
        log.info("step %d of %d: %s, %.2f steps/s", self.step, self.config.trainer.max_steps, terms, steps_per_second)

    @torch.no_grad()
    def _validate(self) -> None:
        """Mel distance on the validation shards, from 1, 3 and all codebooks."""
        if self.validation_loader is None:
            return
        codec = self.accelerator.unwrap_model(self.codec)
        codec.eval()
        numbers = sorted({1, min(3, codec.n_codebooks), codec.n_codebooks})
        sums = torch.zeros(len(numbers) + 1, device=self.accelerator.device)
        for batch in self.validation_loader:
            audio = batch.audio.to(self.accelerator.device)
            with self.accelerator.autocast():
                codes = codec.encode(audio)
                decoded = [codec.decode(codes[:, :n], length=audio.shape[-1]) for n in numbers]
            for i, estimate in enumerate(decoded):
                sums[i] += len(audio) * mel_loss(estimate, audio, codec.sample_rate, WINDOWS)
            sums[-1] += len(audio)
        codec.train()
        sums = self.accelerator.reduce(sums, "sum")
        if not sums[-1]:
            log.warning("no utterance of data.validation is readable and passes data.filters: nothing validated")
            return
        values = {f"validation/mel_{n}": float(total / sums[-1]) for n, total in zip(numbers, sums)}
        self.accelerator.log(values, step=self.step)
        log.info("step %d: %s", self.step, ", ".join(f"{name} {value:.4f}" for name, value in values.items()))

    def _save(self) -> None:
        codec = self.accelerator.unwrap_model(self.codec)
        state = {"step": self.step, "model": codec.config}
        saved = checkpoint.save(self.accelerator, self.folder, state, keep=self.config.trainer.keep_checkpoints)
        if self.accelerator.is_main_process:
            codec.save_pretrained(self.folder / "export")
        log.info("step %d: wrote %s", self.step, saved)

    def _resume(self) -> None:
        found = checkpoint.every(self.folder)
        if found:
            codec = self.accelerator.unwrap_model(self.codec)
            self.step = checkpoint.load(self.accelerator, found[-1], codec.config)["step"]
            log.info("resumed from %s", found[-1])
