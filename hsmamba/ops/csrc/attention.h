/* Arguments of the window attention kernels; `hsmamba/ops/attention.py` holds the same structure for ctypes. */
#ifndef HSMAMBA_ATTENTION_H
#define HSMAMBA_ATTENTION_H

#include <stdint.h>

#define MOST_CHANNELS 16 /* of a head */
#define WIDEST_WINDOW 15

typedef struct {
    float *data;
    int64_t group, channel, row; /* strides in elements; neighbouring pixels are neighbours in memory */
} Planes;

typedef struct {
    int64_t groups, channels, height, width, window;
    Planes q, k, v, out; /* (groups, channels, height, width); k and v with window - 1 more rows and columns */
    int64_t activation;      /* of the result, as linear.h numbers them: none, relu or sigmoid */
    int64_t band, next_task; /* rows that a thread takes at once */
} Attention;

typedef struct {
    int64_t groups, channels, height, width, window;
    Planes q, k, v, out, grad, dq, dk, dv; /* shapes of attention; dk and dv are added to */
    float *scratch;                        /* for each thread, zeros: 2 (window^2 + channels) rows */
    int64_t scratch_row;                   /* floats of one: width + 2 (window - 1) + WIDEST at least */
    int64_t next_thread, next_group;
} AttentionBackward;

#endif
