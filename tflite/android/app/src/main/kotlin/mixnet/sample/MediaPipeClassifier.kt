package mixnet.sample

import android.content.Context
import android.graphics.Bitmap
import android.graphics.RectF
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.ImageProcessingOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import mixnet.core.Guess
import mixnet.core.ModelFile
import mixnet.core.evaluationCrop

/** Classifies with MediaPipe, which finds the labels itself. The region is our crop; the resizing is MediaPipe's. */
class MediaPipeClassifier(context: Context, asset: String) : Classifier {
    private val file = ModelFile(context.assets.open(asset).use { it.readBytes() })
    private val classifier =
        ImageClassifier.createFromOptions(
            context,
            ImageClassifier.ImageClassifierOptions.builder()
                .setBaseOptions(BaseOptions.builder().setModelAssetPath(asset).build())
                .setMaxResults(3)
                .build(),
        )

    override fun classify(photo: Bitmap): List<Guess> {
        val crop = evaluationCrop(photo.width, photo.height, file.width, file.height, file.cropFraction)
        val (left, top, right, bottom) = crop.region
        val region = ImageProcessingOptions.builder().setRegionOfInterest(RectF(left, top, right, bottom)).build()
        val result = classifier.classify(BitmapImageBuilder(photo).build(), region)
        val (output) = result.classificationResult().classifications()
        return output.categories().map { Guess(it.categoryName(), it.score()) }
    }

    override fun close() = classifier.close()
}
