"""LiteRT.js, which runs a model in the browser: npm's packages, as the page's ``package-lock.json`` pins them."""

import base64
import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import NamedTuple

from mixnet_tf.demo.page import page_folder
from mixnet_tf.download import download
from mixnet_tf.errors import MixNetError
from mixnet_tf.files import cache_folder, remove_parts, whole_file

REGISTRY = "https://registry.npmjs.org"
MAX_BYTES = 100_000_000  # of a package
_SERVED = (".js", ".wasm")  # of what a package holds
_MAKE = "`npm ci` beside a copy of tflite/web/package-lock.json makes one"


class Package(NamedTuple):
    """A package of npm: its name, its version, and the SHA-512 of its archive as npm writes it."""

    name: str
    version: str
    integrity: str

    @property
    def archive(self) -> str:
        """The name of the archive."""
        return f"{self.name.split('/')[-1]}-{self.version}.tgz"

    @property
    def url(self) -> str:
        """Where npm's registry, or the one that npm is told to use, has the archive."""
        registry = os.environ.get("npm_config_registry") or REGISTRY  # noqa: SIM112  # npm writes it so
        return f"{registry.rstrip('/')}/{self.name}/-/{self.archive}"


def packages() -> list[Package]:
    """Return the packages that the page needs.

    >>> [package.archive for package in packages()]
    ['core-2.5.3.tgz', 'wasm-utils-2.5.3.tgz']
    """
    lock = json.loads((page_folder() / "package-lock.json").read_text(encoding="utf-8"))
    entries = {path.removeprefix("node_modules/"): entry for path, entry in lock["packages"].items() if path}
    return [Package(name, entry["version"], entry["integrity"]) for name, entry in entries.items()]


def runtime_files(folder: Path | None = None) -> dict[str, bytes]:
    """Return the scripts and the WebAssembly of LiteRT.js by their paths below ``node_modules``.

    Args:
        folder: a ``node_modules`` with the packages, as ``npm ci`` makes it; None takes them from the cache, into which
            they are downloaded when they are missing.

    Raises:
        MixNetError: another version in the folder; no network, or an archive that is not the pinned one.

    Example:
        >>> "@litertjs/core/dist/index.js" in runtime_files()                                    # doctest: +SKIP
        True
    """
    contents: dict[str, bytes] = {}
    for package in packages():
        files = _installed(package, folder) if folder else _unpacked(package)
        contents |= {f"{package.name}/{name}": content for name, content in files.items() if name.endswith(_SERVED)}
    return contents


def _installed(package: Package, folder: Path) -> dict[str, bytes]:
    """Return the files of a package that npm has installed."""
    root = folder / package.name
    try:
        version = json.loads((root / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MixNetError(f"{folder}: holds no {package.name}, expected a node_modules; {_MAKE}") from error
    if version != package.version:
        raise MixNetError(f"{root}: found version {version}, expected {package.version}; {_MAKE}")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _unpacked(package: Package) -> dict[str, bytes]:
    """Return the files of a package from its archive, whose SHA-512 is checked each time."""
    path = cache_folder() / f"litert-js-{packages()[0].version}" / package.archive
    if path.exists():
        if not _is_pinned(path, package):
            raise MixNetError(f"{path}: is not the pinned {package.archive}; delete it, and it is downloaded again")
    else:
        _fetch(package, path)
    with tarfile.open(path, "r:gz") as archive:
        members = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: member.read() for name, member in members.items() if member is not None}


def _fetch(package: Package, path: Path) -> None:
    if path.parent.is_dir():
        remove_parts(path.parent)
    with whole_file(path) as part:
        what = f"{package.name} {package.version}"
        download(package.url, part, path=path, what=what, most=MAX_BYTES)
        if not _is_pinned(part, package):
            raise MixNetError(f"{package.url}: not the pinned {what}: its SHA-512 differs from package-lock.json's")


def _is_pinned(path: Path, package: Package) -> bool:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return package.integrity == f"sha512-{base64.b64encode(digest).decode()}"
