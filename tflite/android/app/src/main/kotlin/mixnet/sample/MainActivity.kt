package mixnet.sample

import android.Manifest
import android.graphics.Bitmap
import android.os.Bundle
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia
import androidx.activity.result.contract.ActivityResultContracts.RequestPermission
import androidx.camera.view.CameraController
import androidx.camera.view.LifecycleCameraController
import androidx.camera.view.PreviewView
import java.util.concurrent.Executors

private const val MODEL = "model.tflite" // in src/main/assets

/** Shows the camera, and below it what LiteRT and MediaPipe take the picture for. A photo can be chosen instead. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private val classifiers = mutableMapOf<String, Classifier>()
    private val camera by lazy { LifecycleCameraController(this) }
    private val guesses by lazy { TextView(this) }

    private val permission = registerForActivityResult(RequestPermission()) { granted -> if (granted) startCamera() }
    private val gallery =
        registerForActivityResult(PickVisualMedia()) { photo ->
            if (photo != null) worker.execute { show(decoded(contentResolver, photo)) }
        }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(layout())
        worker.execute {
            classifiers["LiteRT"] = LiteRtClassifier(assets, MODEL)
            classifiers["MediaPipe"] = MediaPipeClassifier(this, MODEL)
        }
        permission.launch(Manifest.permission.CAMERA)
    }

    override fun onDestroy() {
        camera.clearImageAnalysisAnalyzer()
        worker.execute { classifiers.values.forEach(Classifier::close) }
        worker.shutdown()
        super.onDestroy()
    }

    private fun layout() =
        LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            fitsSystemWindows = true
            val preview = PreviewView(context).apply { controller = camera }
            addView(preview, LinearLayout.LayoutParams(MATCH_PARENT, 0, 1f))
            addView(guesses)
            addView(button("Camera") { permission.launch(Manifest.permission.CAMERA) })
            addView(button("Photo") { choosePhoto() })
        }

    private fun button(name: String, action: () -> Unit) =
        Button(this).apply {
            text = name
            setOnClickListener { action() }
        }

    private fun startCamera() {
        camera.setEnabledUseCases(CameraController.IMAGE_ANALYSIS)
        camera.setImageAnalysisAnalyzer(worker) { frame ->
            frame.use { show(it.toBitmap().turned(it.imageInfo.rotationDegrees)) }
        }
        camera.bindToLifecycle(this)
    }

    private fun choosePhoto() {
        camera.clearImageAnalysisAnalyzer() // so that the camera does not replace what is shown
        gallery.launch(PickVisualMediaRequest(PickVisualMedia.ImageOnly))
    }

    private fun show(photo: Bitmap) {
        val lines =
            classifiers.map { (name, classifier) ->
                val best = classifier.classify(photo).joinToString { "${it.label} ${(100 * it.probability).toInt()} %" }
                "$name: $best"
            }
        runOnUiThread { guesses.text = lines.joinToString("\n") }
    }
}
