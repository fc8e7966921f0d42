/* Arguments of the kernels of adaptive convolutions in training whose pixels' channels are neighbours in memory;
   `hsmamba/ops/adaptive_rows.py` holds the same structure for ctypes. */
#ifndef HSMAMBA_ADAPTIVE_ROWS_H
#define HSMAMBA_ADAPTIVE_ROWS_H

#include <stdint.h>

#define ADAPTIVE_PIXELS 64 /* of a block, whose columns stay in the first or second cache */

typedef struct {
    int64_t images, height, width, kernel;
    int64_t channels, outputs;     /* channels whole vectors of WIDEST */
    int64_t pitch;                 /* outputs, rounded up to WIDEST */
    const float *x;                /* (images, height, width, channels); beyond it are zeros */
    const float *taps;             /* (images, height, width, kernel^2) */
    const float *weights, *turned; /* (outputs, kernel^2 channels), and (kernel^2 channels, pitch) */
    float *out;                    /* (images, height, width, outputs); in the backward its gradient */
    int64_t slots;                 /* parts of the blocks, each of which has sums of its own */
    float *dtaps;                  /* as taps */
    float *dx, *dweights;          /* (slots, images, height, width, channels), (slots, outputs, kernel^2 channels), zeros at first */
    float *scratch;                /* for each thread */
    int64_t scratch_floats, next_thread, next_task;
} AdaptiveRows;

#endif
