"""What a terminal is shown: text that cannot command it, and how far a long file is."""

from tqdm import tqdm


def printable(text: object) -> str:
    """Text for a terminal, in one line: what it would not show, or obey, is shown as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


class SecondsBar(tqdm):
    """The `FileProgress` of `infer.files` as a bar; it begins anew where they do, as decoding does after encoding."""

    def __init__(self, *, disable: bool) -> None:
        super().__init__(unit="s", disable=disable, leave=False, bar_format=self._format(None))

    @staticmethod
    def _format(total: float | None) -> str:
        if total is None:
            return "{n:.0f} s of audio [{rate_noinv_fmt}]"
        return "{percentage:3.0f} %|{bar}| {n:.0f} of {total:.0f} s of audio [{rate_noinv_fmt}, {remaining} left]"

    def __call__(self, done: float, total: float | None) -> None:
        if self.disable:
            return
        if done < self.n:
            self.reset()
        known = total if total is not None and done <= total else None  # some files state less than they have
        self.total, self.bar_format = known, self._format(known)
        self.update(done - self.n)
