package mixnet.core

import kotlin.math.abs

private const val PRECISION = 22 // bits behind the point of a weight
private const val SUPPORT = 2.0 // of the bicubic filter, in pixels of the smaller image

/** The pixels that one pixel of the result is made of: those from [first] on, one for each weight. */
private class Taps(val first: Int, val weights: IntArray)

/**
 * Resizes as Pillow's `Image.resize(size, Resampling.BICUBIC)` does, to the last bit: the filter is as wide as the
 * pixels of the result, so that nothing is skipped, and the weights are integers.
 */
fun Pixels.resized(newWidth: Int, newHeight: Int): Pixels {
    val rows = resampled(bytes, count = height, size = width, newSize = newWidth, step = 3)
    val columns = resampled(rows, count = 1, size = height, newSize = newHeight, step = newWidth * 3)
    return Pixels(newWidth, newHeight, columns)
}

/** Resamples one axis of an array of [count] x [size] x [step] bytes. */
private fun resampled(bytes: ByteArray, count: Int, size: Int, newSize: Int, step: Int): ByteArray {
    if (size == newSize) return bytes
    val taps = List(newSize) { taps(it, size, newSize) }
    val result = ByteArray(count * newSize * step)
    var target = 0
    for (line in 0 until count) {
        for (tap in taps) {
            val start = (line * size + tap.first) * step
            for (offset in 0 until step) {
                var sum = 1 shl (PRECISION - 1)
                var source = start + offset
                for (weight in tap.weights) {
                    sum += (bytes[source].toInt() and 0xff) * weight
                    source += step
                }
                result[target++] = (sum shr PRECISION).coerceIn(0, 255).toByte()
            }
        }
    }
    return result
}

private fun taps(index: Int, size: Int, newSize: Int): Taps {
    val scale = size.toDouble() / newSize
    val width = maxOf(scale, 1.0)
    val centre = (index + 0.5) * scale
    val first = maxOf((centre - SUPPORT * width + 0.5).toInt(), 0)
    val end = minOf((centre + SUPPORT * width + 0.5).toInt(), size)
    val values = DoubleArray(end - first) { bicubic((it + first - centre + 0.5) * (1.0 / width)) }
    val sum = values.sum()
    return Taps(first, IntArray(values.size) { fixedPoint(values[it] / sum) })
}

private fun fixedPoint(value: Double): Int =
    (value * (1 shl PRECISION) + if (value < 0) -0.5 else 0.5).toInt()

/** Keys' cubic convolution with a = -0.5. */
private fun bicubic(position: Double): Double {
    val x = abs(position)
    return when {
        x < 1 -> (1.5 * x - 2.5) * x * x + 1
        x < 2 -> (((x - 5) * x + 8) * x - 4) * -0.5
        else -> 0.0
    }
}
