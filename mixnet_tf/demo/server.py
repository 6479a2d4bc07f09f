"""A web server for one page, on this machine only. An address is looked up in a table: there is no path to leave."""

import http
import http.server
import sys
import threading
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from mixnet_tf.demo.page import bundle_files, content_type, page_files, security_policy
from mixnet_tf.demo.runtime import runtime_files
from mixnet_tf.errors import MixNetError
from mixnet_tf.progress.steps import LOG, line

HOST = "127.0.0.1"

Files = Mapping[str, bytes | Path]

_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",  # these two give precise clocks, and threads
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self)",
    "Cache-Control": "no-store",  # another bundle may be at the same address next time
}


class DemoServer(http.server.ThreadingHTTPServer):
    """Answers with the files that `show` is given, by their addresses; the page is at ``/``, too.

    Args:
        port: 0 takes one that is free.

    Raises:
        MixNetError: the port cannot be had.

    Example:
        >>> DemoServer(port=8000).url                                                            # doctest: +SKIP
        'http://127.0.0.1:8000/'
    """

    daemon_threads = True
    allow_reuse_address = True  # after Ctrl-C, at once

    def __init__(self, port: int):
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise MixNetError(f"port {port}: {error.strerror or error}; give another one with --port") from error
        self.files: Files = {}
        self.headers = _HEADERS
        self.url = f"http://{HOST}:{self.server_port}/"
        self.hosts = hosts(self.server_port)

    def show(self, files: Files) -> None:
        """Take the files to answer with: contents, or where they are."""
        self.files = {"": files["index.html"], **files}
        self.headers = {**_HEADERS, "Content-Security-Policy": security_policy(_content(files["index.html"]).decode())}

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that did not wait for the answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: DemoServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mixnet-tf", ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:  # a name elsewhere that leads here
            self._send(http.HTTPStatus.MISDIRECTED_REQUEST)
            return
        try:
            address = urlsplit(self.path).path.removeprefix("/")
            content = _content(self.server.files[address])
        except (KeyError, OSError, ValueError):  # of urlsplit: what is no address
            self._send(http.HTTPStatus.NOT_FOUND)
            return
        self._send(http.HTTPStatus.OK, content, content_type(address or "index.html"))

    def _send(self, status: http.HTTPStatus, content: bytes = b"", kind: str = "text/plain; charset=utf-8") -> None:
        content = content if status == http.HTTPStatus.OK else f"{status} {status.phrase}\n".encode()
        self.send_response(status)
        for name, value in {**self.server.headers, "Content-Type": kind, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say each request with ``--verbose``."""
        LOG.info(format, *args)


def hosts(port: int) -> set[str]:
    """Return what browsers call this server: they leave out the port that HTTP has by itself.

    >>> sorted(hosts(8000)), "localhost" in hosts(80)
    (['127.0.0.1:8000', 'localhost:8000'], True)
    """
    names = (HOST, "localhost")
    return {*names, *(f"{name}:{port}" for name in names)} if port == 80 else {f"{name}:{port}" for name in names}


def _content(file: bytes | Path) -> bytes:
    return file if isinstance(file, bytes) else file.read_bytes()


def demo_server(bundle: Path, *, port: int, runtime: Path | None = None) -> DemoServer:
    """Return a server of the page with a bundle's models; it answers once `serve` runs.

    Args:
        bundle: the folder.
        port: 0 takes one that is free.
        runtime: a ``node_modules`` with LiteRT.js; None takes it from the cache or the network.

    Raises:
        MixNetError: no bundle, no LiteRT.js, or no port.
    """
    server = DemoServer(port)  # first: a port that is taken is told before anything is downloaded
    try:
        shown = bundle_files(bundle)
        scripts = {f"node_modules/{name}": content for name, content in runtime_files(runtime).items()}
        server.show({**page_files(), **scripts, **shown})
    except BaseException:
        server.server_close()
        raise
    return server


def serve(server: DemoServer, *, browser: bool = False) -> None:
    """Answer until Ctrl-C; with `browser`, open the page in the user's."""
    if browser:  # which may wait for the page
        threading.Thread(target=_open, args=[server.url], daemon=True).start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        line("")  # what is typed next begins on a line of its own, after ^C
    finally:
        server.server_close()


def _open(url: str) -> None:
    if not webbrowser.open(url):
        line(f"no browser could be opened; open {url} yourself")
