"""A call over UDP, one way: packets of 1 to 4 frames in, speech out. What gets lost on the way is concealed.

    python examples/call.py hear 0.0.0.0 --port 5004 --output heard.wav    # without --output: loudspeaker
    python examples/call.py say HOST --port 5004 --input talk.wav          # without --input: microphone

A packet is a number and a part of an `.esd` file: the header, which comes again every second, a block, whose checksum
covers the number, or the end marker. `say --loss 0.05` throws packets away to hear what concealment makes of it.
"""

from __future__ import annotations

import argparse
import io
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from live import Samples, Sink, files, meter, sound_card

import esdcodec
from esdcodec import ESDCodec
from esdcodec.audio import write
from esdcodec.bitstream import BitstreamError, Header, Writer, parse_end, read_block, read_header
from esdcodec.concealment import ConcealingDecoder

NUMBER = struct.Struct(">I")  # of a packet: 0 is the header, 1 + i block i
PATIENCE = 10.0  # seconds without a packet after which the other side is gone


class Packets:
    """A file whose every write is a packet: `Writer` writes the header, then block by block."""

    def __init__(self, link: socket.socket, loss: float) -> None:
        self.link, self.loss = link, loss
        self.written: list[bytes] = []
        self.n_bytes, self.random = 0, random.Random(0)

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) == 1 or self.random.random() >= self.loss:
            self.send(len(self.written) - 1)

    def send(self, number: int) -> None:
        packet = NUMBER.pack(number) + self.written[number]
        self.n_bytes += len(packet)
        self.link.send(packet)

    def flush(self) -> None:
        pass


def say(args: argparse.Namespace) -> None:
    codec = load(args.model)
    encoder = codec.stream_encoder(n_quantizers=args.n_quantizers, look_ahead_ms=args.look_ahead)
    bits = tuple((size - 1).bit_length() for size in codec.codebook_sizes[: encoder.n_quantizers])
    rate, hop = codec.sample_rate, codec.hop_length
    header = Header(codec.name, codec.fingerprint[:8], rate, hop, rate, bits, block_frames=args.frames)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect((args.host, args.port))
        packets = Packets(link, args.loss)
        writer = Writer(packets, header)  # type: ignore[arg-type]
        size, started, n_samples = args.frames * hop, time.monotonic(), 0
        with files(codec, size, args.input, None) if args.input else sound_card(codec, size) as (source, _):
            for samples in source:
                if args.input:  # as slowly as it was spoken
                    time.sleep(max(0.0, started + n_samples / rate - time.monotonic()))
                if (n_samples + len(samples)) // rate > n_samples // rate:
                    packets.send(0)
                n_samples += len(samples)
                writer.write(encoder.push(torch.from_numpy(samples).to(codec.device))[0].cpu().numpy())
                print(
                    f"\r{meter(samples)} {8 * packets.n_bytes * rate / n_samples:.0f} bit/s ", end="", file=sys.stderr
                )
        writer.write(encoder.finish()[0].cpu().numpy())
        writer.finish(n_samples)
        for _ in range(3):  # one of them will come
            packets.send(len(packets.written) - 1)
    print(file=sys.stderr)


class Listener:
    """What becomes of packets: audio, in order, with nothing left out."""

    def __init__(self, codec: ESDCodec, look_ahead_ms: float | None) -> None:
        self.codec = codec
        self.decoder = ConcealingDecoder(codec.stream_decoder(look_ahead_ms=look_ahead_ms))
        self.header: Header | None = None
        self.next = self.n_lost = 0  # blocks
        self.n_samples: int | None = None  # of the whole, when it has ended

    def take(self, packet: bytes) -> Iterator[Samples]:
        """The audio that a packet completes."""
        (number,), data = NUMBER.unpack(packet[: NUMBER.size]), packet[NUMBER.size :]
        if number == 0 and self.header is None:
            self.header = read_header(io.BytesIO(data))
            self.header.check_model(self.codec.name, self.codec.fingerprint)
        elif self.header is not None and number > self.next and self.n_samples is None:  # no copy, and not too late
            end = parse_end(data)
            if end is not None:
                n_blocks = -(-self.header.num_frames(end) // self.header.block_frames)
                yield from self._lose(n_blocks - self.next)
                self.n_samples = end
                yield self._samples(self.decoder.finish())
                return
            block = read_block(self.header, number - 1, data, data[0])
            if block.codes is None:  # damaged on the way, perhaps its number: as if it had not come
                raise BitstreamError(f"packet {number} is damaged")
            yield from self._lose(number - 1 - self.next)
            self.next += 1
            yield self._samples(self.decoder.push(torch.from_numpy(block.codes)[None].to(self.codec.device)))

    def _lose(self, n_blocks: int) -> Iterator[Samples]:
        assert self.header is not None
        self.next, self.n_lost = self.next + n_blocks, self.n_lost + n_blocks
        if n_blocks:
            yield self._samples(self.decoder.lose(n_blocks * self.header.block_frames))

    @staticmethod
    def _samples(audio: torch.Tensor) -> Samples:
        samples: Samples = audio[0, 0].cpu().numpy()
        return samples


def hear(args: argparse.Namespace) -> Listener:
    codec = load(args.model)
    listener, collected = Listener(codec, args.look_ahead), list[Samples]()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind((args.host, args.port))
        link.settimeout(PATIENCE)
        print(f"listening on port {link.getsockname()[1]}", file=sys.stderr, flush=True)
        if args.output:
            receive(link, listener, collected.append)
        else:
            with sound_card(codec, codec.hop_length) as (_, play):
                receive(link, listener, play)
    print(f"\n{listener.n_lost} of {listener.next} packets were lost", file=sys.stderr)
    if args.output and collected:
        write(args.output, np.concatenate(collected)[: listener.n_samples], codec.sample_rate)
    return listener


def receive(link: socket.socket, listener: Listener, sink: Sink) -> None:
    while listener.n_samples is None:
        try:
            packet = link.recv(65536)
            for samples in listener.take(packet):
                sink(samples)
                print(f"\r{meter(samples)} {listener.n_lost} lost ", end="", file=sys.stderr)
        except (BitstreamError, struct.error, IndexError) as error:
            print(f"\na packet that is none of a call: {error}", file=sys.stderr)
        except TimeoutError:
            print(f"\nnothing came for {PATIENCE:g} s", file=sys.stderr)
            return


def load(model: str | None) -> ESDCodec:
    return esdcodec.load(model) if model else esdcodec.load()


def main(arguments: list[str] | None = None) -> Listener | None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work in (say, hear):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        command.add_argument("host", nargs="?", default="127.0.0.1", help="to talk to, or the address to listen on")
        command.add_argument("--port", type=int, default=5004)
        command.add_argument("--model", default=None, help="as `esdcodec.load` takes it (default: the bundled one)")
        command.add_argument("--look-ahead", type=float, default=120, help="ms")
        if work is say:
            command.add_argument("-n", "--n-quantizers", type=int, default=None, help="codebooks (default: all)")
            command.add_argument("--frames", type=int, choices=(1, 2, 3, 4), default=2, help="of a packet")
            command.add_argument("--loss", type=float, default=0.0, help="share of the packets to throw away")
            command.add_argument("--input", help="a recording, instead of the microphone")
        else:
            command.add_argument("--output", help="a file, instead of the loudspeaker")
    args = parser.parse_args(arguments)
    listener: Listener | None = args.work(args)
    return listener


if __name__ == "__main__":
    main()
