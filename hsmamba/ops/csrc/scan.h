/* Arguments of the selective scan kernels; `hsmamba/ops/cpu.py` holds the same structures for ctypes.

   Names and shapes are those of hsmamba.ops.selective_scan: u, delta, z, y (b, d, l) with any strides; B, C (b, g, n, l) with
   any strides (0 where an axis is shared); A transposed to (n, d) so that neighbouring channels are neighbours in memory. */
#ifndef HSMAMBA_SCAN_H
#define HSMAMBA_SCAN_H

#include <stdint.h>

#define STEPS 32 /* steps between two checkpoints of the state: CHECKPOINT_STEPS of hsmamba/ops/inputs.py */
#define WIDEST 16 /* channels in the widest vector: (n, d) rows have so many floats of padding behind the last channel */

typedef struct {
    float *data;
    int64_t batch, channel, step; /* strides in elements */
} Sequence;

typedef struct {
    const float *data;
    int64_t batch, group, state, step;
} Projection;

typedef struct {
    int64_t b, d, l, n, g;
    int64_t parts; /* a group's channels are cut into so many tasks */
    int64_t slots; /* the tasks are dealt out in so many runs; a run adds up its own gradients of A, D and delta_bias */
    int64_t row;   /* floats in one row of A: d + WIDEST */
    int64_t softplus;
    Sequence u, delta, z; /* z.data is null where there is no gate */
    Projection B, C;
    const float *A;          /* (n, row) */
    const float *D;          /* (row) or null */
    const float *bias;       /* (row), zeros where absent */
    const float *first;      /* (b, d, n) or null */
    Sequence y;           /* forward */
    float *last;             /* forward: (b, d, n) */
    float *checkpoints;      /* (b, ceil(l / STEPS), n, d); forward: null where none are kept */
    Sequence dy;             /* backward */
    const float *dlast;      /* backward: (b, d, n) or null */
    Sequence du, ddelta, dz;
    float *dfirst;           /* backward: (b, d, n) or null */
    float *dB, *dC;          /* backward: (parts, b, g, n, l or 1), zeros at first */
    int64_t dB_steps, dC_steps; /* the last axis: l or 1 */
    float *dA;               /* backward: (slots, n, row), zeros at first */
    float *dD, *dbias;       /* backward: (slots, row), zeros at first */
} Scan;

/* One call on several threads: each runs the same function on this, and takes its scratch memory and its work from counters. */
typedef struct {
    const Scan *scan;
    float *scratch;         /* aligned to 64 bytes */
    int64_t scratch_floats; /* for each thread */
    int64_t next_thread, next_slot;
} Run;

#endif
