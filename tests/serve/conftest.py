import pytest

from tests.serve.servers import client


@pytest.fixture(scope="module")
def http(server):
    """A client of the module's `server`."""
    with client(server) as http:
        yield http
