"""How a look-ahead that is smaller than the exact one is spread over the steps of the network."""

from collections.abc import Mapping

# as measured with the bundled model on real speech (benchmarks/latency.py)
ENCODER_WEIGHTS = {"encoder": 2, "semantic decoder": 1}
DECODER_WEIGHTS = {"semantic decoder": 3, "condition network": 4, "decoder": 2}


def spread(n_frames: int, weights: Mapping[str, int], most: Mapping[str, int]) -> dict[str, int]:
    """`n_frames` for steps in proportion to `weights`, no step more than its `most` (Sainte-Laguë's way to round)."""
    given = dict.fromkeys(weights, 0)
    for _ in range(min(n_frames, sum(most.values()))):
        open_steps = [name for name in given if given[name] < most[name]]
        given[max(open_steps, key=lambda name: weights[name] / (2 * given[name] + 1))] += 1
    return given
