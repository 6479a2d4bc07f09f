package mixnet.sample

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.graphics.Matrix
import android.net.Uri
import mixnet.core.Pixels

/** Returns the pixels in sRGB, without alpha, row by row: a photo of 12 megapixels would not fit twice. */
fun Bitmap.pixels(): Pixels {
    val bytes = ByteArray(width * height * 3)
    val row = IntArray(width)
    var index = 0
    for (y in 0 until height) {
        getPixels(row, 0, width, 0, y, width, 1)
        for (color in row) {
            bytes[index++] = (color shr 16).toByte()
            bytes[index++] = (color shr 8).toByte()
            bytes[index++] = color.toByte()
        }
    }
    return Pixels(width, height, bytes)
}

fun Bitmap.turned(degrees: Int): Bitmap {
    if (degrees == 0) return this
    val matrix = Matrix().apply { postRotate(degrees.toFloat()) }
    return Bitmap.createBitmap(this, 0, 0, width, height, matrix, true)
}

/** Decodes a photo upright, in memory that [pixels] can read. */
fun decoded(resolver: ContentResolver, photo: Uri): Bitmap =
    ImageDecoder.decodeBitmap(ImageDecoder.createSource(resolver, photo)) { decoder, _, _ ->
        decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
    }
