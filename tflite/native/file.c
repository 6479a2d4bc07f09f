#include "file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool failed(Error *error, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(error->text, sizeof error->text, format, values);
    va_end(values);
    return false;
}

bool read_file(const char *path, uint8_t **content, size_t *size, Error *error) {
    struct stat status;
    if (stat(path, &status) != 0) return failed(error, "%s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode)) return failed(error, "%s: no regular file", path); /* a pipe would wait for ever */
    FILE *file = fopen(path, "rb");
    if (file == NULL) return failed(error, "%s: %s", path, strerror(errno));
    *size = (size_t)status.st_size;
    *content = (uint8_t *)malloc(*size + 1);
    bool whole = *content != NULL && fread(*content, 1, *size, file) == *size;
    fclose(file);
    if (whole) return true;
    free(*content);
    *content = NULL;
    return failed(error, "%s: cannot be read", path);
}
