"""Weights from the network, against a real HTTP server on this machine; and the names of ImageNet's classes."""

import concurrent.futures
import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from golden.golden_weights import golden_images, golden_state_dict
from local_server import Handler, Server
from marks import slow
from safetensors.numpy import save
from small import SMALL

from mixnet_tf import download
from mixnet_tf.errors import MixNetError, WeightsError
from mixnet_tf.model import MixNetS, create_model
from mixnet_tf.weights import imagenet as pretrained
from mixnet_tf.weights.imagenet import decode_predictions
from mixnet_tf.weights.loading import export_state_dict, load_weights

HERE = Path(__file__).parents[1] / "golden"
PATHS = {"imagenet": "mixnet_s.ft_in1k", "imagenet_tf": "tf_mixnet_s.in1k"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 3)
    monkeypatch.setattr(pretrained, "MAX_BYTES", 3 * 10**7)
    with Server() as server:
        address = f"http://127.0.0.1:{server.server_port}/{{repository}}/resolve/{{revision}}/model.safetensors"
        monkeypatch.setattr(pretrained, "URL", address)
        yield server


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "keras" / "models"


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    names = {"imagenet": "timm_mixnet_s", "imagenet_tf": "timm_tf_mixnet_s"}
    return {weights: save(golden_state_dict(HERE / f"{name}.json")) for weights, name in names.items()}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return create_model("mixnet_s", classifier_activation=None)


ANY = (None, None, 3)


@pytest.mark.parametrize("weights", ["imagenet", *slow("imagenet_tf")])
def test_the_constructor_downloads_once_and_loads(server, cache, content, weights):
    server.answer = lambda handler: handler.send(content[weights])
    expected = np.load(HERE / f"timm_{'tf_' if weights == 'imagenet_tf' else ''}mixnet_s.npz")["logits_97"]
    model = MixNetS(weights=weights, classifier_activation=None, include_preprocessing=False, input_shape=ANY)
    assert np.abs(model(golden_images(2, 97), training=False) - expected).max() < 1e-4 * np.abs(expected).max()
    values = model.get_weights()
    model.set_weights([np.zeros_like(value) for value in values])
    load_weights(model, weights)  # from the cache
    assert all(np.array_equal(a, b) for a, b in zip(values, model.get_weights(), strict=True))
    assert server.requests == [f"/{PATHS[weights]}/resolve/main/model.safetensors"]
    name, digest = f"{PATHS[weights]}.safetensors", hashlib.sha256(content[weights]).hexdigest()
    assert sorted(file.name for file in cache.iterdir()) == [name, f"{name}.sha256"]
    assert (cache / name).read_bytes() == content[weights]
    assert (cache / f"{name}.sha256").read_text() == f"{digest}  {name}\n"


def stall(handler: Handler, start: bytes) -> None:
    if start:
        handler.send(start, length=1000)
    handler.server.closing.wait(20)


def half(handler: Handler, body: bytes) -> None:
    handler.send(body[: len(body) // 2], length=len(body))
    handler.close_connection = True


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while not handler.server.closing.is_set():
            handler.wfile.write(bytes(2**20))


def redirect(handler: Handler, to: str) -> None:
    handler.send_response(302)
    handler.send_header("Location", to)
    handler.end_headers()


WRONG = {
    "truncated": (half, "bytes"),
    "endless": (lambda h, body: endless(h), "more than 30000000 bytes"),
    "longer than announced": (lambda h, body: h.send(body, length=len(body) - 8), "not a readable .safetensors file"),
    "a loop": (lambda h, body: redirect(h, h.path), "infinite loop"),
    "to a local file": (lambda h, body: redirect(h, "file:///etc/passwd"), "is not allowed"),
    "out of order": (lambda h, body: h.send_error(500), "500"),
    "no HTTP": (lambda h, body: h.wfile.write(b"\x1b[31m\r\n\r\n"), "cannot be downloaded (\\x1b[31m)"),
    "truncated and saying so": (lambda h, body: h.send(body[: len(body) // 2]), "not a readable .safetensors file"),
    "a web page": (lambda h, body: h.send(b"<html>sign in</html>"), "not a readable .safetensors file"),
    "nothing": (lambda h, body: h.send(b""), "not a readable .safetensors file"),
    "another model": (
        lambda h, body: h.send(save({"blocks.0.0.x": np.zeros(1, "f4")})),
        "missing: 'conv_stem.weight'",
    ),
    "not found": (lambda h, body: h.send_error(404), "404"),
    "stalled": (lambda h, body: stall(h, body[:100]), "timed out"),
    "silent": (lambda h, body: stall(h, b""), "timed out"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_failed_download_is_one_error_and_leaves_nothing(server, cache, content, model, wrong):
    answer, reason = WRONG[wrong]
    server.answer = lambda handler: answer(handler, content["imagenet"])
    before = [np.asarray(variable) for variable in model.variables]
    with pytest.raises(WeightsError) as caught:
        load_weights(model, "imagenet")
    message, url = str(caught.value), pretrained.URL.format(repository=PATHS["imagenet"], revision="main")
    assert reason in message and url in message and "\n" not in message and ".part" not in message.split("put it")[0]
    assert not list(cache.iterdir())
    assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))
    server.answer = lambda handler: handler.send(content["imagenet"])
    load_weights(model, "imagenet")  # the failure is not remembered


def test_offline_the_error_says_what_to_put_where_and_that_helps(server, cache, content, model, monkeypatch):
    monkeypatch.setattr(pretrained, "URL", "http://127.0.0.1:9/{repository}/model.safetensors")  # nobody listens
    path = cache / "mixnet_s.ft_in1k.safetensors"
    with pytest.raises(WeightsError) as caught:
        load_weights(model, "imagenet")
    url = "http://127.0.0.1:9/mixnet_s.ft_in1k/model.safetensors"
    assert str(caught.value).endswith(f"fetch {url} by hand and put it at {path}")
    path.write_bytes(content["imagenet"])
    load_weights(model, "imagenet")
    path.write_bytes(content["imagenet"][:-4])
    with pytest.raises(WeightsError, match="delete the file, and it is downloaded again"):
        load_weights(model, "imagenet")
    assert path.exists()  # someone put it there by hand
    assert not server.requests


def test_addresses_are_timms():
    files = {file for files in pretrained.IMAGENET_FILES.values() for file in files.values()}
    assert {file.revision for file in files} == {"main"}  # no commit of theirs is known here
    assert {file.repository for file in files} == {
        *("mixnet_s.ft_in1k", "mixnet_m.ft_in1k", "mixnet_l.ft_in1k", "mixnet_xl.ra_in1k"),
        *("tf_mixnet_s.in1k", "tf_mixnet_m.in1k", "tf_mixnet_l.in1k"),
    }
    url = pretrained.URL.format(repository="x", revision="abc")
    assert url == "https://huggingface.co/timm/x/resolve/abc/model.safetensors"


def test_a_cached_file_that_has_changed_is_refused(server, cache, content, model):
    server.answer = lambda handler: handler.send(content["imagenet"])
    load_weights(model, "imagenet")
    path = cache / "mixnet_s.ft_in1k.safetensors"
    changed = bytearray(content["imagenet"])
    changed[-1] ^= 0x80  # the sign of a weight: it would load
    path.write_bytes(changed)
    with pytest.raises(WeightsError) as caught:
        load_weights(model, "imagenet")
    message = str(caught.value)
    assert all(hashlib.sha256(body).hexdigest() in message for body in (changed, content["imagenet"]))
    assert str(path) in message and "delete both" in message and "\n" not in message
    path.unlink()
    load_weights(model, "imagenet")  # the hash of the file that is gone stands in nobody's way
    path.with_name(f"{path.name}.sha256").write_bytes(b"\xff\x1b[31m\n")
    with pytest.raises(WeightsError, match="has changed") as caught:
        load_weights(model, "imagenet")
    assert str(caught.value).isprintable()


def test_what_killed_downloads_left_is_removed_and_live_ones_stay(server, cache, content, model):
    cache.mkdir(parents=True)
    killed, live = (cache / f".mixnet_s.ft_in1k-{name}.part.safetensors" for name in ("0123abcd", "4567cdef"))
    foreign = cache / ".mixnet_m.ft_in1k-0123abcd.part.safetensors"
    for part in (killed, live, foreign):
        part.write_bytes(b"half")
    for part in (killed, foreign):
        os.utime(part, (time.time() - 2 * 3600,) * 2)
    server.answer = lambda handler: handler.send(content["imagenet"])
    load_weights(model, "imagenet")
    assert not killed.exists() and live.exists() and foreign.exists()


@pytest.mark.slow
def test_two_downloads_at_once(server, cache, content, model):
    both = threading.Barrier(2, timeout=10)
    server.answer = lambda handler: (both.wait(), handler.send(content["imagenet"]))
    models = [model, keras.models.clone_model(model)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda model: load_weights(model, "imagenet"), models))
    assert len(server.requests) == 2
    name = "mixnet_s.ft_in1k.safetensors"
    assert sorted(file.name for file in cache.iterdir()) == [name, f"{name}.sha256"]
    load_weights(model, "imagenet")
    assert len(server.requests) == 2


def test_no_place_for_downloads_is_one_error(server, tmp_path, model, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(MixNetError, match=r"file is no folder"):
        load_weights(model, "imagenet")
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("~x").expanduser())  # as for a user without an entry
    with pytest.raises(WeightsError, match="no home folder; set KERAS_HOME"):
        load_weights(model, "imagenet")
    assert not server.requests


@pytest.mark.parametrize("size", ["s", *(pytest.param(size, marks=pytest.mark.slow) for size in ("m", "l", "xl"))])
def test_every_architecture_finds_its_own_file(server, size):
    asked = [f"/mixnet_{size}.{'ra' if size == 'xl' else 'ft'}_in1k/resolve/main/model.safetensors"]
    features = create_model(f"mixnet_{size}", include_top=False, name="any")
    with pytest.raises(WeightsError, match="404"):
        load_weights(features, "imagenet")
    assert server.requests == asked


@pytest.mark.slow
def test_what_is_not_published_is_refused_before_any_download(server, model):
    with pytest.raises(WeightsError, match=r"imagenet_tf.* need padding='same', the model is built with 'symmetric'"):
        load_weights(model, "imagenet_tf")
    with pytest.raises(
        WeightsError, match="published for mixnet_s, mixnet_m, mixnet_l only, not for this architecture"
    ):
        load_weights(create_model(SMALL, padding="same", include_top=False), "imagenet_tf")
    with pytest.raises(WeightsError, match="mixnet_l, mixnet_xl only, not for this architecture"):
        load_weights(create_model(SMALL), "imagenet")
    with pytest.raises(WeightsError, match="one layer and 1000 classes"):
        MixNetS(weights="imagenet", classes=10)
    assert not server.requests


@pytest.mark.slow
def test_a_head_of_another_size_stays_fresh_when_asked(server, content):
    server.answer = lambda handler: handler.send(content["imagenet"])
    model = create_model("mixnet_s", classes=10)
    before = np.asarray(model.get_layer("predictions").kernel)
    load_weights(model, "imagenet", head="fresh")
    assert np.array_equal(before, model.get_layer("predictions").kernel)
    stem = golden_state_dict(HERE / "timm_mixnet_s.json")["conv_stem.weight"]
    assert np.array_equal(export_state_dict(model, "timm")["conv_stem.weight"], stem)


def test_predictions_are_decoded_as_by_keras_applications():
    scores = np.zeros((2, 1000), np.float32)
    scores[0, [1, 999, 207]] = 0.5, 0.3, 0.1
    scores[1, 404] = 1.0
    first, second = decode_predictions(scores, top=3)
    assert first == [
        ("n01443537", "goldfish", 0.5),
        ("n15075141", "toilet tissue", pytest.approx(0.3)),
        ("n02099601", "golden retriever", pytest.approx(0.1)),
    ]
    assert second[0] == ("n02690373", "airliner", 1.0)
    assert [len(rows) for rows in decode_predictions(keras.ops.convert_to_tensor(scores))] == [5, 5]


def test_the_class_list_is_imagenets():
    """In the order of their WordNet ids, which is the order of the outputs; the source is named."""
    (rows,) = decode_predictions(np.arange(1000)[None], top=1000)
    ids = [row[0] for row in rows][::-1]
    assert ids == sorted(ids) and len(set(ids)) == 1000 and all(len(i) == 9 and i[0] == "n" for i in ids)
    assert all(name and name == name.strip() for _, name, _ in rows)
    text = Path(pretrained.__file__).parents[1].joinpath("data", "imagenet_classes.txt").read_text()
    assert "Apache License 2.0" in text.splitlines()[1]


@pytest.mark.parametrize("top", [0, 1001, 2.0, True])
def test_decoding_refuses_other_shapes_and_numbers(top):
    with pytest.raises(MixNetError, match="expected an integer from 1 to 1000"):
        decode_predictions(np.zeros((1, 1000)), top=top)
    for shape in ((1000,), (1, 10)):
        with pytest.raises(MixNetError, match=r"expected \(batch, 1000\)"):
            decode_predictions(np.zeros(shape))
