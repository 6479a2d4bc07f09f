/* From an image file to the pixels that a model sees: as mixnet_tf, that is Pillow, makes them. */
#ifndef MIXNET_TF_IMAGE_H
#define MIXNET_TF_IMAGE_H

#include "file.h"

typedef struct {
    int width, height;
    uint8_t *pixels; /* RGB, row by row */
} Image;

/* Reads a JPEG or a PNG, upright as EXIF says, or else XMP; the caller frees `image->pixels`. */
bool read_image(const char *path, Image *image, Error *error);

/* Resizes the image (bicubic) until it covers size / crop_fraction, and copies the centre: height * width * 3 bytes. */
bool evaluation_pixels(const Image *image, int height, int width, double crop_fraction, uint8_t *pixels, Error *error);

#endif
