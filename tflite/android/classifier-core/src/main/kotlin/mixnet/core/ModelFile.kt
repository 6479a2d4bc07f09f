package mixnet.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipInputStream

private const val LABELS = "labels.txt"
private const val UINT8: Byte = 3 // TensorType of the schema of .tflite

/** What a `.tflite` of `mixnet-tf` tells about itself: the size of the images it takes, and its labels. */
class ModelFile(private val bytes: ByteArray) {
    val width: Int
    val height: Int
    val labels: List<String>

    init {
        require(bytes.size > 8 && String(bytes, 4, 4, Charsets.US_ASCII) == "TFL3") { "no .tflite file" }
        val (shape, type) = Flatbuffer(bytes).input()
        require(shape.size == 4 && shape[3] == 3 && type == UINT8) {
            "the input has shape $shape and type $type; expected (1, height, width, 3) of uint8: recipe mobile"
        }
        height = shape[1]
        width = shape[2]
        labels = requireNotNull(labels()) { "no $LABELS in the file: export it with the recipe mobile" }
    }

    /** Reads the zip behind the flatbuffer: its end says where its contents are listed, the list where it begins. */
    private fun labels(): List<String>? {
        val buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
        val end = (bytes.size - 22 downTo 0).firstOrNull { buffer.getInt(it) == 0x06054b50 } ?: return null
        val contents = end - buffer.getInt(end + 12)
        val start = contents - buffer.getInt(end + 16) + buffer.getInt(contents + 42)
        ZipInputStream(bytes.inputStream(start, bytes.size - start)).use { zip ->
            generateSequence(zip::getNextEntry).firstOrNull { it.name == LABELS } ?: return null
            return zip.readBytes().decodeToString().trimEnd('\n').lines()
        }
    }
}

/** The little that is needed of the flatbuffer: numbers of fields are those of LiteRT's schema. */
private class Flatbuffer(bytes: ByteArray) {
    private val buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)

    /** Returns shape and type of the first input of the first subgraph. */
    fun input(): Pair<List<Int>, Byte> {
        val subgraph = element(field(target(0), 2), 0)
        val index = buffer.getInt(target(field(subgraph, 1)) + 4)
        val tensor = element(field(subgraph, 0), index)
        val shape = target(field(tensor, 0))
        val type = field(tensor, 1)
        val sides = List(buffer.getInt(shape)) { buffer.getInt(shape + 4 + 4 * it) }
        return sides to if (type == 0) 0 else buffer.get(type)
    }

    /** Follows the offset at a place. */
    private fun target(place: Int): Int = place + buffer.getInt(place)

    /** Returns where field [number] of a table lies; 0 where it has its default and is left out. */
    private fun field(table: Int, number: Int): Int {
        val vtable = table - buffer.getInt(table)
        val entry = 4 + 2 * number
        val offset = if (entry < buffer.getShort(vtable)) buffer.getShort(vtable + entry).toInt() else 0
        return if (offset == 0) 0 else table + offset
    }

    /** Returns the table that is element [index] of the vector of a field. */
    private fun element(field: Int, index: Int): Int = target(target(field) + 4 + 4 * index)
}
