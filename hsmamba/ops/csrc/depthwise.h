/* Arguments of the kernel of depthwise convolutions; `hsmamba/ops/depthwise.py` holds the same structures for ctypes. */
#ifndef HSMAMBA_DEPTHWISE_H
#define HSMAMBA_DEPTHWISE_H

#include <stdint.h>

typedef struct {
    float *data;
    int64_t image, row, pixel; /* strides in elements; channels are neighbours in memory */
} Grid;

typedef struct Depthwise {
    int64_t images, channels, height, width; /* of the output */
    int64_t in_height, in_width;
    int64_t taps_down, taps_across, stride, top, left; /* rows and columns of zeros above and on the left */
    int64_t pitch;              /* floats of a row of weights and bias: channels + WIDEST */
    int64_t silu;               /* whether what comes out goes through SiLU */
    Grid x, out;
    const float *weights, *bias; /* (taps, pitch), (pitch) */
    int64_t band; /* rows of the output that a thread takes at once */
    const struct Depthwise *next; /* convolution of the same maps to as many pixels, or null: see normed_product.h */
    int64_t next_task;
} Depthwise;

#endif
