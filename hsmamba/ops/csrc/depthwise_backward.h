/* Arguments of the kernels of gradients of depthwise convolutions of small maps; `hsmamba/ops/depthwise.py` holds the same structures
   for ctypes. See depthwise.h. */
#ifndef HSMAMBA_DEPTHWISE_BACKWARD_H
#define HSMAMBA_DEPTHWISE_BACKWARD_H

#include "depthwise.h"

typedef struct {
    int64_t images, channels, height, width; /* of the convolution's output */
    int64_t in_height, in_width;
    int64_t taps_down, taps_across, stride, top, left;
    int64_t pitch; /* of rows of weights and sums */
    int64_t adds;  /* whether the gradient of x is added to what is there */
    int64_t slots; /* for the gradient of the weights the images are cut into so many tasks, each of which has sums of its own */
    Grid x, grad, dx;
    const float *weights; /* (taps, pitch) */
    float *sums;          /* (slots, taps + 1, pitch): gradients of the weights, and of the bias; zeros at first */
    int64_t next_task;
} DepthwiseBackward;

#endif
