package mixnet.sample

import android.content.res.AssetManager
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import mixnet.core.Guess
import mixnet.core.ModelFile
import mixnet.core.bestGuesses
import mixnet.core.evaluationPixels

/**
 * Classifies with LiteRT alone. Of an opaque photo whose colors are sRGB, the pixels of the decoded [Bitmap] are resized
 * and cropped as `mixnet-tf evaluate` does it, bit for bit. `Bitmap.getPixels` converts other colors to sRGB, and of a
 * transparent pixel the color is lost; `mixnet-tf` converts nothing, and takes the color that the file has.
 */
class LiteRtClassifier(assets: AssetManager, asset: String) : Classifier {
    private val file = ModelFile(assets.open(asset).use { it.readBytes() })
    private val model = CompiledModel.create(assets, asset, CompiledModel.Options(Accelerator.CPU))
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    override fun classify(photo: Bitmap): List<Guess> {
        val pixels = photo.pixels().evaluationPixels(file.width, file.height, file.cropFraction)
        inputs[0].writeInt8(pixels.bytes) // copies bytes as they are, so it is right for an input of uint8, too
        model.run(inputs, outputs)
        return bestGuesses(outputs[0].readFloat(), file.labels, count = 3)
    }

    override fun close() = (inputs + outputs + model).forEach(AutoCloseable::close)
}
