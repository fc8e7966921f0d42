/* Arguments of the S6 kernel; `hsmamba/ops/s6.py` holds the same structure for ctypes.

   K scans over one set of tokens, each in its own order. A token's channels, and what is projected from it, are neighbours in
   memory, so that any order of tokens is read in place. */
#ifndef HSMAMBA_S6_H
#define HSMAMBA_S6_H

#include <stdint.h>

typedef struct {
    float *data;
    int64_t batch, scan, token; /* strides in elements */
} Tokens;

typedef struct {
    int64_t batches, scans, channels, tokens, states, rank;
    int64_t parts; /* the channels are cut into so many tasks */
    int64_t row;   /* floats of a row of A, steps, bias and D: channels + WIDEST */
    int64_t own;   /* 1: each scan has weights of its own; 0: all have the same */
    Tokens u, projected, y;      /* projected: rank, then B and C of all states; y.scan 0: the scans' sum */
    const int32_t *order;        /* (scans, tokens): which token a scan visits at each step */
    const float *A, *steps;      /* (scans, states, row), (scans, rank, row) */
    const float *bias, *D;       /* (scans, row) */
    float *last;                 /* (batches, scans, channels, states), or null */
    float *checkpoints;          /* (batches, scans, blocks of STEPS steps but the first, states, channels), or null */
    float *scratch;              /* aligned to 64 bytes */
    int64_t scratch_floats;      /* for each thread: 3 STEPS WIDEST + states * row, and tokens * projected.token if driven */
    int64_t next_thread, next_task;
    int64_t driver_channels;     /* what is projected is made here, scan by scan, of a driver; 0: it is given */
    Tokens driver;               /* scan 0: one for all scans; projected.token is a multiple of PANEL then, its data unused */
    const float *projection, *shift; /* as Linear has them, for each set of weights: (sets, panels, driver_channels, PANEL) */
    int64_t own_projection;      /* see own */
} S6;

/* The way back. Gradients of weights are added up in `slots` runs of tasks. */
typedef struct {
    int64_t batches, scans, channels, tokens, states, rank, parts, row, own, slots; /* see S6 */
    Tokens u, projected, dy, du; /* dy.scan 0: of the scans' sum; du.scan 0: u is one for all scans, and so is its gradient */
    Tokens dprojected;
    int64_t dprojected_part;     /* each part of the channels has its own: the stride between them */
    const int32_t *order;
    const float *A, *steps, *bias, *D;
    const float *checkpoints, *dlast; /* dlast may be null */
    float *dA, *dsteps;  /* (slots, sets of weights, states, row), (slots, sets, rank, row): zeros at first */
    float *dbias, *dD;   /* (slots, sets, row): likewise */
    float *scratch;
    int64_t scratch_floats; /* for each thread: WIDEST (7 STEPS + states) for each vector of channels, and 16 STEPS WIDEST + 1024 */
    int64_t next_thread, next_slot;
} S6Backward;

#endif
