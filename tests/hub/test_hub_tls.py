"""Certificates are checked."""

import subprocess

import pytest
from conftest import small_files
from fake_hub import FakeHub


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    paths = (folder / "cert.pem", folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", paths[1], "-out", paths[0], "-days", "2", "-subj", "/CN=hub",
                    "-addext", "subjectAltName=IP:127.0.0.1,IP:127.0.0.2"], check=True, capture_output=True)
    return paths


@pytest.fixture
def tls_hub(certificate):
    fake = FakeHub(small_files(), tls=certificate)
    yield fake
    fake.close()


def test_a_trusted_certificate(tls_hub, cache, certificate):
    cache.pull_ok(tls_hub, SSL_CERT_FILE=str(certificate[0]))


def test_an_unknown_certificate_is_refused_at_once(tls_hub, cache):
    error = cache.pull_fails(tls_hub)
    assert "certificate" in error and "tried" not in error
    assert tls_hub.requests == []


def test_no_way_back_from_https_to_http(tls_hub, cache, certificate):
    tls_hub.cdn_url = "http" + tls_hub.cdn_url.removeprefix("https")
    assert "not https" in cache.pull_fails(tls_hub, SSL_CERT_FILE=str(certificate[0]))
