/* Arguments of the kernel of gradients of depthwise convolutions of small maps; `hsmamba/ops/depthwise.py` holds the same structures
   for ctypes. See depthwise.h. Several convolutions of the same maps, with outputs of one size, go through each image together. */
#ifndef HSMAMBA_DEPTHWISE_BACKWARD_H
#define HSMAMBA_DEPTHWISE_BACKWARD_H

#include "depthwise.h"

typedef struct DepthwiseBackward {
    int64_t images, channels, height, width; /* of the convolution's output */
    int64_t in_height, in_width;
    int64_t taps_down, taps_across, stride, top, left;
    int64_t pitch; /* of rows of weights and sums */
    int64_t slots; /* the images are cut into so many tasks, each of which has sums of its own */
    Grid x, grad, base, dx; /* base: what the gradient of x is added to, maybe dx itself, or null; dx: null where nobody asks */
    const float *weights; /* (taps, pitch) */
    float *sums;          /* (slots, taps + 1, pitch): gradients of the weights, and of the bias; zeros at first */
    int64_t sums_slot;    /* from those of one slot to the next */
    const struct DepthwiseBackward *next; /* convolution of the same maps, or null */
    int64_t next_task; /* of the first one */
} DepthwiseBackward;

#endif
