"""Pieces of depthwise kernels: exact partitions of at most 25 taps, against scipy."""

import numpy as np
import pytest
from scipy.signal import correlate

from mixnet_tf.deploy.kernels import MAX_TAPS, Taps, padding, plan, reachable, same_padding

ODD = list(range(3, 32, 2))


def embedded(piece, kernel):
    """The whole kernel with every tap outside the piece zero."""
    grid = np.zeros_like(kernel)
    grid[piece.rows.index, piece.cols.index] = piece.of(kernel)
    return grid


def run_piece(image, piece, kernel, stride, before, outputs):
    """Pad or crop, dilate, convolve, subsample: what the deployed op does, in scipy."""
    for axis, (taps, outs) in enumerate(zip((piece.rows, piece.cols), outputs, strict=True)):
        ahead, after = padding(taps, stride, before[axis], image.shape[axis], outs)
        image = np.moveaxis(image, axis, 0)
        image = image[max(-ahead, 0) : image.shape[0] - max(-after, 0)]
        image = np.pad(image, [(max(ahead, 0), max(after, 0)), (0, 0)])
        image = np.moveaxis(image, 0, axis)
    dilated = np.zeros((piece.rows.last - piece.rows.first + 1, piece.cols.last - piece.cols.first + 1))
    dilated[:: piece.rows.step, :: piece.cols.step] = piece.of(kernel)
    result = correlate(image, dilated, "valid")[::stride, ::stride]
    assert result.shape == tuple(outputs)
    return result


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, *ODD, 41, 63])
def test_pieces_cover_every_tap_once(size, stride):
    kernel = np.arange(1.0, size * size + 1).reshape(size, size)
    pieces = plan(size, size, stride)
    assert all(piece.taps <= MAX_TAPS for piece in pieces)
    assert all(stride == 1 or taps.step == 1 for piece in pieces for taps in (piece.rows, piece.cols))
    np.testing.assert_array_equal(sum(embedded(piece, kernel) for piece in pieces), kernel)


@pytest.mark.parametrize(("height", "width"), [(14, 14), (9, 12), (31, 40)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", ODD)
def test_the_sum_of_the_pieces_is_the_convolution(size, stride, height, width):
    rng = np.random.default_rng(size)
    image, kernel = rng.standard_normal((height, width)), rng.standard_normal((size, size))
    half = size // 2
    expected = correlate(np.pad(image, half), kernel, "valid")[::stride, ::stride]
    reach = [reachable(size, stride, half, n, out) for n, out in zip(image.shape, expected.shape, strict=True)]
    trimmed = kernel[reach[0].start : reach[0].stop, reach[1].start : reach[1].stop]
    before = [half - taps.start for taps in reach]
    pieces = plan(*trimmed.shape, stride)
    found = sum(run_piece(image, piece, trimmed, stride, before, expected.shape) for piece in pieces)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("size", "stride", "pieces"), [(5, 1, 1), (7, 1, 3), (7, 2, 3), (9, 1, 4), (11, 1, 6)])
def test_the_shipped_kernels_take_few_pieces(size, stride, pieces):
    assert len(plan(size, size, stride)) == pieces


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(9, 1, 3), (11, 1, 2), (11, 2, 3), (7, 2, 1), (3, 1, 8), (5, 2, 4)]
)
def test_reachable_taps_by_brute_force(kernel, stride, size):
    half, outputs = kernel // 2, -(-size // stride)
    met = {t for t in range(kernel) for i in range(outputs) if 0 <= stride * i - half + t < size}
    assert set(reachable(kernel, stride, half, size, outputs)) == met


def test_padding_that_a_stride_would_ignore_is_not_cropped():
    # 8 values, stride 2, one tap at the centre: the window never reads the 8th value
    assert padding(Taps(0, 1), 2, 0, 8, 4) == (0, 0)


@pytest.mark.parametrize("size", [7, 8, 13])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 11])
def test_same_padding_is_tensorflows(kernel, stride, size):
    import tensorflow as tf

    image, weights = np.ones((1, size, 1, 1), np.float32), np.ones((kernel, 1, 1, 1), np.float32)
    before, after = same_padding(kernel, stride, size)
    expected = tf.nn.conv2d(image, weights, stride, "SAME").numpy()
    found = tf.nn.conv2d(np.pad(image, [(0, 0), (before, after), (0, 0), (0, 0)]), weights, stride, "VALID").numpy()
    np.testing.assert_array_equal(found, expected)
