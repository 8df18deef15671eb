import errno
import hashlib
import io
import json
import multiprocessing
import os
import random
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from commonspace.data import download
from commonspace.data.download import (
    DataError,
    extract,
    fetch,
    mendable,
    new_file,
    new_folder,
    problems,
    write_manifest,
)


class Server:
    """Serves ``content`` on loopback; ``cuts`` are the byte counts after which the next answers break off."""

    def __init__(self, content: bytes):
        self.content, self.cuts, self.ranges, self.status, self.seen = content, [], True, None, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                server.seen.append(asked)
                if server.status:
                    self.send_error(server.status)
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
                if start >= len(server.content) > 0:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(server.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = server.content[start:]
                self.send_response(206 if asked and server.ranges else 200)
                if asked and server.ranges:
                    end = len(server.content)
                    self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/data.bin"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture(params=[0, 1])
def server(request):
    server = Server(random.Random(request.param).randbytes(300_000))
    yield server
    server.close()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_fetched_once(server, tmp_path):
    for _ in range(2):
        assert fetch(server.url, tmp_path / "x/data.bin", digest(server.content)).read_bytes() == server.content
    assert server.seen == [None]
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["data.bin"]


def test_a_broken_download_continues_in_the_same_run(server, tmp_path):
    server.cuts = [100_000, 50_000]
    assert fetch(server.url, tmp_path / "data.bin", digest(server.content)).read_bytes() == server.content
    assert server.seen == [None, "bytes=100000-", "bytes=150000-"]


def test_a_broken_download_continues_in_the_next_run(server, tmp_path):
    server.cuts = [120_000, 0]  # the second attempt brings nothing: give up
    with pytest.raises(DataError, match=r"broke off after 120,000 of 300,000 bytes.*run again to continue"):
        fetch(server.url, tmp_path / "data.bin", digest(server.content))
    assert not (tmp_path / "data.bin").exists()
    server.seen.clear()
    assert fetch(server.url, tmp_path / "data.bin", digest(server.content)).read_bytes() == server.content
    assert server.seen == ["bytes=120000-"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(server.content[:1000])
    server.ranges = False
    assert fetch(server.url, tmp_path / "data.bin").read_bytes() == server.content


def test_a_part_that_was_already_whole_serves(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(server.content)
    assert fetch(server.url, tmp_path / "data.bin", digest(server.content)).read_bytes() == server.content


def test_a_part_longer_than_the_file_starts_afresh(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(server.content + b"more")
    with pytest.raises(DataError, match="start afresh"):
        fetch(server.url, tmp_path / "data.bin")
    assert fetch(server.url, tmp_path / "data.bin").read_bytes() == server.content


def test_a_wrong_hash_leaves_nothing_and_keeps_the_good_copy(server, tmp_path):
    with pytest.raises(DataError, match=r"(?s)not the file expected.*" + digest(b"other")):
        fetch(server.url, tmp_path / "data.bin", digest(b"other"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data.bin").write_bytes(b"good")
    server.status = 404
    assert fetch(server.url, tmp_path / "data.bin", digest(b"good")).read_bytes() == b"good"


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_error_of_the_server_is_named(server, tmp_path, status):
    server.status = status
    with pytest.raises(DataError, match=f"the server answered {status}"):
        fetch(server.url, tmp_path / "data.bin")
    assert list(tmp_path.iterdir()) == []


def test_no_connection_is_named(tmp_path):
    server = Server(b"x")
    server.close()
    with pytest.raises(DataError, match="no connection"):
        fetch(server.url, tmp_path / "data.bin")


def test_a_full_disk_leaves_no_file(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "_continue_download", full)
    with pytest.raises(DataError, match=r"data\.bin cannot be written: No space left"):
        fetch(server.url, tmp_path / "data.bin")
    assert list(tmp_path.iterdir()) == []


# ---- whole or not at all -------------------------------------------------------------------------------------------


def test_new_file_keeps_the_good_copy_when_the_disk_is_full(tmp_path):
    (tmp_path / "a").write_text("good")

    def write_half():
        with new_file(tmp_path / "a") as file:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space")

    with pytest.raises(OSError, match="No space"):
        write_half()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "good")]
    with new_file(tmp_path / "a") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "a").read_text() == "good"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "new")]


def test_new_folder_replaces_the_old_one_whole_or_not_at_all(tmp_path):
    with new_folder(tmp_path / "set") as new:
        (new / "a").write_text("1")

    def write_half():
        with new_folder(tmp_path / "set") as new:
            (new / "a").write_text("2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert (tmp_path / "set/a").read_text() == "1"
    with new_folder(tmp_path / "set") as new:
        (new / "b").write_text("3")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_of_two_that_make_the_same_folder_the_first_stays(tmp_path):
    with new_folder(tmp_path / "set") as late:
        (late / "who").write_text("late")
        with new_folder(tmp_path / "set") as early:
            (early / "who").write_text("early")
    assert (tmp_path / "set/who").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def _replace_often(folder: str, who: str) -> None:
    for _ in range(15):
        with new_folder(folder) as new:
            for name in ("a", "b"):
                (new / name).write_text(who)


def test_processes_that_replace_a_folder_never_mix(tmp_path):
    _replace_often(tmp_path / "set", "first")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_replace_often, args=(str(tmp_path / "set"), str(i))) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (tmp_path / "set/a").read_text() == (tmp_path / "set/b").read_text() in ("0", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


# ---- manifest ------------------------------------------------------------------------------------------------------


def test_problems_name_what_was_altered(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a", "b", "sub/c"):
        (tmp_path / name).write_bytes(b"12345")
    write_manifest(tmp_path, version="3")
    assert problems(tmp_path) == []
    assert json.loads((tmp_path / "manifest.json").read_text())["version"] == "3"
    (tmp_path / "a").write_bytes(b"12346")
    (tmp_path / "b").write_bytes(b"123")
    (tmp_path / "sub/c").unlink()
    found = problems(tmp_path)
    assert [line.split(" ")[0] for line in found] == ["a", "b", "sub/c"]
    assert "SHA-256" in found[0]
    assert "3 bytes, 5" in found[1]
    assert "missing" in found[2]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    assert problems(tmp_path) == ["manifest.json is missing"]
    (tmp_path / "manifest.json").write_text(text)
    assert problems(tmp_path) == ["manifest.json is damaged"]


def test_by_size_leaves_the_contents_alone(tmp_path):
    (tmp_path / "large").write_bytes(b"12345")
    write_manifest(tmp_path)
    (tmp_path / "large").write_bytes(b"12346")
    assert problems(tmp_path, by_size=["large"]) == []
    (tmp_path / "large").write_bytes(b"123456")
    assert problems(tmp_path, by_size=["large"]) == ["large is altered: 6 bytes, 5 were written"]


def test_mendable_names_the_folder_and_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "a").write_bytes(b"12345")
    with mendable(tmp_path, "get it"):  # put there by hand: no manifest
        pass
    with (
        pytest.raises(ValueError, match=rf"^{tmp_path.name}: the reason. Mend it with\n  get it$"),
        mendable(tmp_path, "get it"),
    ):
        raise ValueError("the reason")
    write_manifest(tmp_path)
    (tmp_path / "a").write_bytes(b"123")
    with pytest.raises(ValueError, match="a is altered"), mendable(tmp_path, "get it"):
        pytest.fail("read although altered")


# ---- archives ------------------------------------------------------------------------------------------------------


def archive_of(path, members: list[tuple[str, bytes | None]], link: str | None = None):
    """A zip or tar with these files, None for a folder, and perhaps a symbolic link."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content or b"")
            if link:
                info = zipfile.ZipInfo(link)
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, "/etc")
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.type, info.size = (tarfile.DIRTYPE, 0) if content is None else (tarfile.REGTYPE, len(content))
                archive.addfile(info, io.BytesIO(content or b""))
            if link:
                info = tarfile.TarInfo(link)
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
                archive.addfile(info)
    return path


def written(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


NAMES = ["a.zip", "a.tar", "a.tar.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_is_unpacked(tmp_path, name):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x", "y")
    members = [("d/", None), ("d/e/f.txt", b"text"), ("g.bin", os.urandom(100_000)), ("last.zip", inner.getvalue())]
    extract(archive_of(tmp_path / name, members), tmp_path / "out")
    assert written(tmp_path / "out") == dict(members[1:])


@pytest.mark.parametrize("name", NAMES)
def test_only_the_files_named_are_unpacked(tmp_path, name):
    archive = archive_of(tmp_path / name, [("d/", None), ("d/a.txt", b"1"), ("d/e/b.txt", bytes(9000)), ("b", b"2")])
    extract(archive, tmp_path / "out", limit=10, names=["a.txt", "b"])
    assert written(tmp_path / "out") == {"d/a.txt": b"1", "b": b"2"}
    with pytest.raises(DataError, match="would land outside"):
        extract(archive_of(tmp_path / name, [("a.txt", b"1"), ("../b", b"2")]), tmp_path / "new", names=["a.txt"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "..\\out.txt", "C:/out.txt"])
def test_a_path_outside_is_refused_before_anything_is_written(tmp_path, name, bad):
    archive = archive_of(tmp_path / name, [("good.txt", b"1"), (bad, b"2")])
    with pytest.raises(DataError, match=r"would land outside.*Nothing was unpacked"):
        extract(archive, tmp_path / "x/out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_link_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="'inside' is a link"):
        extract(archive_of(tmp_path / name, [("good.txt", b"1")], link="inside"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, name):
    archive = archive_of(tmp_path / name, [("a", bytes(60_000)), ("b", bytes(60_000))])
    extract(archive, tmp_path / "fits", limit=120_000)
    with pytest.raises(DataError, match="120,000 bytes, 119,999 are allowed"):
        extract(archive, tmp_path / "out", limit=119_999)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_truncated_archive_is_named(tmp_path, name, keep):
    archive = archive_of(tmp_path / name, [(f"{i}", os.urandom(20_000)) for i in range(5)])
    archive.write_bytes(archive.read_bytes()[: int(keep * archive.stat().st_size)])
    if name == "a.tar" and keep == 0.0:
        archive.write_bytes(b"no archive at all")
    with pytest.raises(DataError, match=f"{name}.*damaged"):
        extract(archive, tmp_path / "out")


def test_an_altered_byte_is_found_by_the_zip_checksum(tmp_path):
    archive = archive_of(tmp_path / "a.zip", [("a", os.urandom(20_000))])
    content = bytearray(archive.read_bytes())
    content[5_000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        extract(archive, tmp_path / "out")
    assert written(tmp_path / "out") == {}
