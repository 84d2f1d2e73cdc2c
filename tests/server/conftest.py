import pytest
from client import Gantry
from openai import OpenAI


@pytest.fixture(scope="session")
def gantry():
    server = Gantry()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def api(gantry):
    return OpenAI(base_url=gantry.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def model(api):
    return api.models.list().data[0].id


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """After every test that used the shared server, it holds nothing and still runs."""
    yield
    if "gantry" in request.fixturenames:
        server = request.getfixturevalue("gantry")
        server.wait_until_idle()
        assert server.process.poll() is None
