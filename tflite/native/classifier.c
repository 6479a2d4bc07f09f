#include "classifier.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 4096 }; /* of the images that a model takes */

static size_t two(const uint8_t *bytes) { return (size_t)(bytes[0] | bytes[1] << 8); }
static size_t four(const uint8_t *bytes) { return two(bytes) | two(bytes + 2) << 16; }

/* Finds an entry of the zip archive at the end of a file, stored as it is; NULL where there is none.
 *
 * The archive ends with "PK\5\6", which says where its directory is: a file that was cut short has lost that. */
static const uint8_t *zip_entry(const uint8_t *file, size_t size, const char *name, size_t *length) {
    if (size < 22) return NULL;
    size_t end = size - 22;
    while (memcmp(file + end, "PK\5\6", 4) != 0)
        if (end-- == 0 || size - end > 22 + 0xFFFF) return NULL;
    const size_t directory_size = four(file + end + 12), directory = four(file + end + 16);
    if (directory_size + directory > end) return NULL;
    const size_t start = end - directory_size - directory; /* offsets count from here: 0, or where the archive begins */
    size_t at = end - directory_size;
    for (size_t entries = two(file + end + 10); entries > 0; entries--) {
        if (at + 46 > end || memcmp(file + at, "PK\1\2", 4) != 0) return NULL;
        const size_t name_length = two(file + at + 28), local = start + four(file + at + 42);
        const size_t next = at + 46 + name_length + two(file + at + 30) + two(file + at + 32);
        if (next > end) return NULL;
        if (name_length == strlen(name) && memcmp(file + at + 46, name, name_length) == 0) {
            *length = four(file + at + 24);
            const bool stored = two(file + at + 10) == 0 && *length == four(file + at + 20);
            if (!stored || local + 30 > end || memcmp(file + local, "PK\3\4", 4) != 0) return NULL;
            const size_t data = local + 30 + two(file + local + 26) + two(file + local + 28);
            return data + *length <= end ? file + data : NULL;
        }
        at = next;
    }
    return NULL;
}

/* Reads the labels, one a line. */
static bool read_labels(Classifier *classifier, size_t size, Error *error) {
    size_t length = 0;
    const uint8_t *text = zip_entry(classifier->content, size, "labels.txt", &length);
    if (text == NULL)
        return failed(error, "%s: no labels.txt inside, or cut short; export it with --recipe mobile",
                      classifier->path);
    if (length > 0 && text[length - 1] == '\n') length--;
    size_t lines = 1;
    for (size_t i = 0; i < length; i++) lines += text[i] == '\n';
    classifier->label_text = (char *)calloc(length + 1, 1);
    classifier->labels = (const char **)calloc(lines, sizeof *classifier->labels);
    if (classifier->label_text == NULL || classifier->labels == NULL) return failed(error, "out of memory");
    memcpy(classifier->label_text, text, length);
    for (char *line = classifier->label_text; line != NULL; classifier->label_count++) {
        char *end = strchr(line, '\n');
        if (end != NULL) *end++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        classifier->labels[classifier->label_count] = line;
        line = end;
    }
    return true;
}

/* Loads the model. LiteRT is told to say nothing itself: an error is one line here. */
static bool load(Classifier *classifier, size_t size, Error *error) {
    LiteRtEnvOption options[2] = {
        {kLiteRtEnvOptionTagMinLoggerSeverity, {kLiteRtAnyTypeInt, {kLiteRtLogSeveritySilent}}},
        {kLiteRtEnvOptionTagAutoRegisterAccelerators, {kLiteRtAnyTypeInt, {kLiteRtHwAcceleratorCpu}}},
    };
    LiteRtStatus status = LiteRtCreateEnvironment(2, options, &classifier->environment);
    if (status == 0)
        status = LiteRtCreateModelFromBuffer(classifier->environment, classifier->content, size, &classifier->model);
    return status == 0 || failed(error, "%s: LiteRT cannot load it (status %d)", classifier->path, (int)status);
}

/* Finds the only input and output, and the operator that writes the output. */
static bool find_ends(Classifier *classifier, LiteRtRankedTensorType *input, LiteRtRankedTensorType *output,
                      LiteRtOpCode *last, Error *error) {
    LiteRtSignature signature = NULL;
    LiteRtTensor from = NULL, to = NULL;
    LiteRtTensorDefiningOp defining = {NULL, 0};
    LiteRtStatus status = 0;
    size_t inputs = 0, outputs = 0;
    bool is_computed = false;
    const bool counted = (status = LiteRtGetModelSignature(classifier->model, 0, &signature)) == 0 &&
                         (status = LiteRtGetNumSignatureInputs(signature, &inputs)) == 0 &&
                         (status = LiteRtGetNumSignatureOutputs(signature, &outputs)) == 0;
    if (counted && (inputs != 1 || outputs != 1))
        return failed(error, "%s: has %zu inputs and %zu outputs, expected one of each", classifier->path, inputs,
                      outputs);
    const bool known = counted && (status = LiteRtGetSignatureInputTensorByIndex(signature, 0, &from)) == 0 &&
                       (status = LiteRtGetRankedTensorType(from, input)) == 0 &&
                       (status = LiteRtGetSignatureOutputTensorByIndex(signature, 0, &to)) == 0 &&
                       (status = LiteRtGetRankedTensorType(to, output)) == 0 &&
                       (status = LiteRtGetTensorDefiningOp(to, &is_computed, &defining)) == 0;
    *last = 0;
    return (known && (!is_computed || (status = LiteRtGetOpCode(defining.op, last)) == 0)) ||
           failed(error, "%s: LiteRT cannot tell what it takes and gives (status %d)", classifier->path, (int)status);
}

/* Checks that it is a classifier of images, and remembers of which size. */
static bool look_at(Classifier *classifier, const LiteRtRankedTensorType *input, const LiteRtRankedTensorType *output,
                    LiteRtOpCode last, Error *error) {
    const char *path = classifier->path;
    const int32_t *in = input->layout.dimensions, *out = output->layout.dimensions;
    classifier->takes_floats = input->element_type == kLiteRtElementTypeFloat32;
    if (!classifier->takes_floats && input->element_type != kLiteRtElementTypeUInt8)
        return failed(error, "%s: its input is no pixels in uint8 or float32; export it with --recipe mobile", path);
    if (input->layout.rank != 4 || in[0] != 1 || in[1] < 1 || in[1] > MAX_SIDE || in[2] < 1 || in[2] > MAX_SIDE ||
        in[3] != 3)
        return failed(error, "%s: its input is no image, expected shape (1, height, width, 3)", path);
    if (output->element_type != kLiteRtElementTypeFloat32 || output->layout.rank != 2 || out[0] != 1 || out[1] < 1)
        return failed(error, "%s: its output is no float32 (1, classes); export it with --recipe mobile", path);
    if (last != kLiteRtOpCodeTflSoftmax && last != kLiteRtOpCodeTflLogistic)
        return failed(error, "%s: its output is no probabilities; export it with --recipe mobile", path);
    classifier->height = in[1];
    classifier->width = in[2];
    classifier->classes = (size_t)out[1];
    return classifier->label_count == classifier->classes ||
           failed(error, "%s: %zu labels for %zu classes", path, classifier->label_count, classifier->classes);
}

/* Reads what mixnet_tf recorded in the file: what it takes for an image, and how much of a picture it wants to see. */
static bool read_records(Classifier *classifier, Error *error) {
    const void *record = NULL;
    size_t length = 0;
    char number[16] = "";
    classifier->crop_fraction = 0.875;
    if (LiteRtGetModelMetadata(classifier->model, "mixnet_tf.crop_fraction", &record, &length) == 0) {
        char *end = number;
        memcpy(number, record, length < sizeof number ? length : 0);
        classifier->crop_fraction = strtod(number, &end);
        if (end == number || *end != '\0' || !(classifier->crop_fraction >= 0.01 && classifier->crop_fraction <= 1.0))
            return failed(error, "%s: its crop fraction is damaged, expected a number from 0.01 to 1", classifier->path);
    }
    /* a byte can only be a pixel; what a float is, must be known */
    if (LiteRtGetModelMetadata(classifier->model, "mixnet_tf.input_format", &record, &length) != 0)
        return !classifier->takes_floats ||
               failed(error, "%s: does not say what its floats are; export it with --recipe mobile", classifier->path);
    return (length == strlen("pixels") && memcmp(record, "pixels", length) == 0) ||
           failed(error, "%s: takes no pixels from 0 to 255; export it with --recipe mobile", classifier->path);
}

/* Lets LiteRT prepare the model for the CPU, and makes a buffer each for what it takes and gives. */
static bool compile(Classifier *classifier, const LiteRtRankedTensorType *input, const LiteRtRankedTensorType *output,
                    Error *error) {
    const size_t values = (size_t)classifier->height * (size_t)classifier->width * 3;
    const size_t input_size = classifier->takes_floats ? values * sizeof(float) : values;
    const size_t output_size = classifier->classes * sizeof(float);
    const LiteRtEnvironment environment = classifier->environment;
    const LiteRtTensorBufferType memory = kLiteRtTensorBufferTypeHostMemory;
    LiteRtOptions options = NULL;
    LiteRtStatus status = 0;
    const bool good =
        (status = LiteRtCreateOptions(&options)) == 0 &&
        (status = LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu)) == 0 &&
        (status = LiteRtCreateCompiledModel(environment, classifier->model, options, &classifier->compiled)) == 0 &&
        (status = LiteRtCreateManagedTensorBuffer(environment, memory, input, input_size, &classifier->input)) == 0 &&
        (status = LiteRtCreateManagedTensorBuffer(environment, memory, output, output_size, &classifier->output)) == 0;
    if (options != NULL) LiteRtDestroyOptions(options);
    return good || failed(error, "%s: LiteRT cannot prepare it (status %d)", classifier->path, (int)status);
}

bool open_classifier(const char *path, Classifier *classifier, Error *error) {
    size_t size = 0;
    LiteRtRankedTensorType input, output;
    LiteRtOpCode last;
    memset(classifier, 0, sizeof *classifier);
    classifier->path = path;
    if (!read_file(path, &classifier->content, &size, error)) return false;
    if (size < 8 || memcmp(classifier->content + 4, "TFL3", 4) != 0) return failed(error, "%s: not a .tflite", path);
    return read_labels(classifier, size, error) && load(classifier, size, error) &&
           find_ends(classifier, &input, &output, &last, error) && look_at(classifier, &input, &output, last, error) &&
           read_records(classifier, error) && compile(classifier, &input, &output, error);
}

bool classify(Classifier *classifier, const uint8_t *pixels, float *probabilities, Error *error) {
    const size_t values = (size_t)classifier->height * (size_t)classifier->width * 3;
    void *memory = NULL;
    LiteRtStatus status = LiteRtLockTensorBuffer(classifier->input, &memory, kLiteRtTensorBufferLockModeWrite);
    if (status == 0) {
        for (size_t i = 0; i < values && classifier->takes_floats; i++) ((float *)memory)[i] = pixels[i];
        if (!classifier->takes_floats) memcpy(memory, pixels, values);
        status = LiteRtUnlockTensorBuffer(classifier->input);
    }
    if (status == 0)
        status = LiteRtRunCompiledModel(classifier->compiled, 0, 1, &classifier->input, 1, &classifier->output);
    if (status == 0) status = LiteRtLockTensorBuffer(classifier->output, &memory, kLiteRtTensorBufferLockModeRead);
    if (status == 0) {
        memcpy(probabilities, memory, classifier->classes * sizeof *probabilities);
        status = LiteRtUnlockTensorBuffer(classifier->output);
    }
    if (status != 0) return failed(error, "%s: LiteRT cannot run it (status %d)", classifier->path, (int)status);
    for (size_t i = 0; i < classifier->classes; i++)
        if (!isfinite(probabilities[i]))
            return failed(error, "%s: gives outputs that are not finite (NaN or infinity)", classifier->path);
    return true;
}

void close_classifier(Classifier *classifier) {
    if (classifier->input != NULL) LiteRtDestroyTensorBuffer(classifier->input);
    if (classifier->output != NULL) LiteRtDestroyTensorBuffer(classifier->output);
    if (classifier->compiled != NULL) LiteRtDestroyCompiledModel(classifier->compiled);
    if (classifier->model != NULL) LiteRtDestroyModel(classifier->model);
    if (classifier->environment != NULL) LiteRtDestroyEnvironment(classifier->environment);
    free(classifier->labels);
    free(classifier->label_text);
    free(classifier->content);
    memset(classifier, 0, sizeof *classifier);
}
