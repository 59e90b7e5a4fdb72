"""The bundled model, from shards to the exported codec.

    python recipes/nano/train.py DATA --output RUN [KEY=VALUE ...]

DATA holds `train.list` and `validation.list`, lists of shards, as the recipes that make data write them, and perhaps
`test`, the test sets of recipes/speech_data, on which the model is scored in the end (table.py). All settings
are in nano.yaml beside this file; `KEY=VALUE` changes one, such as `stages.encoder.steps=1000`. Stopped or killed, the
same command goes on exactly where it was; stages that are finished are skipped.

Written below RUN: `codec`, the model; `scores/table.md`; for each stage its checkpoints, curves, `status.json` and what
it hands on (`export`). Needs `pip install "esdcodec[train,eval]"` (torchcrepe, faster-whisper).
"""

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import table
from analysis import HOP, RATE
from audio_stages import ConditionStage, DecoderStage, LowerStage, PolishStage, UpperStage
from latent_stages import EncoderStage, QuantizerStage
from recordings import Arrays, Augmentation, DataSettings, read_shards
from safetensors.torch import load_file
from settings import Settings, StageSettings, check_names, read_settings
from stage import Job, Stage
from whisper import TeacherStage

from esdcodec import ESDCodec, load
from esdcodec.dataset.skip_counts import SkipCounts, TooMuchIsBroken
from esdcodec.training.checkpoint import CheckpointError, differences
from esdcodec.training.run import Run, recorded
from esdcodec.training.settings import ConfigurationError, RunSettings
from esdcodec.training.setup import make_accelerator
from esdcodec.training.trainer import Trainer

log = logging.getLogger(__name__)

STAGES: tuple[type[Stage], ...] = (
    TeacherStage, ConditionStage, EncoderStage, QuantizerStage, LowerStage, UpperStage, DecoderStage, PolishStage,
)  # fmt: skip
FINISHED = "finished.json"


def check(settings: Settings, folder: Path) -> dict[str, RunSettings]:
    """The settings of the runs of all stages, in whose settings everything is named as the stages have it.

    Raises:
        ConfigurationError: it is not; the message names the key.
    """
    check_names("stages", settings.stages, [stage.name for stage in STAGES])
    for stage in STAGES:
        own, where = settings.stages[stage.name], f"stages.{stage.name}"
        check_names(f"{where}.networks", own.networks, stage.learns)
        check_names(f"{where}.loss_weights", own.loss_weights, stage.terms)
        check_names(f"{where}.options", own.options, stage.options)
    return {stage.name: settings.run(stage.name, folder) for stage in STAGES}


def augmentations(settings: DataSettings) -> tuple[Augmentation | None, Augmentation | None]:
    """What makes new voices, and what damages what the encoder hears, where they are wanted."""
    sys.path.append(str(Path(__file__).parents[1] / "speech_data"))
    from augment import damage, new_voice

    return new_voice if settings.new_voices else None, damage if settings.damaged_share else None


def train(data: Path, output: Path, settings: Settings) -> None:
    """Run all stages that are not finished.

    Raises:
        ConfigurationError: a stage was finished with other settings.
    """
    runs = check(settings, output)
    new_voice, damage = augmentations(settings.data)
    (output / "analysis").mkdir(parents=True, exist_ok=True)
    with recorded(output / "analysis") as status:
        arrays = {
            split: read_shards(output, split, data / f"{split}.list", settings.data, voices, settings.seed)
            for split, voices in (("train", new_voice), ("validation", None))
        }
        status.write("finished")
    after: dict[str, Any] = {split: each.names for split, each in arrays.items()}
    source: Path | None = None
    for stage in STAGES:
        after = run_stage(stage, settings, runs[stage.name], source, after, arrays, damage)
        source = output / stage.name / "export"
    load(output / STAGES[-1].name / "export", device="cpu").save_pretrained(output / "codec")
    log.info("wrote %s", output / "codec")


def run_stage(
    kind: type[Stage],
    settings: Settings,
    run: RunSettings,
    source: Path | None,
    after: dict[str, Any],
    arrays: dict[str, Arrays],
    damage: Augmentation | None,
) -> dict[str, Any]:
    """Train one stage, unless it is finished, on the codec in `source` (None: a new one).

    Args:
        after: what the stage before handed on, as this function returns it.

    Returns:
        Checksums of what this stage hands on.
    """
    folder = Path(run.output_dir)
    identity = {
        "codec": settings.model.codec,
        "stage": asdict(settings.stages[kind.name]),
        "data": asdict(settings.data),
        "seed": settings.seed,
        "after": after,
    }
    handed_on = _finished(folder, identity)
    if handed_on is not None:
        log.info("stage %s: finished before", kind.name)
        return handed_on
    log.info("stage %s", kind.name)
    folder.mkdir(parents=True, exist_ok=True)
    with recorded(folder):
        job = make_job(settings, run, settings.stages[kind.name], source, arrays, damage)
        kind.prepare(job)
        task = kind(job)
        Trainer(
            run,
            Run(run, job.accelerator, {**identity, "trainer": asdict(run)}, "nano"),
            task,
            task.data,
            batch_size=job.settings.batch_size,
            item_seconds=job.settings.n_frames * HOP / RATE,
            skip_counts=SkipCounts(),
            max_broken_share=settings.data.max_broken_share,
        ).train()
        task.conclude(folder)
    handed_on = {path.name: _checksum(path) for path in sorted((folder / "export").glob("*.safetensors"))}
    _write(folder / FINISHED, {"identity": identity, "handed_on": handed_on})
    return handed_on


def make_job(
    settings: Settings,
    run: RunSettings,
    own: StageSettings,
    source: Path | None,
    arrays: dict[str, Arrays],
    damage: Augmentation | None,
) -> Job:
    """What a stage works with, the codec in `source` (None: a new one)."""
    accelerator = make_accelerator(run)
    if accelerator.num_processes > 1:
        raise ConfigurationError("this recipe runs in one process: start it without accelerate launch")
    codec = ESDCodec(**settings.model.codec).eval() if source is None else load(source, device="cpu")
    return Job(
        folder=Path(run.output_dir).parent,
        settings=own,
        seed=settings.seed,
        accelerator=accelerator,
        codec=codec.to(accelerator.device),
        train=arrays["train"],
        validation=arrays["validation"],
        data=settings.data,
        discriminators=settings.discriminators,
        damage=damage,
    )


def _finished(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """What a stage handed on that was finished as `identity` says; None: it was not finished."""
    if not (folder / FINISHED).exists():
        return None
    saved = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
    differing = differences(saved["identity"], json.loads(json.dumps(identity)))
    if differing:
        raise ConfigurationError(
            f"{folder} was finished otherwise ({', '.join(differing)} differ): remove it to train it again, or name "
            "another --output"
        )
    return dict(saved["handed_on"])


def _checksum(path: Path) -> str:
    """SHA-256 of the tensors; a file's own metadata come in any order."""
    found = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(partial, path)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train.list and validation.list")
    parser.add_argument("--output", type=Path, default=Path("runs/nano"), help="(default: runs/nano)")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="other than in nano.yaml")
    args = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        train(args.data, args.output, read_settings(args.settings))
        if (args.data / "test").is_dir():
            return table.main(
                [str(args.data / "test"), f"--model={args.output}/codec", f"--output={args.output}/scores"]
            )
    except (TooMuchIsBroken, FloatingPointError) as error:
        log.error("%s", error)
        return 1
    except (ConfigurationError, CheckpointError, FileNotFoundError) as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
