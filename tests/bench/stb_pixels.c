/* What stb_image and stb_image_resize make of photographs: compared with tflite/native/image.c by bench_native.py.
 *
 *   stb_pixels SIZE IMAGE ...   SIZE * SIZE * 3 bytes each: shorter side to SIZE / 0.875 by Catmull-Rom, centre crop
 */
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#include <math.h>
#include <stb/stb_image.h>
#include <stb/stb_image_resize.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const int size = atoi(argv[1]), cover = (int)(size / 0.875);
    for (int i = 2; i < argc; i++) {
        int width, height, channels;
        unsigned char *image = stbi_load(argv[i], &width, &height, &channels, 3);
        if (image == NULL) return 2;
        const int shorter = width < height ? width : height;
        const int wide = (int)((double)cover * width / shorter), high = (int)((double)cover * height / shorter);
        const int left = (int)rint((wide - size) / 2.0), top = (int)rint((high - size) / 2.0);
        unsigned char *resized = (unsigned char *)malloc((size_t)wide * (size_t)high * 3);
        stbir_resize_uint8_generic(image, width, height, 0, resized, wide, high, 0, 3, STBIR_ALPHA_CHANNEL_NONE, 0,
                                   STBIR_EDGE_CLAMP, STBIR_FILTER_CATMULLROM, STBIR_COLORSPACE_LINEAR, NULL);
        for (int row = 0; row < size; row++)
            fwrite(resized + ((size_t)(top + row) * (size_t)wide + (size_t)left) * 3, 3, (size_t)size, stdout);
        free(resized);
        stbi_image_free(image);
    }
    return 0;
}
