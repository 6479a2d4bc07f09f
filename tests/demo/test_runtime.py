"""LiteRT.js from npm's registry, against a real HTTP server on this machine."""

import base64
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from local_server import Server

from mixnet_tf import download
from mixnet_tf.demo import runtime
from mixnet_tf.demo.page import page_folder
from mixnet_tf.demo.runtime import Package, runtime_files
from mixnet_tf.errors import MixNetError

FILES = {"package/dist/index.js": b"export {};", "package/wasm/x.wasm": b"\0asm", "package/README.md": b"# x"}
SERVED = {"@litertjs/core/dist/index.js": b"export {};", "@litertjs/core/wasm/x.wasm": b"\0asm"}


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


ARCHIVE = archive(FILES)
PACKAGE = Package("@litertjs/core", "9.8.7", f"sha512-{base64.b64encode(hashlib.sha512(ARCHIVE).digest()).decode()}")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "packages", lambda: [PACKAGE])
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Server() as server:
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/npm/")
        server.answer = lambda handler: handler.send(ARCHIVE)
        yield server


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "cache" / "mixnet_tf" / "litert-js-9.8.7" / "core-9.8.7.tgz"


def test_it_is_downloaded_once(server, path):
    assert runtime_files() == SERVED
    assert server.requests == ["/npm/@litertjs/core/-/core-9.8.7.tgz"]
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == ARCHIVE
    assert runtime_files() == SERVED and len(server.requests) == 1


WRONG = {
    "another file": (
        lambda h: h.send(archive(FILES | {"package/x.js": b"evil"})),
        "not the pinned @litertjs/core 9.8.7",
    ),
    "a web page": (lambda h: h.send(b"<html>sign in</html>"), "its SHA-512 differs from package-lock.json's"),
    "half of it": (lambda h: h.send(ARCHIVE[:50], length=len(ARCHIVE)), "cannot be downloaded (received 50 of"),
    "not found": (lambda h: h.send_error(404), "cannot be downloaded (HTTP Error 404"),
    "silence": (lambda h: h.server.closing.wait(20), "cannot be downloaded (timed out)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_failed_download_is_one_error_and_leaves_nothing(server, path, kind):
    answer, reason = WRONG[kind]
    server.answer = answer
    with pytest.raises(MixNetError) as caught:
        runtime_files()
    assert reason in str(caught.value) and f"http://127.0.0.1:{server.server_port}/npm/" in str(caught.value)
    assert not list(path.parent.iterdir())
    server.answer = lambda handler: handler.send(ARCHIVE)
    assert runtime_files() == SERVED


def test_offline_the_error_says_what_to_put_where_and_that_helps(server, path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(MixNetError) as caught:
        runtime_files()
    url = "http://127.0.0.1:9/@litertjs/core/-/core-9.8.7.tgz"
    assert str(caught.value).startswith("@litertjs/core 9.8.7: cannot be downloaded (")
    assert str(caught.value).endswith(f"fetch {url} by hand and put it at {path}")
    path.write_bytes(ARCHIVE)
    assert runtime_files() == SERVED


def test_a_cached_archive_that_has_changed_is_refused(server, path):
    runtime_files()
    path.write_bytes(archive(FILES | {"package/x.js": b"evil"}))
    with pytest.raises(
        MixNetError, match=rf"{path}: is not the pinned core-9.8.7.tgz; delete it, and it is downloaded"
    ):
        runtime_files()
    assert len(server.requests) == 1


def test_what_killed_downloads_left_is_removed(server, path):
    path.parent.mkdir(parents=True)
    (path.parent / ".core-9.8.7-999999999-0123abcd.part.tgz").write_bytes(b"half")
    assert runtime_files() == SERVED and list(path.parent.iterdir()) == [path]


@pytest.fixture
def folder(tmp_path, server) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "node_modules" / "@litertjs" / "core" / name.removeprefix("package/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "node_modules" / "@litertjs" / "core" / "package.json").write_text('{"version": "9.8.7"}')
    return tmp_path / "node_modules"


def test_a_copy_needs_no_network(folder, server):
    assert runtime_files(folder) == SERVED and not server.requests


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"version": "1.0.0"}', "core: found version 1.0.0, expected 9.8.7; `npm ci`"),
        ("{}", "node_modules: holds no @litertjs/core, expected a node_modules; `npm ci`"),
        ("[]", "node_modules: holds no @litertjs/core"),
        ("{", "node_modules: holds no @litertjs/core"),
    ],
)
def test_another_copy_is_refused(folder, content, line):
    (folder / "@litertjs" / "core" / "package.json").write_text(content)
    with pytest.raises(MixNetError, match=re.escape(line)):
        runtime_files(folder)
    (folder / "@litertjs" / "core" / "package.json").unlink()
    with pytest.raises(MixNetError, match="holds no @litertjs/core"):
        runtime_files(folder)


def test_no_home_is_one_error(server, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("~x").expanduser())  # as for a user without an entry
    with pytest.raises(MixNetError, match="no home folder; set XDG_CACHE_HOME"):
        runtime_files()


def test_what_is_pinned_is_what_the_page_asks_for(monkeypatch):
    monkeypatch.delenv("npm_config_registry", raising=False)
    wanted = json.loads((page_folder() / "package.json").read_text())["dependencies"]
    pinned = {package.name: package for package in runtime.packages()}
    assert set(pinned) == {"@litertjs/core", "@litertjs/wasm-utils"}
    assert pinned["@litertjs/core"].version == wanted["@litertjs/core"]
    assert all(len(base64.b64decode(package.integrity.removeprefix("sha512-"))) == 64 for package in pinned.values())
    assert pinned["@litertjs/core"].url == "https://registry.npmjs.org/@litertjs/core/-/core-2.5.3.tgz"
