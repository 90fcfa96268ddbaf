"""Files are found in order, downloaded once, and trusted only by their sha256."""

import gzip
import hashlib
import os
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from certnet.core.errors import DatasetError
from certnet.data import load_dataset
from certnet.data.fetch import cache_folder, fetch_file
from certnet.data.registry import UPSTREAM_URL, DatasetInfo, RemoteFile, dataset_info
from certnet.data.uci import read_uci

CONTENT = b"certnet" * 40


def _remote(name, content):
    return RemoteFile(f"uci/toy/{name}", f"toy/{name}", len(content), hashlib.sha256(content).hexdigest())


FILE = _remote("data.csv.gz", CONTENT)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A cache of this test's own, no data home, and no proxy between it and 127.0.0.1."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("CERTNET_DATA_HOME", "CERTNET_DATA_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        if self.path not in server.served:
            self.send_error(404, "Not Found")
            return
        content, length = server.served[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served, self.asked = {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def serve(self, path, content, length=None):
        self.served[path] = (content, len(content) if length is None else length)

    def handle_error(self, request, client_address):
        pass  # a client that hangs up early is meant here


@pytest.fixture
def server():
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _files(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def _put(folder, content, file=FILE):
    path = Path(folder) / file.local
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_download_is_kept_in_the_cache_and_not_repeated(server, places):
    server.serve("/toy/data.csv.gz", CONTENT)
    for _ in range(2):
        assert fetch_file(FILE, base_url=server.url + "/") == CONTENT
    assert server.asked == ["/toy/data.csv.gz"]
    assert _files(places) == [cache_folder() / FILE.local]
    assert fetch_file(FILE, download=False) == CONTENT


def test_address_from_the_environment_and_nothing_written_to_the_data_home(server, places, monkeypatch):
    home = places / "home"
    home.mkdir()
    monkeypatch.setenv("CERTNET_DATA_HOME", str(home))
    monkeypatch.setenv("CERTNET_DATA_URL", server.url)
    server.serve("/toy/data.csv.gz", CONTENT)
    assert fetch_file(FILE) == CONTENT
    assert _files(home) == []
    assert _files(cache_folder()) == [cache_folder() / FILE.local]


def test_argument_comes_before_environment_before_cache(places, monkeypatch):
    by_argument, by_environment = places / "argument", places / "environment"
    _put(cache_folder(), CONTENT)
    monkeypatch.setenv("CERTNET_DATA_HOME", str(by_environment))
    assert fetch_file(FILE, download=False) == CONTENT
    _put(by_environment, b"second")
    with pytest.raises(DatasetError, match="environment"):
        fetch_file(FILE, download=False)
    _put(by_argument, CONTENT)
    assert fetch_file(FILE, data_home=by_argument, download=False) == CONTENT


@pytest.mark.parametrize("wrong", [CONTENT[:-1] + b"x", CONTENT[:-1], CONTENT + b"x", b""])
def test_found_file_of_another_content_is_refused_and_left_alone(places, monkeypatch, wrong):
    monkeypatch.setenv("CERTNET_DATA_HOME", str(places / "home"))
    path = _put(places / "home", wrong)
    with pytest.raises(DatasetError, match=r"is not the expected file .*remove it"):
        fetch_file(FILE)
    assert path.read_bytes() == wrong


@pytest.mark.parametrize(
    ("content", "length", "match"),
    [
        (CONTENT[:-1] + b"x", None, "its sha256 is [0-9a-f]{64}, [0-9a-f]{64} is expected"),
        (CONTENT[:100], len(CONTENT), "it has 100 bytes, 280 are expected"),
        (CONTENT[:100], None, "it has 100 bytes, 280 are expected"),
        (b"", None, "it has 0 bytes"),
        (CONTENT * 1000, None, "it has more than 280 bytes"),
    ],
)
def test_wrong_download_is_refused_and_leaves_nothing(server, places, content, length, match):
    server.serve("/toy/data.csv.gz", content, length)
    with pytest.raises(DatasetError, match=match):
        fetch_file(FILE, base_url=server.url)
    assert _files(places) == []


def test_not_found_says_what_to_do(server, places):
    with pytest.raises(DatasetError, match="HTTP 404") as caught:
        fetch_file(FILE, base_url=server.url)
    message = str(caught.value)
    assert f"{server.url}/toy/data.csv.gz" in message
    assert "CERTNET_DATA_HOME is not set" in message
    assert f"FOLDER/{FILE.local}" in message
    assert str(cache_folder()) in message
    assert _files(places) == []


def test_nobody_listening(places):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DatasetError, match=r"Connection refused.*set CERTNET_DATA_HOME"):
        fetch_file(FILE, base_url=f"http://127.0.0.1:{port}")
    assert _files(places) == []


def test_server_that_never_answers(places, monkeypatch):
    honest, waits = urllib.request.urlopen, []

    def open_once(request, timeout):
        waits.append(timeout)
        return honest(request, timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", open_once)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(DatasetError, match=r"timed out.*set CERTNET_DATA_HOME"),
    ):
        fetch_file(FILE, base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
    assert waits == [0.2]
    assert _files(places) == []


def test_server_that_drips_is_not_waited_for(places):
    stop = threading.Event()

    def drip(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 280\r\n\r\n")
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        try:
            with pytest.raises(DatasetError, match=r"not complete after 0\.3 seconds"):
                fetch_file(FILE, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3)
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("address", ["file:///etc", "ftp://127.0.0.1", "example", "http://", "http://127.0.0.1:port"])
def test_other_addresses_are_refused(address):
    with pytest.raises(DatasetError, match="the download failed"):
        fetch_file(FILE, base_url=address)


def test_download_off_names_the_upstream_address(places, monkeypatch):
    monkeypatch.setenv("CERTNET_DATA_HOME", str(places / "gone"))
    with pytest.raises(DatasetError, match=r"CERTNET_DATA_HOME, which is not a folder.*download=False") as caught:
        load_dataset("servo", download=False)
    assert f"{UPSTREAM_URL}/servo/data.csv.gz" in str(caught.value)


def test_data_home_must_be_a_folder(places):
    with pytest.raises(DatasetError, match="is not a folder"):
        load_dataset("servo", data_home=places / "none")


def test_cache_that_cannot_be_written(server, places, monkeypatch):
    (places / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "file"))
    server.serve("/toy/data.csv.gz", CONTENT)
    with pytest.raises(DatasetError, match=r"cannot be kept .*set XDG_CACHE_HOME"):
        fetch_file(FILE, base_url=server.url)


def test_cache_folder_ignores_a_relative_setting(monkeypatch, places):
    monkeypatch.setenv("HOME", str(places))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "certnet"


def test_table_and_mask_are_read_as_written(server):
    rng = np.random.default_rng(0)
    table, folds = np.round(rng.normal(size=(20, 3)), 4), np.arange(20) % 10
    files = []
    for name, rows, form in (
        ("data.csv.gz", table, "%.4f"),
        ("test_mask.csv.gz", folds[:, None] == np.arange(10), "%d"),
    ):
        text = "\n".join(",".join(form % value for value in row) for row in rows)
        content = gzip.compress(text.encode())
        server.serve(f"/toy/{name}", content)
        files.append(_remote(name, content))
    info = DatasetInfo("toy", 20, 2, 20, ("a", "b"), "y", "made here", "none", "", tuple(files))
    samples = read_uci(info, 3, base_url=server.url)
    np.testing.assert_array_equal(samples.X, table[:, :2])
    np.testing.assert_array_equal(samples.y, table[:, 2])
    np.testing.assert_array_equal(np.flatnonzero(samples.is_test), [3, 13])


DATA_HOME = os.environ.get("CERTNET_DATA_HOME")


@pytest.mark.skipif(not DATA_HOME, reason="CERTNET_DATA_HOME is not set")
def test_named_set_is_downloaded_once(server):
    for file in dataset_info("servo").files:
        server.serve(f"/{file.remote}", (Path(DATA_HOME) / file.local).read_bytes())
    first = load_dataset("servo", base_url=server.url)
    assert server.asked == ["/servo/data.csv.gz", "/servo/test_mask.csv.gz"]
    again = load_dataset("servo", base_url=server.url)
    assert len(server.asked) == 2
    np.testing.assert_array_equal(first.X_train, again.X_train)
