package mixnet.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipInputStream

private const val LABELS = "labels.txt"
private const val CROP_FRACTION = "mixnet_tf.crop_fraction"
private const val USUAL_CROP_FRACTION = 0.875 // of a file that records none, as in Python
private const val UINT8: Byte = 3 // TensorType of the schema of .tflite

/**
 * What a `.tflite` of `mixnet-tf` tells about itself: the size of the images it takes, the part of a resized photo that
 * it wants to see, and its labels.
 */
class ModelFile(private val bytes: ByteArray) {
    val width: Int
    val height: Int
    val cropFraction: Double
    val labels: List<String>

    init {
        require(bytes.size > 8 && String(bytes, 4, 4, Charsets.US_ASCII) == "TFL3") { "no .tflite file" }
        val flatbuffer = Flatbuffer(bytes)
        val (shape, type) = flatbuffer.input()
        require(shape.size == 4 && shape[3] == 3 && type == UINT8) {
            "the input has shape $shape and type $type; expected (1, height, width, 3) of uint8: recipe mobile"
        }
        height = shape[1]
        width = shape[2]
        val record = flatbuffer.metadata(CROP_FRACTION)
        cropFraction = if (record == null) USUAL_CROP_FRACTION else record.toDoubleOrNull() ?: 0.0
        require(cropFraction in 0.01..1.0) {
            "the file's crop fraction is '$record'; expected a number from 0.01 to 1"
        }
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

    /** Returns the text of a named entry of the model's metadata. */
    fun metadata(name: String): String? {
        val entries = field(target(0), 6)
        val count = if (entries == 0) 0 else buffer.getInt(target(entries))
        val entry = List(count) { element(entries, it) }.firstOrNull { text(field(it, 0)) == name } ?: return null
        val index = field(entry, 1)
        return text(field(element(field(target(0), 4), if (index == 0) 0 else buffer.getInt(index)), 0))
    }

    /** Returns the text of a field: its length, and then its bytes. */
    private fun text(field: Int): String =
        if (field == 0) "" else String(buffer.array(), target(field) + 4, buffer.getInt(target(field)))

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
