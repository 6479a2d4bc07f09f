package mixnet.core

import kotlin.math.floor
import kotlin.math.round

/** What a network sees of a photo: the photo resized to [resizedWidth] x [resizedHeight], and of that a window. */
data class Crop(
    val resizedWidth: Int,
    val resizedHeight: Int,
    val left: Int,
    val top: Int,
    val width: Int,
    val height: Int,
) {
    /** The same window in fractions of the photo, for MediaPipe's region of interest: left, top, right, bottom. */
    val region: List<Float>
        get() =
            listOf(
                left.toFloat() / resizedWidth,
                top.toFloat() / resizedHeight,
                (left + width).toFloat() / resizedWidth,
                (top + height).toFloat() / resizedHeight,
            )
}

/**
 * Returns what a network with an input of [width] x [height] sees of a photo, as `mixnet-tf evaluate` has it: the
 * shorter side becomes size / [cropFraction], and the window lies in the centre. A photo is turned upright before.
 */
fun evaluationCrop(photoWidth: Int, photoHeight: Int, width: Int, height: Int, cropFraction: Double): Crop {
    val coverWidth = floor(width / cropFraction).toInt()
    val coverHeight = floor(height / cropFraction).toInt()
    val isUpright = photoHeight.toLong() * coverWidth > photoWidth.toLong() * coverHeight
    val (resizedWidth, resizedHeight) =
        if (isUpright) {
            coverWidth to whole(coverWidth.toDouble() * photoHeight / photoWidth, isSquare = width == height)
        } else {
            whole(coverHeight.toDouble() * photoWidth / photoHeight, isSquare = width == height) to coverHeight
        }
    return Crop(
        resizedWidth,
        resizedHeight,
        left = round((resizedWidth - width) / 2.0).toInt(),
        top = round((resizedHeight - height) / 2.0).toInt(),
        width,
        height,
    )
}

private fun whole(side: Double, isSquare: Boolean): Int = (if (isSquare) floor(side) else round(side)).toInt()

/** Resizes and crops a photo for a network with an input of [width] x [height]. */
fun Pixels.evaluationPixels(width: Int, height: Int, cropFraction: Double): Pixels {
    val crop = evaluationCrop(this.width, this.height, width, height, cropFraction)
    val image = resized(crop.resizedWidth, crop.resizedHeight)
    val result = ByteArray(width * height * 3)
    for (row in 0 until height) {
        val start = ((crop.top + row) * image.width + crop.left) * 3
        image.bytes.copyInto(result, row * width * 3, start, start + width * 3)
    }
    return Pixels(width, height, result)
}
