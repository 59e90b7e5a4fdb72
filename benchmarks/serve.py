"""A running server under load: latencies, refusals, and whether every answer is the right one.

    esdcodec serve --port 8024 &
    python benchmarks/serve.py http://127.0.0.1:8024 --clients 8 --seconds 30

Clients encode the bundled recording again and again, or have a text said (`--say TEXT`; the server has `--tts MODEL`).
Every tenth leaves in the middle of its request. What is refused is sent again after the time that the server says. At
the end no slot of the server may be held.
"""

import argparse
import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

import esdcodec

RECORDING = Path(esdcodec.__file__).parent / "assets" / "sample.flac"


class Load:
    """Clients of one server, and what they saw."""

    def __init__(self, http: httpx.AsyncClient, until: float, text: str | None) -> None:
        self.http, self.until = http, until
        self.path = "/v1/codec/encode?n=3" if text is None else "/v1/audio/speech"
        said = {"input": text, "response_format": "pcm", "seed": 1}
        self.request = {"content": RECORDING.read_bytes()} if text is None else {"json": said}
        self.first: list[float] = []  # seconds until the answer begins
        self.seen: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.expected: bytes | None = None

    async def client(self, number: int) -> None:
        turn = number
        while time.perf_counter() < self.until:
            turn += 1
            if turn % 10 == 0:
                await self.leave()
            else:
                await self.ask()

    async def ask(self) -> None:
        started = time.perf_counter()
        async with self.http.stream("POST", self.path, **self.request) as answer:
            if answer.status_code == 200:
                self.first.append(time.perf_counter() - started)
            await answer.aread()
        if answer.status_code == 503:
            self.seen["refused"] += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
            return
        self.expected = self.expected or answer.content
        right = answer.status_code == 200 and answer.content == self.expected
        self.seen["answered" if right else f"wrong ({answer.status_code})"] += 1
        self.latencies.append(time.perf_counter() - started)

    async def leave(self) -> None:
        asking = asyncio.create_task(self.http.post(self.path, **self.request))
        await asyncio.sleep(0.05)
        asking.cancel()
        self.seen["left"] += 1


async def run(url: str, clients: int, seconds: float, token: str | None, text: str | None) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, trust_env=False) as http:
        load = Load(http, time.perf_counter() + seconds, text)
        await asyncio.gather(*(load.client(number) for number in range(clients)))
        held = "requests_held"
        for _ in range(100):  # what was left is being given up
            lines = (await http.get("/metrics")).text.splitlines()
            if "esdcodec_requests_held 0" in lines:
                held = "none"
                break
            await asyncio.sleep(0.1)
    print("requests ", ", ".join(f"{n} {what}" for what, n in load.seen.items()))
    for name, times in (("first    ", load.first), ("latency  ", load.latencies)):
        print(name, ", ".join(f"{q} %: {np.percentile(times, q):.3f} s" for q in (50, 90, 99)))
    print("speed    ", f"{len(load.latencies) / seconds:.1f} requests a second")
    print("held     ", held)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--token")
    parser.add_argument("--say", metavar="TEXT")
    args = parser.parse_args()
    asyncio.run(run(args.url, args.clients, args.seconds, args.token, args.say))
