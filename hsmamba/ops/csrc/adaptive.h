/* Arguments of the adaptive convolution kernels; `hsmamba/ops/adaptive.py` holds the same structure for ctypes. */
#ifndef HSMAMBA_ADAPTIVE_H
#define HSMAMBA_ADAPTIVE_H

#include <stdint.h>

#define OUTPUT_BLOCK 8 /* outputs at a time */

typedef struct {
    float *data;
    int64_t image, channel, row; /* strides in elements; neighbouring pixels are neighbours in memory */
} Maps;

typedef struct {
    int64_t images, channels, outputs, height, width, kernel;
    Maps x, taps, out;    /* x with kernel - 1 more rows and columns; taps (images, kernel^2, height, width) */
    const float *weights; /* (outputs / OUTPUT_BLOCK rounded up, kernel^2, channels, OUTPUT_BLOCK) */
    int64_t band, next_task; /* rows that a thread takes at once */
} Adaptive;

typedef struct {
    int64_t images, channels, height, width, kernel;
    Maps x, taps, dx, dtaps; /* dx is added to */
    float *columns;          /* (kernel^2, channels, images, height, width) */
} AdaptiveBackward;

#endif
