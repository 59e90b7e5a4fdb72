"""What a linear classifier reads in a codec's codes: the phone that is said, in voices that it never heard.

    pip install pocketsphinx
    python benchmarks/probe.py --train SPEECH/train-00{0,1}.tar --test SPEECH/test-000.tar --models 25hz_nano CODEC

Shards are of English speech with texts. PocketSphinx finds the phones of a text in its recording; the phone of a frame
is that at its centre. The classifier, a softmax of one matrix, sees the latent of a frame and of the frames beside it,
as the encoder tells it, and as the codes of the first codebooks say. Printed are its accuracy, and what it knows of
the phone in bits: the entropy of phones less the cross-entropy of its answers.
"""

import argparse
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from pocketsphinx import Decoder
from torch import Tensor

from esdcodec import ESDCodec
from esdcodec.audio import read
from esdcodec.dataset.members import AUDIO, choose
from esdcodec.dataset.tar_stream import utterances

RATE = 16000  # of PocketSphinx
TICK = 0.01  # s: of its alignment
STEPS, LEARNING_RATE, DECAY = 400, 0.02, 1e-3
Utterance = tuple[np.ndarray, list[tuple[int, str]]]  # 16 kHz audio, and the tick at which each phone ends


def phones(decoder: Decoder, audio: np.ndarray, text: str) -> list[tuple[int, str]]:
    """Ends, in ticks, and names of the phones; none where a word is not in the dictionary."""
    words = re.findall(r"[a-z']+", text.lower())
    if not words or re.search(r"\d", text) or any(decoder.lookup_word(word) is None for word in words):
        return []
    samples = (audio.clip(-1, 1) * 32767).astype("<i2").tobytes()
    decoder.set_align_text(" ".join(words))
    try:
        _process(decoder, samples)
        decoder.set_alignment()  # of words; now that of their phones
        _process(decoder, samples)
    except RuntimeError:  # these words are not in this recording
        return []
    return [(phone.start + phone.duration, phone.name) for word in decoder.get_alignment() for phone in word]


def _process(decoder: Decoder, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()


def aligned(shards: Iterable[str]) -> Iterator[Utterance]:
    """The utterances that can be aligned."""
    decoder = Decoder(lm=None, loglevel="FATAL")
    for sample in chain.from_iterable(map(utterances, shards)):
        extension = choose(list(sample), AUDIO)
        if extension is None or "json" not in sample:
            continue
        audio = read(io.BytesIO(sample[extension]), RATE)[0]
        found = phones(decoder, audio, json.loads(sample["json"]).get("text") or "")
        if found:
            yield audio, found


def labels(found: Sequence[tuple[int, str]], n_frames: int, frame_rate: float, names: dict[str, int]) -> Tensor:
    """The number of the phone at each frame's centre, ``[L]``; silence after the last."""
    centres = (np.arange(n_frames) + 0.5) / frame_rate / TICK
    at = np.searchsorted([end for end, _ in found], centres, side="right")
    said = [name for _, name in found] + ["SIL"]
    return torch.tensor([names.setdefault(said[i], len(names)) for i in at])


def with_neighbours(latent: Tensor) -> Tensor:
    """``[C, L]`` -> ``[L, 3 C]``: of the frame before, of itself and of the one after."""
    before, after = F.pad(latent, (1, 0))[:, :-1], F.pad(latent, (0, 1))[:, 1:]
    return torch.cat([before, latent, after]).T


@torch.inference_mode()
def views(codec: ESDCodec, audio: np.ndarray, depths: Sequence[int]) -> dict[str, Tensor]:
    """Latents of a recording, ``[C, L]`` each: the encoder's own, and those of the first `n` codebooks."""
    codes = codec.encode(audio, RATE)
    waveform = torch.from_numpy(soxr.resample(audio, RATE, codec.sample_rate))[None, None]
    padded = F.pad(waveform, (0, codes.shape[2] * codec.hop_length - waveform.shape[2]))
    of_codes = {f"codebooks: {n}": codec.dequantize(codes[:, :n])[0] for n in depths}
    return {**of_codes, "encoder": codec.encode_latent(padded)[0, :, : codes.shape[2]]}


def collect(
    codec: ESDCodec, utterances_: Sequence[Utterance], depths: Sequence[int], names: dict[str, int]
) -> tuple[dict[str, Tensor], Tensor]:
    features: dict[str, list[Tensor]] = {}
    answers = []
    for audio, found in utterances_:
        seen = views(codec, audio, depths)
        for name, latent in seen.items():
            features.setdefault(name, []).append(with_neighbours(latent))
        answers.append(labels(found, next(iter(seen.values())).shape[1], codec.frame_rate, names))
    return {name: torch.cat(some) for name, some in features.items()}, torch.cat(answers)


def probe(x: Tensor, y: Tensor, unseen: Tensor, expected: Tensor, n_phones: int) -> tuple[float, float]:
    """Accuracy on unseen frames, and bits of information about their phones."""
    mean, std = x.mean(0), x.std(0).clamp_min(1e-4)
    x, unseen = (x - mean) / std, (unseen - mean) / std
    weight, bias = torch.zeros(n_phones, x.shape[1], requires_grad=True), torch.zeros(n_phones, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], LEARNING_RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    random = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        some = torch.randint(len(x), (2048,), generator=random)
        loss = F.cross_entropy(F.linear(x[some], weight, bias), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        logits = F.linear(unseen, weight, bias)
        right = (logits.argmax(1) == expected).float().mean().item()
        cross_entropy = F.cross_entropy(logits, expected).item()
    shares = torch.bincount(expected, minlength=n_phones) / len(expected)
    entropy = -(shares * shares.clamp_min(1e-9).log()).sum().item()
    return right, (entropy - cross_entropy) / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", required=True, help="shards")
    parser.add_argument("--test", nargs="+", required=True, help="shards of other voices")
    parser.add_argument("--models", nargs="+", default=["25hz_nano"])
    parser.add_argument("--codebooks", nargs="+", type=int, default=[1, 3, 12])
    parser.add_argument("--utterances", type=int, default=500, help="of each, at most (default %(default)s)")
    args = parser.parse_args()
    known, unseen = (list(islice(aligned(shards), args.utterances)) for shards in (args.train, args.test))
    print(f"{len(known)} utterances to learn from, {len(unseen)} to answer for")
    print("| model | latent | frames right | bits about the phone |\n| --- | --- | --- | --- |")
    for model in args.models:
        codec = ESDCodec.from_pretrained(model)
        names: dict[str, int] = {}
        (x, y), (x_unseen, y_unseen) = (collect(codec, some, args.codebooks, names) for some in (known, unseen))
        for view in x:
            right, bits = probe(x[view], y, x_unseen[view], y_unseen, len(names))
            print(f"| {model} | {view} | {right:.3f} | {bits:.2f} |", flush=True)


if __name__ == "__main__":
    main()
