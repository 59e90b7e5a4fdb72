"""Whether there is a Ray, and whether a cluster answers at an address."""

import os
import socket
from typing import Any

ANSWER = 10.0  # seconds in which it must
# Ray's servers speak gRPC: to the preface of HTTP/2 and empty settings they answer with settings of their own
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def import_ray() -> Any:
    """The module `ray`.

    Raises:
        ImportError: it is not installed; the message says how it gets there.
    """
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise ImportError("--engine ray needs Ray: pip install 'esdcodec[ray]'") from error
    return ray


def check_answers(address: str | None) -> None:
    """Find out in `ANSWER` seconds what Ray would try for a quarter of an hour.

    Args:
        address: as `ray.init` takes it. What it finds or starts by itself (None, `auto`, `local`) is left to it.

    Raises:
        ValueError: it is no address.
        ConnectionError: nothing answers there, or nothing that can be Ray.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address in (None, "", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "://" in address:
        raise ValueError(
            f"{address!r} is no address of a Ray cluster, such as 10.0.0.1:6379, auto or local; from outside of the "
            "cluster use `ray job submit`"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER) as connection:
            if os.environ.get("RAY_USE_TLS") != "1":
                connection.settimeout(ANSWER)
                connection.sendall(HELLO)
                if not connection.recv(1):
                    raise ConnectionError("it is no Ray cluster")
    except (OSError, OverflowError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}): `ray status` on its head tells the address"
        ) from error
