/* A classifier that mixnet_tf exported (recipe mobile or mobile_float32), on LiteRT's CPU path. */
#ifndef MIXNET_TF_CLASSIFIER_H
#define MIXNET_TF_CLASSIFIER_H

#include "file.h"
#include "litert.h"

typedef struct {
    const char *path;
    int height, width;    /* of the images it takes */
    double crop_fraction; /* the part of a resized image that it wants to see */
    size_t classes;
    const char **labels;  /* `classes` of them; from labels.txt inside the file */

    /* the rest is for classifier.c */
    char *label_text;
    size_t label_count;
    uint8_t *content;     /* of the file, from which LiteRT reads the weights */
    bool takes_floats;    /* float32 pixels; else uint8 */
    LiteRtEnvironment environment;
    LiteRtModel model;
    LiteRtCompiledModel compiled;
    LiteRtTensorBuffer input, output;
} Classifier;

/* Opens a file. Close the classifier whether that works or not; `path` must stay as long. */
bool open_classifier(const char *path, Classifier *classifier, Error *error);

/* Classifies height * width * 3 bytes of RGB: writes a probability for each class. */
bool classify(Classifier *classifier, const uint8_t *pixels, float *probabilities, Error *error);

void close_classifier(Classifier *classifier);

#endif
