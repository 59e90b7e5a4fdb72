"""Which synthetic voices are for what, and voices that nobody has: mixtures of those for training.

The name of a voice says its language and sex: `am_adam` is an American man. Splits are by voice: what is tested was
never heard in training, alone or in a mixture.
"""

from pathlib import Path

import numpy as np

TEST = ("af_river", "am_onyx", "bf_lily", "bm_lewis")  # the unseen test set
RESERVED = ("af_alloy", "am_eric", "bf_alice", "bm_fable")  # for a final test: never synthesised here
LANGUAGES = {  # first letter of a voice: language of its texts, espeak's name of it
    "a": ("en", "en-us"),
    "b": ("en", "en-gb"),
    "e": ("es", "es"),
    "f": ("fr", "fr-fr"),
    "h": ("hi", "hi"),
    "i": ("it", "it"),
    "j": ("ja", "ja"),
    "p": ("pt", "pt-br"),
    "z": ("zh", "cmn"),
}
MIXED_SHARE = 0.5  # of the utterances, in mixed voices
MALE_SHARE = 0.6  # pitches below 120 Hz are the hardest to code, and the rarest in recordings

Style = np.ndarray  # [510, 1, 256]: for each number of phonemes, a vector


def read_voices(kokoro_js: Path) -> dict[str, Style]:
    """All voices of npm's kokoro-js but the reserved ones."""
    styles = {
        path.stem: np.fromfile(path, np.float32).reshape(510, 1, 256)
        for path in sorted((kokoro_js / "voices").glob("*.bin"))
    }
    return {name: style for name, style in styles.items() if name not in RESERVED}


def draw_voice(styles: dict[str, Style], random: np.random.Generator) -> tuple[str, Style]:
    """A voice for training: one of them, or of two or three of one sex a mixture, timbre and manner apart.

    The first half of a style's numbers is what it sounds like, the second how it speaks.
    """
    sex = "m" if random.random() < MALE_SHARE else "f"
    names = [name for name in styles if name[1] == sex and name not in TEST]
    if random.random() >= MIXED_SHARE:
        name = str(random.choice(names))
        return name, styles[name]
    parts = [str(name) for name in random.choice(names, random.integers(2, 4), replace=False)]
    timbre, manner = random.dirichlet(np.ones(len(parts)), 2)
    style = np.concatenate(
        [
            sum(w * styles[name][..., half] for w, name in zip(weights, parts))
            for weights, half in ((timbre, slice(0, 128)), (manner, slice(128, 256)))
        ],
        axis=-1,
    ).astype(np.float32)
    weights = "-".join(f"{name[3:]}{100 * w:.0f}" for w, name in zip(timbre, parts))
    return f"{parts[0][0]}{sex}_{weights}", style
