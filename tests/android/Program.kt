import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import mixnet.core.Guess
import mixnet.core.ModelFile
import mixnet.core.Pixels
import mixnet.core.bestGuesses
import mixnet.core.evaluationCrop
import mixnet.core.evaluationPixels

/** Does what the lines of standard input say, with the sample's own code; one line of output for each. */
fun main(arguments: Array<String>) {
    val (library) = arguments
    for (line in generateSequence(::readLine)) {
        val words = line.split('\t')
        println(
            try {
                answer(library, words[0], words.drop(1))
            } catch (error: IllegalArgumentException) {
                "error: ${error.message}"
            },
        )
    }
}

private fun answer(library: String, command: String, words: List<String>): String =
    when (command) {
        "region" -> {
            val (photoWidth, photoHeight, width, height) = words.take(4).map(String::toInt)
            evaluationCrop(photoWidth, photoHeight, width, height, words[4].toDouble()).region.joinToString("\t")
        }
        "pixels" -> {
            val (photoWidth, photoHeight, width, height) = words.take(4).map(String::toInt)
            val photo = Pixels(photoWidth, photoHeight, File(words[4]).readBytes())
            File(words[5]).writeBytes(photo.evaluationPixels(width, height, words[6].toDouble()).bytes)
            "done"
        }
        "seen" -> { // what LiteRtClassifier hands to the network
            val (model, photoWidth, photoHeight, image, output) = words
            val photo = Pixels(photoWidth.toInt(), photoHeight.toInt(), File(image).readBytes())
            val file = ModelFile(File(model).readBytes())
            File(output).writeBytes(photo.evaluationPixels(file.width, file.height, file.cropFraction).bytes)
            val region = evaluationCrop(photo.width, photo.height, file.width, file.height, file.cropFraction).region
            region.joinToString("\t")
        }
        "describe" -> ModelFile(File(words[0]).readBytes()).run { "$width\t$height\t${labels.joinToString("\t")}" }
        "best" -> {
            val probabilities = words.map(String::toFloat).toFloatArray()
            shown(bestGuesses(probabilities, words.indices.map(Int::toString), count = 3))
        }
        "classify" -> {
            val (model, image, output) = words
            val labels = ModelFile(File(model).readBytes()).labels
            val probabilities = LiteRt(library, model).run(File(image).readBytes())
            val floats = ByteBuffer.allocate(4 * probabilities.size).order(ByteOrder.LITTLE_ENDIAN)
            probabilities.forEach(floats::putFloat)
            File(output).writeBytes(floats.array())
            shown(bestGuesses(probabilities, labels, count = 3))
        }
        else -> throw IllegalArgumentException("no command $command")
    }

private fun shown(guesses: List<Guess>): String = guesses.joinToString("\t") { "${it.label}=${it.probability}" }
