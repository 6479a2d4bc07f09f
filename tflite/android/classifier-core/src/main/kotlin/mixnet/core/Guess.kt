package mixnet.core

/** One class, and how sure the network is of it. */
data class Guess(val label: String, val probability: Float)

/** Returns the [count] most probable classes, best first. */
fun bestGuesses(probabilities: FloatArray, labels: List<String>, count: Int): List<Guess> {
    require(probabilities.all(Float::isFinite)) { "the network gives outputs that are not finite (NaN or infinity)" }
    require(probabilities.size == labels.size) { "${probabilities.size} probabilities for ${labels.size} labels" }
    return labels.zip(probabilities.asList(), ::Guess).sortedByDescending { it.probability }.take(count)
}
