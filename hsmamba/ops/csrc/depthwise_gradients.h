/* Arguments of the kernels of gradients of depthwise convolutions; `hsmamba/ops/depthwise_gradients.py` holds the same structure for ctypes.

   A pixel's channels are neighbours in memory, `row` floats with zeros behind the last channel. */
#ifndef HSMAMBA_DEPTHWISE_GRADIENTS_H
#define HSMAMBA_DEPTHWISE_GRADIENTS_H

#include <stdint.h>

typedef struct {
    int64_t images, channels, height, width; /* of the result, and of the gradient of one */
    int64_t rows, columns, dilation;         /* of the kernel */
    int64_t row;                             /* floats of a pixel: channels, rounded up to WIDEST */
    const float *x;    /* (images, height + dilation (rows - 1), width + dilation (columns - 1), row) */
    float *weights;    /* (rows, columns, row); their gradient is added to it */
    float *y;          /* (images, height, width, channels), written; or the gradient of it, with the strides of x */
    int64_t next_task; /* of images * height, or of vectors of channels */
} DepthwiseGradients;

#endif
