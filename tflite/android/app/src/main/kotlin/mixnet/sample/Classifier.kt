package mixnet.sample

import android.graphics.Bitmap
import mixnet.core.Guess

/** What the two ways of classifying a photo have in common. */
interface Classifier : AutoCloseable {
    /** Returns the three most probable classes of an upright photo, best first. */
    fun classify(photo: Bitmap): List<Guess>
}
