"""TLS and tokens."""
import shutil
import subprocess

import grpc
import pytest
from conftest import TEXT
from fake_server import FakeServer
from lectern_client import Client, UnavailableError


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """An authority, and a key pair that it signed for 127.0.0.1 and lectern.example."""
    openssl = shutil.which("openssl")
    assert openssl, "openssl makes the certificates of this test"
    folder = tmp_path_factory.mktemp("keys")

    def run(*arguments):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *new_key, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key",
        "-out", "ca.pem")
    run("req", *new_key, "-subj", "/CN=pair", "-keyout", "pair.key", "-out", "pair.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:lectern.example")
    run("x509", "-req", "-in", "pair.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "pair.pem")
    return folder


@pytest.fixture
def tls_server(keys):
    pair = ((keys / "pair.key").read_bytes(), (keys / "pair.pem").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (keys / "ca.pem").read_bytes(),
                                              require_client_auth=True)
    fake = FakeServer(credentials)
    yield fake
    fake.stop()


def test_mutual_tls_with_a_token(connect, tls_server, keys):
    client = connect(tls_server.target, tls_ca=keys / "ca.pem", tls_cert=keys / "pair.pem",
                     tls_key=keys / "pair.key", token="abc.def")
    document = client.upload(TEXT)
    assert tls_server.metadata["authorization"] == "Bearer abc.def"
    assert client.result(document, "When?").text == "At 03:14."


def test_the_name_in_the_certificate(connect, tls_server, keys):
    pair = {"tls_ca": keys / "ca.pem", "tls_cert": keys / "pair.pem", "tls_key": keys / "pair.key"}
    named = connect(tls_server.target, tls_server_name="lectern.example", **pair)
    assert named.result(None, "When?", text="x").text == "At 03:14."
    other = connect(tls_server.target, tls_server_name="other.example", timeout=1, **pair)
    with pytest.raises((UnavailableError, TimeoutError)):
        other.result(None, "When?", text="x")
    resolved = connect(f"dns:///localhost:{tls_server.port}", tls_server_name="lectern.example", **pair)
    assert resolved.result(None, "When?", text="x").text == "At 03:14."


def test_who_has_no_certificate_is_not_heard(connect, tls_server, keys):
    client = connect([tls_server.target, tls_server.target], tls_ca=keys / "ca.pem", timeout=2)
    with pytest.raises((UnavailableError, TimeoutError)):
        client.result(None, "When?", text="x")
    assert tls_server.asks == 0


def test_a_token_on_plain_text_stays_on_this_machine(connect, server):
    client = connect(server.target, token="secret", tenant="team-a")
    client.upload(TEXT)
    assert server.metadata["authorization"] == "Bearer secret"
    assert server.metadata["x-lectern-tenant"] == "team-a"
    for target in ("192.0.2.1:8001", "lectern.example:8001", "127.0.0.1:1,192.0.2.1:1",
                   "dns:///lectern:8001"):
        with pytest.raises(ValueError, match="TLS"):
            Client(target, token="secret")
    Client("192.0.2.1:8001", token="secret", tls=True).close()
    for target in ("localhost:8001", "[::1]:8001", "unix:/run/lectern", "127.0.0.1:1,127.0.0.1:2"):
        Client(target, token="secret").close()


def test_wrong_combinations(keys):
    with pytest.raises(ValueError, match="belong together"):
        Client(tls_cert=keys / "pair.pem")
    with pytest.raises(ValueError, match="excludes"):
        Client(tls=False, tls_ca=keys / "ca.pem")
    with pytest.raises(ValueError, match="token"):
        Client(token="two\nlines")
    with pytest.raises(FileNotFoundError):
        Client(tls_ca=keys / "absent.pem")
