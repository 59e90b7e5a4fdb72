"""How far a long file is: seconds of audio, times real time, and the time that is left."""

from collections.abc import Callable

from tqdm import tqdm

Progress = Callable[[float, float | None], None]  # seconds of audio that are done, and of how many (None: not known)


class SecondsBar(tqdm):
    """A bar that is called as a `Progress`; it begins anew where the seconds do, as decoding does after encoding."""

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
