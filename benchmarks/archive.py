"""An archive of real files through the command line, killed at random and repeated until done.

    python benchmarks/archive.py FOLDER [--files 2000] [--kills 10] [--jobs 2]

Takes audio files below FOLDER and encodes them with `--skip-existing`; is killed with SIGKILL at random moments and
begun again until nothing is left to do; decodes all; and compares every coded and decoded file with what the library
makes of it alone.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import esdcodec
from esdcodec.audio import audio_files, read, resample
from esdcodec.bitstream import Reader
from esdcodec.cli.paths import find_jobs

ESDCODEC = [sys.executable, "-m", "esdcodec.cli"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a run until it is killed, at most")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    files = audio_files(args.folder, (".wav", ".flac", ".ogg", ".mp3", ".opus")).files
    files = sorted(rng.sample(files, min(args.files, len(files))))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        listed = work / "files.lst"
        listed.write_text("\n".join(str(file.resolve()) for file in files))
        encode = [*ESDCODEC, "encode", str(listed), "-o", str(work / "coded"), "--skip-existing", "--device", "cpu"]
        encode += ["--jobs", str(args.jobs)]
        for kill in range(args.kills):
            process = subprocess.Popen(encode, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.2, 1) * args.seconds)
            done = process.poll() is not None
            process.kill()
            process.wait()
            print(f"killed {kill + 1} times: {len(list((work / 'coded').rglob('*.esd')))} files", flush=True)
            if done:
                break
        started = time.time()
        encoded = subprocess.run(encode, check=False, capture_output=True, text=True)
        print(f"then done in {time.time() - started:.0f} s, exit code {encoded.returncode}")
        print(encoded.stdout + encoded.stderr)
        coded = sorted((work / "coded").rglob("*.esd"))
        left = [p for p in (work / "coded").rglob("*") if p.is_file() and p.suffix != ".esd"]
        print(f"{len(coded)} coded files of {len(files)}, {len(left)} other files")

        decode = [*ESDCODEC, "decode", str(work / "coded"), "-o", str(work / "decoded"), "--jobs", str(args.jobs)]
        decoded_all = subprocess.run([*decode, "--device", "cpu"], check=False, capture_output=True, text=True)
        print(f"decoded, exit code {decoded_all.returncode}\n{decoded_all.stdout}{decoded_all.stderr}")

        codec = esdcodec.load(device="cpu")
        wrong = different_codes = n_codes = 0
        difference = 0.0
        for job in find_jobs([listed]):
            waveform, rate = read(job.source)
            alone = codec.encode(waveform, rate, n_quantizers=3)[0].numpy()
            with open(work / "coded" / f"{job.target}.esd", "rb") as stream:
                codes = Reader(stream).read()
            decoded, decoded_rate = read(work / "decoded/coded" / f"{job.target}.wav")
            wrong += codes.shape != alone.shape or (decoded_rate, len(decoded)) != (rate, len(waveform))
            if codes.shape == alone.shape:
                different_codes += int((codes != alone).sum())
                n_codes += alone.size
            audio = codec.decode(torch.from_numpy(codes)[None])[0, 0].numpy()
            expected = resample(audio, codec.sample_rate, rate)[: len(decoded)].clip(-1, 1)
            difference = max(difference, float(np.abs(decoded[: len(expected)] - expected).max()))
        print(f"{wrong} files of another length; {different_codes} of {n_codes} codes differ from encoding alone")
        print(f"decoded samples differ by {difference:.1e} at most from decoding alone; 16 bits: {2**-16:.1e}")
    if encoded.returncode or decoded_all.returncode or left or wrong or len(coded) != len(files):
        sys.exit(1)


if __name__ == "__main__":
    main()
