#include "image.h"

#include <ctype.h>
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it */
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

enum { MAX_PIXELS = 89478485, MAX_ASPECT_RATIO = 100 }; /* what mixnet_tf takes; the first is Pillow's limit */

static bool allocate(Image *image, size_t bytes_per_pixel, Error *error) {
    int64_t width = image->width, height = image->height;
    if (width < 1 || height < 1 || width * height > MAX_PIXELS || width > MAX_ASPECT_RATIO * height ||
        height > MAX_ASPECT_RATIO * width)
        return failed(error, "%dx%d pixels, expected up to %d, and an aspect ratio up to %d", image->width,
                      image->height, MAX_PIXELS, MAX_ASPECT_RATIO);
    image->pixels = (uint8_t *)malloc((size_t)(width * height) * bytes_per_pixel);
    return image->pixels != NULL || failed(error, "out of memory");
}

/* EXIF's orientation, 1 to 8, of a TIFF header and what follows it; 1, upright, where damaged; 0 where there is none. */
static int orientation(const uint8_t *exif, size_t size) {
    if (size > 6 && memcmp(exif, "Exif\0", 6) == 0) exif += 6, size -= 6;
    if (size < 8 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0)) return 1;
    const int low = exif[0] == 'I' ? 0 : 1; /* where the low byte of two is */
#define TWO(at) ((size_t)exif[(at) + low] | (size_t)exif[(at) + 1 - low] << 8)
#define FOUR(at) (TWO((at) + 2 * low) | TWO((at) + 2 - 2 * low) << 16)
    size_t at = FOUR(4);
    if (at > size - 2) return 0;
    size_t count = TWO(at);
    for (at += 2; count > 0 && at + 12 <= size; at += 12, count--) {
        if (TWO(at) != 0x0112) continue;
        const size_t type = TWO(at + 2), value = type == 4 ? FOUR(at + 8) : TWO(at + 8);
        return (type == 3 || type == 4) && value >= 1 && value <= 8 ? (int)value : 1; /* 16 or 32 bits */
    }
#undef FOUR
#undef TWO
    return 0;
}

/* The same of EXIF in a PNG's text: behind three lines, bytes in hexadecimal. */
static int text_orientation(const char *text) {
    for (int line = 0; line < 3 && text != NULL; line++) if ((text = strchr(text, '\n')) != NULL) text++;
    uint8_t *exif = text == NULL ? NULL : (uint8_t *)calloc(strlen(text) / 2 + 1, 1);
    if (exif == NULL) return 0;
    size_t digits = 0;
    for (; isxdigit((unsigned char)*text) || isspace((unsigned char)*text); text++)
        if (!isspace((unsigned char)*text)) {
            const int digit = (*text & 15) + (*text > '9' ? 9 : 0);
            exif[digits / 2] = (uint8_t)(exif[digits / 2] << 4 | digit);
            digits++;
        }
    const int turn = *text == '\0' ? orientation(exif, digits / 2) : 1;
    free(exif);
    return turn;
}

/* XMP's orientation, a digit, where Pillow looks for it; 0 where there is none. */
static int xmp_orientation(const char *xmp, size_t size) {
    static const char *const openings[] = {"tiff:Orientation=\"", "tiff:Orientation>"};
    for (size_t at = 0; at < size; at++)
        for (int i = 0; i < 2; i++) {
            const size_t length = strlen(openings[i]);
            if (size - at <= length || memcmp(xmp + at, openings[i], length) != 0) continue;
            if (xmp[at + length] >= '0' && xmp[at + length] <= '9') return xmp[at + length] - '0';
        }
    return 0;
}

/* Mirrors and turns an image as EXIF says, or else XMP. */
static bool turn_upright(Image *image, int exif, int xmp, Error *error) {
    const int turn = exif != 0 ? exif : xmp;
    if (turn < 2 || turn > 8) return true;
    const bool swapped = turn >= 5, mirrored = turn == 2 || turn == 3 || turn == 7 || turn == 8;
    const bool upside_down = turn == 3 || turn == 4 || turn == 6 || turn == 7;
    Image upright = {swapped ? image->height : image->width, swapped ? image->width : image->height, NULL};
    if (!allocate(&upright, 3, error)) return false;
    uint8_t *out = upright.pixels;
    for (int y = 0; y < upright.height; y++)
        for (int x = 0; x < upright.width; x++, out += 3) {
            int column = swapped ? y : x, row = swapped ? x : y;
            if (mirrored) column = image->width - 1 - column;
            if (upside_down) row = image->height - 1 - row;
            memcpy(out, image->pixels + 3 * ((size_t)row * (size_t)image->width + (size_t)column), 3);
        }
    free(image->pixels);
    *image = upright;
    return true;
}

typedef struct {
    struct jpeg_error_mgr manager; /* first, so that libjpeg's pointer to it is one to the whole */
    jmp_buf back;
    Error *error;
} JpegErrors;

static void jpeg_failed(j_common_ptr info) {
    JpegErrors *errors = (JpegErrors *)info->err;
    char message[JMSG_LENGTH_MAX];
    info->err->format_message(info, message);
    failed(errors->error, "%s", message);
    longjmp(errors->back, 1);
}

static void jpeg_warned(j_common_ptr info, int level) {
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) jpeg_failed(info); /* libjpeg would go on in gray */
}

static bool read_jpeg(const uint8_t *content, size_t size, Image *image, Error *error) {
    struct jpeg_decompress_struct info;
    JpegErrors errors;
    errors.error = error;
    info.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = jpeg_failed;
    errors.manager.emit_message = jpeg_warned;
    if (setjmp(errors.back) != 0) {
        jpeg_destroy_decompress(&info);
        return false;
    }
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, content, (unsigned long)size);
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&info, TRUE);
    image->width = (int)info.image_width;
    image->height = (int)info.image_height;
    static const char xmp_name[] = "http://ns.adobe.com/xap/1.0/";
    int turn = 0, xmp_turn = 0;
    for (jpeg_saved_marker_ptr marker = info.marker_list; marker != NULL; marker = marker->next) {
        if (turn == 0 && marker->data_length > 6 && memcmp(marker->data, "Exif\0", 6) == 0)
            turn = orientation(marker->data, marker->data_length);
        if (marker->data_length > sizeof xmp_name && memcmp(marker->data, xmp_name, sizeof xmp_name) == 0)
            xmp_turn = xmp_orientation((const char *)marker->data + sizeof xmp_name,
                                       marker->data_length - sizeof xmp_name);
    }
    bool good = info.num_components != 4 || failed(error, "colours in CMYK, expected RGB or gray");
    good = good && allocate(image, 3, error);
    if (good) {
        info.out_color_space = JCS_RGB;
        jpeg_start_decompress(&info);
        while (info.output_scanline < info.output_height) {
            JSAMPROW row = image->pixels + (size_t)info.output_scanline * (size_t)image->width * 3;
            jpeg_read_scanlines(&info, &row, 1);
        }
        jpeg_finish_decompress(&info);
    }
    jpeg_destroy_decompress(&info);
    return good && turn_upright(image, turn, xmp_turn, error);
}

typedef struct {
    const uint8_t *content;
    size_t left;
} PngSource;

static void png_failed(png_structp png, png_const_charp message) {
    failed((Error *)png_get_error_ptr(png), "%s", message);
    longjmp(png_jmpbuf(png), 1);
}

static void png_warned(png_structp png, png_const_charp message) {
    (void)png, (void)message; /* an odd chunk is nobody's business here */
}

static void png_take(png_structp png, png_bytep out, size_t count) {
    PngSource *source = (PngSource *)png_get_io_ptr(png);
    if (count > source->left) png_error(png, "image file is truncated");
    memcpy(out, source->content, count);
    source->content += count;
    source->left -= count;
}

/* Lets libpng make RGB of every kind of PNG, in 8 bits; 16 bits of gray stay, because Pillow does not cut those. */
static bool is_deep_gray(png_structp png, png_infop info) {
    bool deep_gray = png_get_bit_depth(png, info) == 16 && png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY;
    png_set_expand(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    if (!deep_gray) png_set_strip_16(png);
    return deep_gray;
}

static bool read_png(const uint8_t *content, size_t size, Image *image, Error *error) {
    PngSource source = {content, size};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, error, png_failed, png_warned);
    png_infop info = png == NULL ? NULL : png_create_info_struct(png);
    if (info == NULL) {
        png_destroy_read_struct(&png, NULL, NULL);
        return failed(error, "out of memory");
    }
    if (setjmp(png_jmpbuf(png)) != 0) {
        png_destroy_read_struct(&png, &info, NULL);
        return false;
    }
    png_set_read_fn(png, &source, png_take);
    png_read_info(png, info);
    image->width = (int)png_get_image_width(png, info);
    image->height = (int)png_get_image_height(png, info);
    const bool deep_gray = is_deep_gray(png, info);
    bool good = allocate(image, deep_gray ? 6 : 3, error);
    if (good) {
        const int passes = png_set_interlace_handling(png);
        png_read_update_info(png, info);
        for (int pass = 0; pass < passes; pass++)
            for (int y = 0; y < image->height; y++)
                png_read_row(png, image->pixels + (size_t)y * png_get_rowbytes(png, info), NULL);
        png_read_end(png, info);
    }
    const size_t values = good && deep_gray ? (size_t)image->width * (size_t)image->height * 3 : 0;
    for (size_t i = 0; i < values; i++)
        image->pixels[i] = (uint8_t)((image->pixels[2 * i] << 8 | image->pixels[2 * i + 1]) / 257);
    png_uint_32 length = 0;
    png_bytep exif = NULL;
    const bool has_exif = png_get_eXIf_1(png, info, &length, &exif) != 0;
    int turn = has_exif ? orientation(exif, length) : 0, xmp_turn = 0;
    png_textp texts = NULL;
    const int count = (int)png_get_text(png, info, &texts, NULL);
    for (int i = 0; i < count; i++) {
        if (!has_exif && strcmp(texts[i].key, "Raw profile type exif") == 0) turn = text_orientation(texts[i].text);
        if (strcmp(texts[i].key, "XML:com.adobe.xmp") == 0)
            xmp_turn = xmp_orientation(texts[i].text, texts[i].text_length + texts[i].itxt_length);
    }
    png_destroy_read_struct(&png, &info, NULL);
    return good && turn_upright(image, turn, xmp_turn, error);
}

bool read_image(const char *path, Image *image, Error *error) {
    uint8_t *content = NULL;
    size_t size = 0;
    image->pixels = NULL;
    if (!read_file(path, &content, &size, error)) return false;
    Error reason;
    const bool is_jpeg = size > 3 && memcmp(content, "\xff\xd8\xff", 3) == 0;
    const bool is_png = size > 8 && memcmp(content, "\x89PNG\r\n\x1a\n", 8) == 0;
    bool good = is_jpeg  ? read_jpeg(content, size, image, &reason)
                : is_png ? read_png(content, size, image, &reason)
                         : failed(&reason, "expected a JPEG or a PNG");
    free(content);
    if (good) return true;
    free(image->pixels);
    image->pixels = NULL;
    return failed(error, "%s: not a readable image (%s)", path, reason.text);
}

/* One side of an image, of which `count` pixels are resampled, from `first` of the resized side on. */
typedef struct {
    int size, resized, first, count;
} Side;

static double bicubic(double x) {
    const double a = -0.5;
    if (x < 0.0) x = -x;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

enum { FIXED_POINT = 22 };

/* Computes the weights of the pixels that make the resized pixel at `position`; returns the first of them.
 *
 * This is Pillow's arithmetic to the bit: doubles in this order, then whole numbers of 1 / 2^22. */
static int weigh(const Side *side, int position, double *exact, int *weights, int *count) {
    const double scale = (double)side->size / side->resized, stretch = scale < 1.0 ? 1.0 : scale;
    const double center = (position + 0.5) * scale, support = 2.0 * stretch, shrink = 1.0 / stretch;
    int begin = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    if (begin < 0) begin = 0;
    if (end > side->size) end = side->size;
    double total = 0.0;
    for (int i = begin; i < end; i++) total += exact[i - begin] = bicubic((i - center + 0.5) * shrink);
    for (int i = begin; i < end; i++) {
        double weight = total != 0.0 ? exact[i - begin] / total : exact[i - begin];
        weights[i - begin] = (int)(weight * (1 << FIXED_POINT) + (weight < 0 ? -0.5 : 0.5));
    }
    *count = end - begin;
    return begin;
}

/* Resamples `lines` lines; `step` bytes lie between neighbours on a line, and `next` between lines. */
static bool resample(const Side *side, int lines, const uint8_t *in, size_t in_step, size_t in_next, uint8_t *out,
                     size_t out_step, size_t out_next) {
    const double stretch = (double)side->size / side->resized;
    const size_t most = (size_t)ceil(2.0 * (stretch < 1.0 ? 1.0 : stretch)) * 2 + 1;
    double *exact = (double *)malloc(most * sizeof *exact);
    int *weights = (int *)malloc(most * sizeof *weights);
    const bool good = exact != NULL && weights != NULL;
    for (int i = 0; good && i < side->count; i++) {
        int count = 0;
        const uint8_t *first = in + (size_t)weigh(side, side->first + i, exact, weights, &count) * in_step;
        for (int line = 0; line < lines; line++) {
            const uint8_t *pixel = first + (size_t)line * in_next;
            int sum = 1 << (FIXED_POINT - 1);
            for (int k = 0; k < count; k++, pixel += in_step) sum += weights[k] * *pixel;
            sum = sum < 0 ? 0 : sum >> FIXED_POINT;
            out[(size_t)i * out_step + (size_t)line * out_next] = (uint8_t)(sum > 255 ? 255 : sum);
        }
    }
    free(exact);
    free(weights);
    return good;
}

/* The resized side: `covered` for the side that decides, and in proportion for the other one. */
static int in_proportion(int covered, int side, int deciding, bool square) {
    const double exact = (double)((int64_t)covered * side) / deciding;
    return square ? (int)exact : (int)nearbyint(exact); /* as Python's int() and round() */
}

bool evaluation_pixels(const Image *image, int height, int width, double crop_fraction, uint8_t *pixels, Error *error) {
    const int cover_height = (int)floor(height / crop_fraction), cover_width = (int)floor(width / crop_fraction);
    Side x = {image->width, cover_width, 0, width}, y = {image->height, cover_height, 0, height};
    if ((int64_t)y.size * cover_width <= (int64_t)x.size * cover_height)
        x.resized = in_proportion(cover_height, x.size, y.size, height == width);
    else
        y.resized = in_proportion(cover_width, y.size, x.size, height == width);
    x.first = (int)nearbyint((x.resized - width) / 2.0);
    y.first = (int)nearbyint((y.resized - height) / 2.0);

    const size_t row = (size_t)x.size * 3, narrow = (size_t)width * 3;
    uint8_t *columns = (uint8_t *)malloc(narrow * (size_t)y.size);
    bool good = columns != NULL;
    for (size_t channel = 0; good && channel < 3; channel++)
        good = resample(&x, y.size, image->pixels + channel, 3, row, columns + channel, 3, narrow);
    good = good && resample(&y, (int)narrow, columns, narrow, 1, pixels, narrow, 1);
    free(columns);
    return good || failed(error, "out of memory");
}
