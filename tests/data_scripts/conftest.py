"""What the tests of the data scripts share: the small sets of tests/data, the scripts, and a server on loopback."""

import functools
import importlib.util
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def small_sets() -> ModuleType:
    """The functions write_<set>, jpeg and zip_up."""
    return _module(HERE.parents[1] / "data" / "conftest.py")


@pytest.fixture
def load_script():
    """``load_script("wikipedia")``: a fresh module of data_scripts/get_wikipedia.py."""
    return lambda name: _module(HERE.parents[2] / "data_scripts" / f"get_{name}.py")


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; the file ``cut`` breaks off after that many bytes, the file ``gone`` is a 404."""

    cut: tuple[str, int] = ("", 0)
    gone = ""
    asked: list[str]
    url = ""

    def do_GET(self):
        name = self.path.lstrip("/")
        self.asked.append(name + (self.headers.get("Range") or ""))
        if name == self.gone:
            self.send_error(404)
            return
        body = (Path(self.directory) / name).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : self.cut[1] if name == self.cut[0] else len(body)])

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """``serve(folder)``: a handler class with ``url``, ``cut``, ``gone`` and ``asked``, as long as the test runs."""
    running = []

    def start(folder: Path) -> type[Handler]:
        handler = type("FolderHandler", (Handler,), {"asked": []})
        http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
        handler.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((http, thread))
        return handler

    yield start
    for http, thread in running:
        http.shutdown()
        thread.join()
        http.server_close()
