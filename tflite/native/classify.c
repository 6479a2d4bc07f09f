/* Classifies an image with a model that mixnet_tf exported, or compares models with the outputs kept beside them. */
#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classifier.h"
#include "image.h"

static const char USAGE[] =
    "usage: classify MODEL.tflite IMAGE [--top 5]   prints the most probable classes of a JPEG or PNG\n"
    "       classify --goldens BUNDLE               compares the models of a bundle with its golden outputs\n";

/* Prints a label; a control character in it could steer the terminal. */
static void print_label(const char *label) {
    for (; *label != '\0'; label++) putchar((unsigned char)*label < ' ' || *label == 127 ? '?' : *label);
    putchar('\n');
}

static void print_best(const Classifier *classifier, float *probabilities, size_t top) {
    for (size_t rank = 0; rank < top && rank < classifier->classes; rank++) {
        size_t best = 0;
        for (size_t i = 1; i < classifier->classes; i++)
            if (probabilities[i] > probabilities[best]) best = i;
        printf("%.6f  ", (double)probabilities[best]);
        print_label(classifier->labels[best]);
        probabilities[best] = -1.0F; /* not again */
    }
}

static bool classify_image(const char *model, const char *path, size_t top, Error *error) {
    Classifier classifier;
    Image image = {0, 0, NULL};
    uint8_t *pixels = NULL;
    float *probabilities = NULL;
    memset(&classifier, 0, sizeof classifier);
    bool good = read_image(path, &image, error) && open_classifier(model, &classifier, error);
    if (good) {
        pixels = (uint8_t *)malloc((size_t)classifier.height * (size_t)classifier.width * 3);
        probabilities = (float *)malloc(classifier.classes * sizeof *probabilities);
        good = (pixels != NULL && probabilities != NULL) || failed(error, "out of memory");
    }
    good = good &&
           evaluation_pixels(&image, classifier.height, classifier.width, classifier.crop_fraction, pixels, error) &&
           classify(&classifier, pixels, probabilities, error);
    if (good) print_best(&classifier, probabilities, top);
    free(probabilities);
    free(pixels);
    free(image.pixels);
    close_classifier(&classifier);
    return good;
}

/* Reads a file of the bundle that the manifest names, and which must have `size` bytes; the caller frees it. */
static uint8_t *read_named(const char *bundle, const cJSON *name, size_t size, Error *error) {
    char path[4096];
    uint8_t *content = NULL;
    size_t length = 0;
    if (!cJSON_IsString(name)) {
        failed(error, "%s/manifest.json: a golden without the name of its file", bundle);
        return NULL;
    }
    snprintf(path, sizeof path, "%s/%s", bundle, name->valuestring);
    if (!read_file(path, &content, &length, error)) return NULL;
    if (length == size) return content;
    failed(error, "%s: %zu bytes, expected %zu", path, length, size);
    free(content);
    return NULL;
}

/* Runs one golden; raises `largest` to its largest difference. */
static bool compare(const char *bundle, const cJSON *golden, const char *model, Classifier *classifier,
                    double *largest, Error *error) {
    const size_t pixel_bytes = (size_t)classifier->height * (size_t)classifier->width * 3;
    const size_t output_bytes = classifier->classes * sizeof(float);
    float *expected = NULL, *outputs = (float *)malloc(output_bytes);
    uint8_t *pixels = read_named(bundle, cJSON_GetObjectItemCaseSensitive(golden, "image"), pixel_bytes, error);
    if (pixels != NULL)
        expected = (float *)(void *)read_named(bundle, cJSON_GetObjectItemCaseSensitive(golden, model), output_bytes,
                                               error);
    bool good = expected != NULL && (outputs != NULL || failed(error, "out of memory")) &&
                classify(classifier, pixels, outputs, error);
    for (size_t i = 0; good && i < classifier->classes; i++) {
        const double difference = fabs((double)outputs[i] - (double)expected[i]);
        if (isnan(difference) || difference > *largest) *largest = difference; /* what is no number stays */
    }
    free(outputs);
    free(expected);
    free(pixels);
    return good;
}

/* Compares one model with all goldens, and prints how far it is from them; clears `good_enough` where that is too far. */
static bool check_model(const char *bundle, const cJSON *goldens, const cJSON *tolerances, bool *good_enough, Error *error) {
    const char *model = tolerances->string;
    const cJSON *tolerance = cJSON_GetObjectItemCaseSensitive(tolerances, "litert"), *golden = NULL;
    char path[4096];
    double largest = 0.0;
    Classifier classifier;
    snprintf(path, sizeof path, "%s/%s", bundle, model);
    bool good = open_classifier(path, &classifier, error);
    if (good && !cJSON_IsNumber(tolerance))
        good = failed(error, "%s/manifest.json: says not how far %s may be off", bundle, model);
    cJSON_ArrayForEach(golden, goldens) good = good && compare(bundle, golden, model, &classifier, &largest, error);
    close_classifier(&classifier);
    if (!good) return false;
    const bool close = largest <= tolerance->valuedouble; /* false where it is no number */
    printf("%s: %d images, largest difference %g, allowed %g: %s\n", model, cJSON_GetArraySize(goldens), largest,
           tolerance->valuedouble, close ? "good" : "TOO FAR");
    *good_enough = *good_enough && close;
    return true;
}

static bool check_goldens(const char *bundle, bool *good_enough, Error *error) {
    char path[4096];
    uint8_t *content = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/manifest.json", bundle);
    if (!read_file(path, &content, &size, error)) return false;
    cJSON *manifest = cJSON_ParseWithLength((const char *)content, size);
    free(content);
    const cJSON *goldens = cJSON_GetObjectItemCaseSensitive(manifest, "goldens");
    const cJSON *tolerances = cJSON_GetObjectItemCaseSensitive(manifest, "tolerances"), *model = NULL;
    bool good = (cJSON_GetArraySize(goldens) > 0 && cJSON_GetArraySize(tolerances) > 0) ||
                failed(error, "%s: no goldens and tolerances in it; expected a bundle of mixnet-tf", path);
    cJSON_ArrayForEach(model, tolerances) good = good && check_model(bundle, goldens, model, good_enough, error);
    cJSON_Delete(manifest);
    return good;
}

/* Returns the number of --top, or 0 where it is none. */
static size_t count_of(const char *text) {
    char *end = NULL;
    const long count = strtol(text, &end, 10);
    return *end == '\0' && count > 0 ? (size_t)count : 0;
}

int main(int argc, char **argv) {
    Error error;
    bool good_enough = true, good = false;
    const bool with_top = argc == 5 && strcmp(argv[3], "--top") == 0;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(USAGE, stdout);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--goldens") == 0)
        good = check_goldens(argv[2], &good_enough, &error);
    else if (with_top && count_of(argv[4]) == 0)
        failed(&error, "--top: found '%s', expected a whole number from 1 on", argv[4]);
    else if ((argc == 3 || with_top) && argv[1][0] != '-')
        good = classify_image(argv[1], argv[2], with_top ? count_of(argv[4]) : 5, &error);
    else
        failed(&error, "expected MODEL.tflite IMAGE [--top 5], or --goldens BUNDLE");
    if (good) return good_enough ? 0 : 1;
    fprintf(stderr, "classify: error: %s\n", error.text);
    return 2;
}
