"""What the browser gets: the page's own files, and those of a bundle."""

import base64
import hashlib
import json
import re
from pathlib import Path

from mixnet_tf.errors import MixNetError

MODELS = ("model.tflite", "model_plain.tflite", "model_float32.tflite")
"""The files of a bundle that the page runs; all but the first may be missing."""

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
        MixNetError: the folder is no bundle, or a model in it takes other than pixels.
    """
    manifest = folder / "manifest.json"
    _check_manifest(manifest)
    models = [folder / name for name in MODELS if (folder / name).exists()]
    for model in models:
        _check_model(model)
    if folder / MODELS[0] not in models:
        raise MixNetError(f"{folder}: holds no {MODELS[0]}; expected a folder that `mixnet-tf bundle` has written")
    files = [manifest, *models, *sorted((folder / "goldens").glob("*.rgb"))]
    return {f"bundle/{path.relative_to(folder).as_posix()}": path for path in files}


def _check_manifest(path: Path) -> None:
    expected = "expected a folder that `mixnet-tf bundle` has written"
    if not path.parent.is_dir():
        raise MixNetError(f"{path.parent}: {'is a file' if path.parent.exists() else 'no such folder'}, {expected}")
    if not path.is_file():
        raise MixNetError(f"{path.parent}: holds no {path.name}; {expected}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MixNetError(f"{path}: not valid JSON ({error}); {expected}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise MixNetError(f"{path}: not a bundle's manifest of format 1; {expected}")


def _check_model(path: Path) -> None:
    from mixnet_tf.litert.flatgraph import FlatGraph
    from mixnet_tf.litert.front import lite_front

    taken = lite_front(FlatGraph.read(path)).input_format
    if taken != "pixels":
        raise MixNetError(
            f"{path}: takes {taken or 'nobody says what'}, expected pixels; export it with --recipe mobile"
        )


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
