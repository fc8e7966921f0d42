/* Arguments of the kernel of grouped convolutions; `hsmamba/ops/grouped.py` holds the same structure for ctypes. */
#ifndef HSMAMBA_GROUPED_H
#define HSMAMBA_GROUPED_H

#include <stdint.h>

#include "adaptive.h"

#define GROUP_BLOCK 4 /* outputs at a time */

typedef struct {
    int64_t images, groups, inputs, outputs, height, width, kernel; /* inputs and outputs of one group */
    int64_t x_group, out_group; /* planes between two groups; x.channel and out.channel are between two channels of one */
    int64_t activation;         /* as linear.h numbers them */
    Maps x, add, out;           /* x with kernel - 1 more rows and columns; add as out, its data null where there is none */
    const float *weights;       /* (groups, outputs / GROUP_BLOCK rounded up, kernel^2, inputs, GROUP_BLOCK) */
    const float *gain;          /* of what is added */
    const float *across, *down; /* (all outputs, width) and (all outputs, height): what is added to each column and row, or null */
    int64_t band, next_task;    /* rows that a thread takes at once */
} Grouped;

/* Maps whose borders are to be filled by reflection: rows and columns of the inside are at (margin, margin) of each. */
typedef struct {
    int64_t images, channels, height, width, margin;
    Maps x;
} Reflected;

#endif
