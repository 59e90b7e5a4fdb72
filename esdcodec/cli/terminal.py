"""Output on a terminal: text without control characters, and the progress of a long file."""

from tqdm import tqdm


def printable(text: object) -> str:
    """One line of text for a terminal; what is not printable, such as control characters, is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


class SecondsBar(tqdm):
    """The `FileProgress` of `infer.files` as a bar; it starts again at 0 where they do, as decoding after encoding."""

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
        known = total if total is not None and done <= total else None  # some files are longer than they state
        self.total, self.bar_format = known, self._format(known)
        self.update(done - self.n)
