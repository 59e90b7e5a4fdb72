"""What a server counts, in Prometheus' text format."""

from collections import Counter, defaultdict
from collections.abc import Callable

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


class Metrics:
    """Counters, a histogram of times, and gauges that are asked when they are shown.

    Args:
        gauges: name -> what it is, and the function that tells it.
    """

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self.gauges = gauges
        self.requests: Counter[tuple[str, int]] = Counter()  # by path and status
        self.audio_seconds: defaultdict[str, float] = defaultdict(float)  # by path
        self.within: dict[str, list[int]] = {}  # by path: requests of each bucket, the last one for all above
        self.total_seconds: defaultdict[str, float] = defaultdict(float)  # by path

    def add_request(self, path: str, status: int, seconds: float) -> None:
        self.requests[path, status] += 1
        bucket = next((i for i, limit in enumerate(BUCKETS) if seconds <= limit), len(BUCKETS))
        self.within.setdefault(path, [0] * (len(BUCKETS) + 1))[bucket] += 1
        self.total_seconds[path] += seconds

    def add_audio(self, path: str, seconds: float) -> None:
        self.audio_seconds[path] += seconds

    def text(self) -> str:
        lines = _family("requests_total", "counter", "Requests that were answered.")
        lines += [f'esdcodec_requests_total{{path="{p}",status="{s}"}} {n}' for (p, s), n in self.requests.items()]
        lines += _family("audio_seconds_total", "counter", "Seconds of audio that were coded.")
        lines += [f'esdcodec_audio_seconds_total{{path="{p}"}} {n:.3f}' for p, n in self.audio_seconds.items()]
        lines += _family("request_seconds", "histogram", "Time from a request's head to the end of its answer.")
        for path, counts in self.within.items():
            total = 0
            for limit, count in zip((*BUCKETS, "+Inf"), counts):
                total += count
                lines.append(f'esdcodec_request_seconds_bucket{{path="{path}",le="{limit}"}} {total}')
            lines.append(f'esdcodec_request_seconds_sum{{path="{path}"}} {self.total_seconds[path]:.3f}')
            lines.append(f'esdcodec_request_seconds_count{{path="{path}"}} {total}')
        for name, (what, value) in self.gauges.items():
            lines += [*_family(name, "gauge", what), f"esdcodec_{name} {value():g}"]
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP esdcodec_{name} {what}", f"# TYPE esdcodec_{name} {kind}"]
