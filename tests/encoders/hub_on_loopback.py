"""A script: a hub on loopback serves one small BertModel under the name of a large one; the network fails and returns.

    python tests/encoders/hub_on_loopback.py FOLDER

FOLDER/model holds what is served. Writes what was found to FOLDER/found.json. It is a process of its own because
huggingface_hub reads its environment as it is imported.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1])
MODEL, HUB = FOLDER / "model", FOLDER / "hub"


class Hub(BaseHTTPRequestHandler):
    """The hub's answers to HEAD and GET of a file, and to what a revision holds. ``fail``: the weights break off."""

    fail = False
    asked: list[str] = []  # noqa: RUF012
    sent_half = False

    def do_HEAD(self):
        self.answer(send=False)

    def do_GET(self):
        self.answer(send=True)

    def answer(self, send: bool):
        self.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/api/models/"):
            return self.listing()
        found = re.fullmatch(r"/(.+)/resolve/([0-9a-f]{40})/([^/]+)", self.path)
        if found is None or not (MODEL / found[3]).is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = (MODEL / found[3]).read_bytes()
        broken = self.fail and send and found[3] == "model.safetensors"
        if broken and Hub.sent_half:
            return self.send_error(503)
        start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", found[2])
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if broken:
            Hub.sent_half, body = True, body[: len(body) // 2]
            self.close_connection = True
        if send:
            self.wfile.write(body[start:])

    def listing(self):
        files = [
            {"type": "file", "oid": "0", "size": path.stat().st_size, "path": path.name, "rfilename": path.name}
            for path in sorted(MODEL.iterdir())
        ]
        name, _, revision = self.path.removeprefix("/api/models/").partition("/revision/")
        info = {"id": name, "sha": revision, "siblings": files, "private": False, "tags": [], "downloads": 0}
        body = json.dumps(files if "/tree/" in self.path else info).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def serving(port: int):
    ThreadingHTTPServer.allow_reuse_address = True
    http = ThreadingHTTPServer(("127.0.0.1", port), Hub)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield http.server_port
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def error_of(make) -> str:
    try:
        make()
    except OSError as error:
        return str(error)
    raise AssertionError("there was no error")


def main():
    with serving(0) as port:
        pass
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(HUB), "HF_HUB_DISABLE_XET": "1"}
    os.environ.update(environment, COMMONSPACE_CACHE=str(FOLDER / "cache"), NO_PROXY="127.0.0.1")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        os.environ.pop(name, None)

    from huggingface_hub import constants

    from commonspace.encoders import Bert

    name, texts = "bert-base-uncased", ["a red cube", "make it larger"]
    found = {"texts": texts}
    constants.HF_HUB_OFFLINE = True  # as the variable of that name would; without it, half a minute of trying
    found["offline"] = error_of(lambda: Bert(name))
    constants.HF_HUB_OFFLINE = False
    found["after offline"] = [path.name for path in HUB.rglob("*") if path.is_file()]

    with serving(port):
        Hub.fail = True
        found["broken"] = error_of(lambda: Bert(name))
        (snapshot,) = (HUB / "hub").glob("models--*/snapshots/*")
        found["after broken"] = sorted(path.name for path in snapshot.iterdir())
        found["broken again"] = error_of(lambda: Bert(name, finetune=True))
        Hub.fail = False
        bert = Bert(name, layer=-2)
        found["vectors"] = bert.encode(texts).tolist()
        found["asked"] = Hub.asked[:]
        found["unfinished"] = [path.name for path in HUB.rglob("*.incomplete")]

    # The network is gone again.
    found["later"] = Bert(name, layer=-2, cache=False).encode(texts).tolist()
    trained = Bert(name, finetune=True, layer=-2).eval()
    found["fine-tuned"] = trained(texts).tolist()

    # By hand: the command that the error names fills a folder that works as a name.
    command = [*shlex.split(found["offline"].split("\n")[1]), "--local-dir", str(FOLDER / "copy")]
    command[0] = str(Path(sys.executable).with_name(command[0]))
    with serving(port):
        done = subprocess.run(command, capture_output=True, text=True)
    found["by hand"] = done.stderr if done.returncode else Bert(FOLDER / "copy", layer=-2).encode(texts).tolist()
    found["caches"] = sorted(path.name for path in (FOLDER / "cache" / "text").iterdir())
    (FOLDER / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
