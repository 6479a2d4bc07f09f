package mixnet.core

/** An image: rows from the top, and three bytes a pixel, red, green and blue. */
class Pixels(val width: Int, val height: Int, val bytes: ByteArray) {
    init {
        require(width > 0 && height > 0) { "an image of $width x $height pixels" }
        require(bytes.size == width * height * 3) { "$width x $height pixels in ${bytes.size} bytes" }
    }
}
