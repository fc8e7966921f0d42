/* Arguments of the kernels of 3-D convolutions of one channel over bands, rows and columns; `hsmamba/ops/bands.py` holds the same for
   ctypes. Bands are neighbours in memory. */
#ifndef HSMAMBA_BANDS_H
#define HSMAMBA_BANDS_H

#include <stdint.h>

typedef struct {
    int64_t images, filters, bands, height, width; /* of the result */
    int64_t taps, down, across;                    /* of the kernel: along bands, rows, columns */
    int64_t pitch;    /* floats of a pixel of x: bands, rounded up to whole vectors of WIDEST, and taps - 1 */
    int64_t slots;    /* of the gradient: the images are cut into so many tasks, each of which has sums of its own */
    const float *x;   /* (images, height + down - 1, width + across - 1, pitch) */
    float *weights;   /* (down, across, taps, filters); of the gradient (slots, down, across, taps, filters, WIDEST): zeros at first */
    float *y;         /* (images, height, width, filters, bands) */
    int64_t next_task;
} Bands;

/* Images whose columns are neighbours in memory, to be put in the order of `Bands`; what is around them stays as it is. */
typedef struct {
    int64_t images, bands, height, width;
    int64_t image, band, row;                 /* strides of `from` in elements */
    int64_t to_image, to_row, pitch;          /* of `to`, whose first pixel inside is at its beginning */
    const float *from;
    float *to;
    int64_t next_task;
} BandImages;

#endif
