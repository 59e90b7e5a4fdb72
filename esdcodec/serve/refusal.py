"""What a request is answered that is not served."""

from fastapi.responses import JSONResponse

from ..audio import AudioFileError
from ..bitstream import BitstreamError, WrongModel

RETRY_SECONDS = 1


class Refusal(Exception):
    """A request is not served; its status and a sentence for the client.

    Args:
        retry: whether the same request may be served later.
    """

    def __init__(self, status: int, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.status, self.retry = status, retry


def refusal_of(error: Exception) -> Refusal | None:
    """The answer to a request that failed by what was sent; None: by a fault of the server."""
    if isinstance(error, Refusal):
        return error
    for kind, status in ((WrongModel, 409), (AudioFileError, 415), (BitstreamError, 422), (ValueError, 400)):
        if isinstance(error, kind):
            return Refusal(status, str(error))
    return None


def answer(refusal: Refusal) -> JSONResponse:
    """The refusal as JSON: `{"error": {"message": …, "code": …}}`."""
    headers = {"retry-after": str(RETRY_SECONDS)} if refusal.retry else {}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    content = {"error": {"message": str(refusal), "code": refusal.status}}
    return JSONResponse(content, refusal.status, headers)
