/* What stands around the two matrix products of an adaptive convolution's backward: shifts scaled by taps before them, and
   gradients of taps and image out of those of scaled shifts behind them. Included by scan.c once for each level, after
   attention_backward_kernel.h. */

EXPORT void FN(hsmamba_adaptive_columns)(const AdaptiveBackward *a) {
    float *column = a->columns;
    for (int64_t t = 0; t < a->kernel * a->kernel; t++)
        for (int64_t c = 0; c < a->channels; c++)
            for (int64_t n = 0; n < a->images; n++)
                for (int64_t y = 0; y < a->height; y++, column += a->width) {
                    const float *from = a->x.data + n * a->x.image + c * a->x.channel + (y + t / a->kernel) * a->x.row + t % a->kernel;
                    const float *tap = a->taps.data + n * a->taps.image + t * a->taps.channel + y * a->taps.row;
                    int64_t x = 0;
                    for (; x + VL <= a->width; x += VL) *(vu *)(column + x) = *(const vu *)(tap + x) * *(const vu *)(from + x);
                    for (; x < a->width; x++) column[x] = tap[x] * from[x];
                }
}

/* Some pixels of one row and one tap. */
INLINE void FN(gather_tap)(const AdaptiveBackward *a, int64_t n, int64_t y, int64_t x, int64_t t, int lanes) {
    int64_t plane = a->images * a->height * a->width, shift = (y + t / a->kernel), aside = x + t % a->kernel;
    const float *column = a->columns + t * a->channels * plane + (n * a->height + y) * a->width + x;
    const float *from = a->x.data + n * a->x.image + shift * a->x.row + aside;
    float *to = a->dx.data + n * a->dx.image + shift * a->dx.row + aside;
    vf tap = FN(some)(a->taps.data + n * a->taps.image + t * a->taps.channel + y * a->taps.row + x, lanes), sum = 0.0f;
    for (int64_t c = 0; c < a->channels; c++, column += plane, from += a->x.channel, to += a->dx.channel) {
        vf slope = FN(some)(column, lanes);
        sum += slope * FN(some)(from, lanes);
        FN(put)(to, FN(some)(to, lanes) + slope * tap, lanes);
    }
    FN(put)(a->dtaps.data + n * a->dtaps.image + t * a->dtaps.channel + y * a->dtaps.row + x, sum, lanes);
}

EXPORT void FN(hsmamba_adaptive_gather)(const AdaptiveBackward *a) {
    for (int64_t n = 0; n < a->images; n++)
        for (int64_t y = 0; y < a->height; y++)
            for (int64_t t = 0; t < a->kernel * a->kernel; t++) {
                int64_t x = 0;
                for (; x + VL <= a->width; x += VL) FN(gather_tap)(a, n, y, x, t, VL);
                if (x < a->width) FN(gather_tap)(a, n, y, x, t, (int)(a->width - x));
            }
}
