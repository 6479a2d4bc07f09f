"""The page's web server, asked by real requests, and the command."""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import refused
from web_bundle import write_bundle

from mixnet_tf.demo.page import page_folder
from mixnet_tf.demo.runtime import packages
from mixnet_tf.demo.server import demo_server, hosts
from mixnet_tf.errors import MixNetError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.packing import Buffer

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
WASM = "node_modules/@litertjs/core/wasm/x.wasm"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, nano_int8, nano_float32) -> Path:
    return write_bundle(tmp_path_factory.mktemp("shipped") / "bundle", nano_int8, nano_float32)


@pytest.fixture
def bundle(shipped, tmp_path) -> Path:
    """A bundle that a test may change."""
    return shutil.copytree(shipped, tmp_path / "bundle")


@pytest.fixture(scope="module")
def runtime(shipped) -> Path:
    """A node_modules whose packages have the pinned names and versions, and next to nothing inside."""
    folder = shipped.parent / "node_modules"
    for package in packages():
        (folder / package.name / "wasm").mkdir(parents=True)
        (folder / package.name / "package.json").write_text(json.dumps({"version": package.version}))
        (folder / package.name / "wasm" / "x.wasm").write_bytes(b"\0asm")
    return folder


@contextlib.contextmanager
def serving(bundle: Path, runtime: Path):
    with demo_server(bundle, port=0, runtime=runtime) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(shipped, runtime):
    with serving(shipped, runtime) as server:
        yield server


@pytest.fixture
def changing(bundle, runtime):
    """A server of a bundle that a test may change."""
    with serving(bundle, runtime) as server:
        yield server


def ask(server, path: str, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
        connection.endheaders()
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html?x=1", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        (f"/{WASM}", "application/wasm"),
        ("/bundle/manifest.json", "application/json"),
        ("/bundle/model.tflite", "application/octet-stream"),
        ("/bundle/goldens/1.rgb", "application/octet-stream"),
    ],
)
def test_files_come_whole_and_with_their_types(server, shipped, path, kind):
    status, headers, body = ask(server, path)
    assert (status, headers["Content-Type"]) == (200, kind)
    name = path.strip("/").partition("?")[0] or "index.html"
    folders = (page_folder(), shipped.parent)  # the latter is that of the runtime, too
    (file,) = [folder / name for folder in folders if (folder / name).is_file()]
    assert body == file.read_bytes()
    assert ask(server, path, "HEAD") == (status, headers | {"Date": ask(server, path, "HEAD")[1]["Date"]}, b"")


def test_a_connection_serves_several_requests(server):
    """What follows HEAD is the next answer, not a body."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)) as connection:
        for method, path in (("HEAD", "/"), ("GET", "/none"), ("GET", "/style.css")):
            connection.request(method, path)
            body = connection.getresponse().read()
    assert body == (page_folder() / "style.css").read_bytes()


@pytest.mark.parametrize("path", ["/", f"/{WASM}", "/none.js"])
def test_every_answer_is_isolated_from_other_sites(server, path):
    _, headers, _ = ask(server, path)
    assert HEADERS.items() <= headers.items()
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    sources = {source for sources in rules.values() for source in sources.split()}
    (import_map,) = [source for source in sources if source.startswith("'sha256-")]
    assert sources == {"'self'", "'none'", "'wasm-unsafe-eval'", import_map}
    assert "Access-Control-Allow-Origin" not in headers


OUTSIDE = [
    *("/../setup.py", "/../../../../etc/passwd", "/bundle/../../secret", "/bundle/goldens/../../../secret"),
    *(
        "/%2e%2e/secret",
        "/bundle/%2e%2e%2fsecret",
        "/..%5csecret",
        "//etc/passwd",
        "///secret",
        "/bundle//model.tflite",
    ),
    *("/bundle", "/bundle/", "/bundle/labels.txt", "/package-lock.json", "/node_modules", "/favicon.ico"),
    "/node_modules/@litertjs/core/package.json",
]


@pytest.mark.parametrize("path", OUTSIDE, ids=ascii)
def test_nothing_else_is_to_be_had(server, shipped, path):
    (shipped.parent / "secret").write_text("secret")
    status, _, body = ask(server, path)
    assert (status, body) == (404, b"404 Not Found\n")


def test_only_this_machine_is_answered_and_only_by_its_name(server):
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0] == 200
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1:1"):
        assert ask(server, "/", host=host)[0] == 421
    assert ask(server, "/", "POST")[0] == 501


def test_browsers_leave_out_the_usual_port(server, monkeypatch):
    monkeypatch.setattr(server, "hosts", hosts(80))
    for host in ("127.0.0.1", "localhost", "127.0.0.1:80"):
        assert ask(server, "/", host=host)[0] == 200
    assert ask(server, "/", host="evil.example")[0] == 421
    assert "127.0.0.1" not in hosts(8000)


def test_an_address_that_is_none_is_not_there(server, capfd):
    assert ask(server, "http://[")[0] == 404
    assert capfd.readouterr().err == ""


def test_what_is_served_is_what_lies_there_now(changing, bundle):
    (bundle / "model.tflite").write_bytes(b"new")
    assert ask(changing, "/bundle/model.tflite")[2] == b"new"
    (bundle / "model_plain.tflite").unlink()
    assert ask(changing, "/bundle/model_plain.tflite")[0] == 404


def test_a_browser_that_leaves_is_no_error(changing, bundle, capfd):
    (bundle / "model.tflite").write_bytes(bytes(10**8))
    with socket.create_connection(("127.0.0.1", changing.server_port)) as connection:
        connection.sendall(
            f"GET /bundle/model.tflite HTTP/1.1\r\nHost: 127.0.0.1:{changing.server_port}\r\n\r\n".encode()
        )
        connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # leave at once
    assert ask(changing, "/")[0] == 200
    changing.shutdown()
    assert capfd.readouterr().err == ""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mixnet_tf", "serve-demo", *map(str, arguments)]


def test_the_command_says_where_and_ends_with_ctrl_c(bundle, runtime):
    arguments = command(bundle, "--port", 0, "--runtime", runtime, "--json")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(4)]
    result = json.loads("".join(lines))
    assert result["bundle"] == str(bundle)
    host, port = result["url"].removeprefix("http://").strip("/").split(":")
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=10)) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 200 and response.read()
        process.send_signal(signal.SIGINT)  # with a connection that is still open
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.strip()) == (0, "", "")


def test_open_opens_a_browser(bundle, runtime, tmp_path):
    """The browser is a script that loads the page and ends; where there is none, a line says so."""
    browser = tmp_path / "browser"
    code = (
        "import sys, urllib.request\nopen(sys.argv[2], 'w').write(urllib.request.urlopen(sys.argv[1]).read().decode())"
    )
    browser.write_text(f"#!{sys.executable}\n{code.replace('sys.argv[2]', repr(str(tmp_path / 'page.html')))}\n")
    browser.chmod(0o755)
    arguments = command(bundle, "--port", 0, "--runtime", runtime, "--open")
    for name, expected in ((str(browser), ""), (str(tmp_path / "none"), "no browser could be opened")):
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"BROWSER": name}
        )
        assert "Ctrl-C ends it" in process.stdout.readline()
        if expected:
            assert select.select([process.stderr], [], [], 20)[0] and expected in process.stderr.readline()
        else:
            wait_for(tmp_path / "page.html")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert (tmp_path / "page.html").read_text() == (page_folder() / "index.html").read_text()


def wait_for(path: Path) -> None:
    deadline = threading.Event()
    for _ in range(200):
        if path.exists() and path.stat().st_size:
            return
        deadline.wait(0.1)
    raise TimeoutError(path)


NO_BUNDLE = {
    "nothing there": (lambda folder: shutil.rmtree(folder), "bundle: no such folder; expected a bundle"),
    "a file": (lambda folder: (shutil.rmtree(folder), folder.touch()), "bundle: no such folder; expected a bundle"),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "bundle: no bundle: it has no manifest.json; `mix",
    ),
    "no JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: damaged, or no manifest"),
    "another manifest": (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json: damaged, or no"),
    "no model": (lambda folder: (folder / "model.tflite").unlink(), "model.tflite: missing; the manifest names it"),
    "a changed model": (lambda folder: change(folder / "model.tflite"), "model.tflite: has changed since the bundle"),
    "a changed picture": (lambda folder: change(folder / "goldens/0.rgb"), "0.rgb: has changed since the bundle"),
    "a broken model": (lambda folder: (folder / "model_plain.tflite").write_bytes(b"x"), "model_plain.tflite: not a"),
    "a folder for a model": (lambda folder: replace_by_folder(folder / "model.tflite"), "model.tflite: missing"),
}


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("kind", NO_BUNDLE)
def test_a_folder_that_is_no_bundle_is_one_line(bundle, runtime, capsys, kind):
    spoil, line = NO_BUNDLE[kind]
    spoil(bundle)
    assert line in refused(capsys, "serve-demo", bundle, "--port", 0, "--runtime", runtime)


def test_a_model_of_normalized_images_is_refused(bundle, runtime, capsys, fixtures):
    """The page would give it pixels, and nobody would notice."""
    shutil.copyfile(fixtures / "tiny" / "classifier.tflite", bundle / "model_plain.tflite")
    line = refused(capsys, "serve-demo", bundle, "--port", 0, "--runtime", runtime)
    assert (
        "model_plain.tflite: does not say what it takes for an image, expected pixels from 0 to 255; export it" in line
    )


def test_a_model_without_input_is_refused(bundle, runtime, capsys):
    graph = FlatGraph.read(bundle / "model_plain.tflite")
    graph.input_format = None
    graph.tensors[graph.inputs[0]].buffer = len(graph.model.buffers)  # a constant instead
    graph.model.buffers.append(Buffer(data=bytes(4 * 32 * 32 * 3)))
    graph.model.subgraphs[0].inputs = []
    (bundle / "model_plain.tflite").write_bytes(graph.content())
    line = refused(capsys, "serve-demo", bundle, "--port", 0, "--runtime", runtime)
    assert "model_plain.tflite: does not say what it takes for an image, expected pixels" in line


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(bundle, capsys, monkeypatch):
    monkeypatch.setattr("mixnet_tf.demo.server.runtime_files", lambda folder: pytest.fail("downloads"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        line = refused(capsys, "serve-demo", bundle, "--port", other.getsockname()[1])
    assert "Address already in use" in line


def test_a_port_is_free_again_after_a_refusal(bundle, runtime):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    (bundle / "manifest.json").unlink()
    for _ in range(2):
        with pytest.raises(MixNetError, match="no bundle"):
            demo_server(bundle, port=port, runtime=runtime)


def test_a_port_that_is_taken_is_one_line(bundle, runtime, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused(capsys, "serve-demo", bundle, "--port", port, "--runtime", runtime)
    assert f"port {port}: Address already in use; give another one with --port" in line
    assert "expected an integer from 0 to 65535" in refused(capsys, "serve-demo", bundle, "--port", 65536)


def test_the_server_needs_no_tensorflow(bundle, runtime):
    code = "import sys; from pathlib import Path; from mixnet_tf.demo.server import demo_server\n"
    code += "demo_server(Path(sys.argv[1]), port=0, runtime=Path(sys.argv[2])).server_close()\n"
    code += "print([name for name in ('tensorflow', 'keras', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, bundle, runtime], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
