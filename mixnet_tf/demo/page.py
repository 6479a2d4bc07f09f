"""What the browser gets: the page's own files, and those of a bundle."""

import base64
import hashlib
import re
from pathlib import Path

from mixnet_tf.bundles.manifest import MANIFEST, MODEL, TWIN, read_checked, read_manifest
from mixnet_tf.errors import MixNetError

PLAIN = "model_plain.tflite"
"""The same network converted as it is, which may lie in a bundle for comparison."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}


def page_folder() -> Path:
    """Return the folder of the page: inside the package (installed), or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "web"
    return installed if installed.is_dir() else package.parent / "tflite" / "web"


def page_files() -> dict[str, Path]:
    """Return the page's own files by their addresses.

    >>> "index.html" in page_files(), "package-lock.json" in page_files()
    (True, False)
    """
    return {path.name: path for path in page_folder().iterdir() if path.suffix in (".html", ".css", ".js", ".svg")}


def bundle_files(folder: Path) -> dict[str, Path]:
    """Return what the page shows of a bundle by its addresses: the models, the manifest, and the golden pictures.

    Raises:
        MixNetError: the folder is no bundle, a file in it has changed, or a model takes other than pixels.
    """
    manifest = read_manifest(folder)
    for name, record in manifest["files"].items():
        read_checked(folder, name, record)
    models = [name for name in (MODEL, PLAIN, TWIN) if name in manifest["files"] or (folder / name).exists()]
    for name in models:
        _check_model(folder / name)
    names = [MANIFEST, *models, *(golden["image"] for golden in manifest["goldens"])]
    return {f"bundle/{name}": folder / name for name in names}


def _check_model(path: Path) -> None:
    from mixnet_tf.litert.flatgraph import FlatGraph
    from mixnet_tf.litert.front import lite_front

    graph = FlatGraph.read(path)
    taken = lite_front(graph).input_format if graph.inputs else None
    if taken != "pixels":
        says = f"takes {taken}" if taken else "does not say what it takes for an image"
        raise MixNetError(f"{path}: {says}, expected pixels from 0 to 255; export it with --recipe mobile")


def content_type(address: str) -> str:
    """Return the media type of a file.

    >>> content_type("wasm/x.wasm"), content_type("bundle/model.tflite")
    ('application/wasm', 'application/octet-stream')
    """
    return _TYPES.get(Path(address).suffix, "application/octet-stream")


def security_policy(page: str) -> str:
    """Return the policy under which a page loads nothing from elsewhere, and runs no script inside of it but one.

    Args:
        page: the HTML; its import map is the one, and is known by its SHA-256.
    """
    (import_map,) = re.findall(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    rules = {
        "default-src": "'none'",
        "script-src": f"'self' 'wasm-unsafe-eval' 'sha256-{digest}'",
        **dict.fromkeys(("style-src", "img-src", "connect-src", "worker-src"), "'self'"),
        **dict.fromkeys(("base-uri", "form-action", "frame-ancestors"), "'none'"),
    }
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())
