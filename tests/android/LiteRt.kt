import com.sun.jna.Library
import com.sun.jna.Memory
import com.sun.jna.Native
import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference

/** The functions of LiteRT's C interface that a run needs; Kotlin's CompiledModel calls the same ones. */
@Suppress("FunctionName")
private interface Functions : Library {
    fun LiteRtCreateEnvironment(count: Int, options: Pointer?, environment: PointerByReference): Int

    fun LiteRtCreateModelFromFile(environment: Pointer, path: String, model: PointerByReference): Int

    fun LiteRtCreateOptions(options: PointerByReference): Int

    fun LiteRtSetOptionsHardwareAccelerators(options: Pointer, accelerators: Int): Int

    fun LiteRtCreateCompiledModel(
        environment: Pointer,
        model: Pointer,
        options: Pointer,
        result: PointerByReference,
    ): Int

    fun LiteRtGetModelSignature(model: Pointer, index: Long, signature: PointerByReference): Int

    fun LiteRtGetSignatureInputTensorByIndex(signature: Pointer, index: Long, tensor: PointerByReference): Int

    fun LiteRtGetSignatureOutputTensorByIndex(signature: Pointer, index: Long, tensor: PointerByReference): Int

    fun LiteRtGetRankedTensorType(tensor: Pointer, type: Pointer): Int

    fun LiteRtGetCompiledModelInputBufferRequirements(
        model: Pointer,
        signature: Long,
        index: Long,
        result: PointerByReference,
    ): Int

    fun LiteRtGetCompiledModelOutputBufferRequirements(
        model: Pointer,
        signature: Long,
        index: Long,
        result: PointerByReference,
    ): Int

    fun LiteRtCreateManagedTensorBufferFromRequirements(
        environment: Pointer,
        type: Pointer,
        requirements: Pointer,
        buffer: PointerByReference,
    ): Int

    fun LiteRtGetTensorBufferPackedSize(buffer: Pointer, size: Pointer): Int

    fun LiteRtLockTensorBuffer(buffer: Pointer, address: PointerByReference, mode: Int): Int

    fun LiteRtUnlockTensorBuffer(buffer: Pointer): Int

    fun LiteRtRunCompiledModel(
        model: Pointer,
        signature: Long,
        inputCount: Long,
        inputs: Array<Pointer>,
        outputCount: Long,
        outputs: Array<Pointer>,
    ): Int
}

/** A model that LiteRT runs on the CPU. Nothing is freed: a process of the tests opens two. */
class LiteRt(library: String, path: String) {
    private val functions = Native.load(library, Functions::class.java)
    private val environment = created { functions.LiteRtCreateEnvironment(0, null, it) }
    private val model = created { functions.LiteRtCreateModelFromFile(environment, path, it) }
    private val options = created { functions.LiteRtCreateOptions(it) }
    private val compiled: Pointer
    private val input: Pointer
    private val output: Pointer

    init {
        checked(functions.LiteRtSetOptionsHardwareAccelerators(options, 1))
        compiled = created { functions.LiteRtCreateCompiledModel(environment, model, options, it) }
        val signature = created { functions.LiteRtGetModelSignature(model, 0, it) }
        input =
            buffer(
                created { functions.LiteRtGetSignatureInputTensorByIndex(signature, 0, it) },
                created { functions.LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, it) },
            )
        output =
            buffer(
                created { functions.LiteRtGetSignatureOutputTensorByIndex(signature, 0, it) },
                created { functions.LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, 0, it) },
            )
    }

    /** Writes bytes as they are, as TensorBuffer.writeInt8 does; returns the output. */
    fun run(pixels: ByteArray): FloatArray {
        require(size(input) == pixels.size.toLong()) { "the input takes ${size(input)} bytes, found ${pixels.size}" }
        locked(input, mode = 1) { it.write(0, pixels, 0, pixels.size) }
        checked(functions.LiteRtRunCompiledModel(compiled, 0, 1, arrayOf(input), 1, arrayOf(output)))
        return locked(output, mode = 0) { it.getFloatArray(0, (size(output) / 4).toInt()) }
    }

    private fun buffer(tensor: Pointer, requirements: Pointer): Pointer {
        val type = Memory(128) // LiteRtRankedTensorType has 72 bytes
        checked(functions.LiteRtGetRankedTensorType(tensor, type))
        return created {
            functions.LiteRtCreateManagedTensorBufferFromRequirements(environment, type, requirements, it)
        }
    }

    private fun size(buffer: Pointer): Long {
        val size = Memory(8)
        checked(functions.LiteRtGetTensorBufferPackedSize(buffer, size))
        return size.getLong(0)
    }

    private fun <T> locked(buffer: Pointer, mode: Int, use: (Pointer) -> T): T {
        val address = created { functions.LiteRtLockTensorBuffer(buffer, it, mode) }
        return use(address).also { checked(functions.LiteRtUnlockTensorBuffer(buffer)) }
    }

    private fun created(create: (PointerByReference) -> Int): Pointer =
        PointerByReference().also { checked(create(it)) }.value

    private fun checked(status: Int) = check(status == 0) { "LiteRT returned status $status" }
}
