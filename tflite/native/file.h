/* Files and errors, for all of classify. */
#ifndef MIXNET_TF_FILE_H
#define MIXNET_TF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What went wrong, in one line: what, where, and what would be right. */
typedef struct {
    char text[512];
} Error;

/* Writes the text, as printf does, and returns false, which is what a function that failed returns. */
bool failed(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Reads a whole file; the caller frees `content`. */
bool read_file(const char *path, uint8_t **content, size_t *size, Error *error);

#endif
