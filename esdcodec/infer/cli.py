"""The command line `esdcodec`.

Exit codes: 0 all done, 1 some files failed (each is named with the reason), 2 the command itself was wrong.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..evaluation.cli import add_parser as add_evaluate

ASSETS = Path(__file__).parents[1] / "assets"
SAMPLE = ASSETS / "sample.flac"


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="esdcodec", description="24 kHz speech to 25 frames of codes a second, and back"
    )
    commands = main.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "roundtrip",
        help="encode and decode files, to hear what the codec does to them",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Encode and decode audio files. For each it writes the decoded wav and the codes (.codes.npy).",
        epilog="""examples:
  esdcodec roundtrip                                 the bundled recording, with a picture
  esdcodec roundtrip talk.mp3 --n-quantizers 8       one file, more bits
  esdcodec roundtrip corpus/ more.lst --output out   a folder (mirrored) and a list of files
  esdcodec roundtrip talk.mp3 --model 25hz_v1        the published model, downloaded once""",
    )
    command.add_argument("sources", nargs="*", metavar="FILE|FOLDER|LIST.lst", help="default: a bundled recording")
    command.add_argument("--model", default="25hz_nano", help="name, folder, file or Hub id (default: %(default)s)")
    command.add_argument("--n-quantizers", type=int, default=3, help="codebooks to use (default: %(default)s)")
    command.add_argument("--device", help="cuda, mps, cpu (default: the first of these there is)")
    command.add_argument("--output", type=Path, default=Path("reconstructed"), help="folder (default: %(default)s)")
    command.add_argument("--plot", action="store_true", help="also write a PNG with both spectrograms and the codes")
    add_evaluate(commands)
    return main


def run_roundtrip(args: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from ..audio import AudioFileError
    from ..pretrained import ModelNotFoundError, WeightsError, load
    from .roundtrip import Result, find_jobs, roundtrip

    jobs = list(find_jobs(args.sources or [SAMPLE]))
    sources = {job.source.resolve() for job in jobs}
    if not jobs:
        print(f"no audio files in {', '.join(args.sources)}", file=sys.stderr)
        return 2
    try:
        codec = load(args.model, device=args.device)
        bitrate = codec.bitrate(args.n_quantizers)
        # first calls are slow and would spoil the speed that is printed
        codec.decode(codec.encode(torch.zeros(1, device=codec.device)))
    except (ModelNotFoundError, WeightsError, ValueError, RuntimeError) as error:
        print(f"esdcodec: {error}", file=sys.stderr)
        return 2

    results: list[Result] = []
    failures: list[str] = []
    targets: dict[Path, Path] = {}
    for job in tqdm(jobs, unit="file", disable=len(jobs) == 1 or not sys.stderr.isatty()):
        try:
            if job.target in targets:
                raise AudioFileError(f"{job.source}: its output would replace that of {targets[job.target]}")
            if Path(f"{args.output / job.target}.wav").resolve() in sources:
                raise AudioFileError(f"{job.source}: its output would replace an input; choose another --output")
            targets[job.target] = job.source
            results.append(roundtrip(codec, job, args.output, args.n_quantizers, picture=args.plot or not args.sources))
        except AudioFileError as error:
            failures.append(str(error))
        except (OSError, RuntimeError, MemoryError) as error:  # no place to write, no memory for a long file
            failures.append(f"{job.source}: {error}")

    if results:
        audio = sum(r.audio_seconds for r in results)
        encode, decode = (sum(getattr(r, f"{what}_seconds") for r in results) for what in ("encode", "decode"))
        size = sum(-(-r.code_bits // 8) for r in results)
        print(f"model      {args.model} on {codec.device}, {args.n_quantizers} of {codec.n_codebooks} codebooks")
        print(f"audio      {len(results)} file{'s' * (len(results) > 1)}, {audio:.2f} s")
        print(f"codes      {size:,} bytes: {bitrate:.0f} bit/s, {codec.frame_rate:g} frames/s")
        print(f"speed      encode {audio / encode:.1f}×, decode {audio / decode:.1f}× real time")
        written = results[0].files if len(results) == 1 else [args.output]
        print("written    " + "\n           ".join(map(str, written)))
    if not args.sources:
        print("The published model, of 110 M parameters, sounds better: add `--model 25hz_v1` (downloads 0.4 GB once).")
    for failure in failures:
        print(f"failed     {failure}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.command == "evaluate":
        from ..evaluation.cli import run as run_evaluate

        return run_evaluate(args)
    return run_roundtrip(args)


if __name__ == "__main__":
    sys.exit(main())
