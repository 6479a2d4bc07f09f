/* Writes what classify computes on the way, in bytes, for test_native.py.
 *
 *   probe pixels HEIGHT WIDTH CROP IMAGE ...   the pixels that a model of that size sees, uint8
 *   probe outputs MODEL.tflite FILE            the probabilities, float32, of each image of FILE, which holds pixels
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classifier.h"
#include "image.h"

static bool print_pixels(char **arguments, int count, Error *error) {
    const int height = atoi(arguments[0]), width = atoi(arguments[1]);
    const double crop = atof(arguments[2]);
    const size_t size = (size_t)height * (size_t)width * 3;
    uint8_t *pixels = (uint8_t *)malloc(size);
    bool good = pixels != NULL;
    for (int i = 3; good && i < count; i++) {
        Image image = {0, 0, NULL};
        good = read_image(arguments[i], &image, error) &&
               evaluation_pixels(&image, height, width, crop, pixels, error) &&
               fwrite(pixels, 1, size, stdout) == size;
        free(image.pixels);
    }
    free(pixels);
    return good;
}

static bool print_outputs(const char *model, const char *file, Error *error) {
    Classifier classifier;
    uint8_t *pixels = NULL;
    float *outputs = NULL;
    size_t size = 0;
    bool good = open_classifier(model, &classifier, error) && read_file(file, &pixels, &size, error);
    if (good) good = (outputs = (float *)malloc(classifier.classes * sizeof *outputs)) != NULL;
    const size_t image = (size_t)classifier.height * (size_t)classifier.width * 3;
    for (size_t at = 0; good && at + image <= size; at += image)
        good = classify(&classifier, pixels + at, outputs, error) &&
               fwrite(outputs, sizeof *outputs, classifier.classes, stdout) == classifier.classes;
    free(outputs);
    free(pixels);
    close_classifier(&classifier);
    return good;
}

int main(int argc, char **argv) {
    Error error = {"usage: see the source"};
    bool good = false;
    if (argc > 5 && strcmp(argv[1], "pixels") == 0) good = print_pixels(argv + 2, argc - 2, &error);
    if (argc == 4 && strcmp(argv[1], "outputs") == 0) good = print_outputs(argv[2], argv[3], &error);
    if (good) return 0;
    fprintf(stderr, "probe: error: %s\n", error.text);
    return 2;
}
