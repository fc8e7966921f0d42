/* Arguments of the kernels of RAMSF's alignment in training; `hsmamba/ops/align.py` holds the same structure for ctypes.

   A perceptron looks from each fine pixel at four coarse ones. Its first layer is the sum of a fine and a coarse part; the second
   and the last are products; the last one's last output is the logit of a softmax over the four. */
#ifndef HSMAMBA_ALIGN_H
#define HSMAMBA_ALIGN_H

#include <stdint.h>

#define ALIGN_PIXELS 16 /* coarse pixels of a block: what is between the layers stays in the second cache */
#define ALIGN_ROWS (4 * ALIGN_PIXELS)

typedef struct {
    int64_t images, rows, width;    /* of the coarse grid */
    int64_t hidden, second, answers; /* outputs of the three layers, those of the first two whole vectors of WIDEST */
    int64_t pitch;                  /* answers, rounded up to WIDEST */
    const float *fine;              /* (images, 2 rows, 2 width, hidden) */
    const float *coarse;            /* (images, rows + 2, width + 2, hidden) */
    const float *weights, *turned;  /* of the second layer: (second, hidden), and (hidden, second) */
    const float *last, *last_turned; /* of the last: (answers, second), and (second, pitch) */
    const float *bias, *last_bias;  /* (second), (pitch) */
    const int32_t *rectified;       /* activations of the second layer as linear.h has them, LINEAR_RELU */
    float *z;                       /* (images, blocks, 4, ALIGN_ROWS, second): the second layer */
    float *o;                       /* (images, blocks, 4, ALIGN_ROWS, pitch): the answers */
    float *out;                     /* (images, 2 rows, 2 width, answers - 1); in the backward its gradient */
    float *dfine;                   /* as fine */
    int64_t slots;                  /* parts of the blocks, each of which has sums of its own */
    float *dcoarse;                 /* (slots, images, rows + 2, width + 2, hidden), zeros at first */
    float *dweights, *dlast;        /* (slots, second, hidden), (slots, answers, second), zeros at first */
    float *dbias, *dlast_bias;      /* (slots, second), (slots, pitch), zeros at first */
    float *scratch;                 /* for each thread */
    int64_t scratch_floats, next_thread, next_task;
} Align;

#endif
