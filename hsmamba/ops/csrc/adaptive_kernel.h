/* Convolution whose taps are scaled at each pixel. A block of outputs stays in registers for some vectors of
   neighbouring pixels of a row, while taps and channels go by: what is scaled is used at once and never stored. Included by scan.c once
   for each level, after attention_kernel.h. */

INLINE void FN(convolve)(const Adaptive *a, const int vectors, int64_t n, int64_t y, int64_t x, int64_t first, int lanes) {
    vf sum[OUTPUT_BLOCK][PIXEL_VECTORS];
    const float *weights = a->weights + first * a->kernel * a->kernel * a->channels, *taps = a->taps.data + n * a->taps.image + y * a->taps.row + x;
    for (int o = 0; o < OUTPUT_BLOCK; o++)
        for (int v = 0; v < vectors; v++) sum[o][v] = 0.0f;
    for (int64_t t = 0; t < a->kernel * a->kernel; t++, taps += a->taps.channel) {
        const float *from = a->x.data + n * a->x.image + (y + t / a->kernel) * a->x.row + x + t % a->kernel;
        vf tap[PIXEL_VECTORS], scaled[PIXEL_VECTORS];
        for (int v = 0; v < vectors; v++) tap[v] = FN(some)(taps + v * VL, lanes);
        for (int64_t c = 0; c < a->channels; c++, from += a->x.channel, weights += OUTPUT_BLOCK) {
            for (int v = 0; v < vectors; v++) scaled[v] = tap[v] * FN(some)(from + v * VL, lanes);
            for (int o = 0; o < OUTPUT_BLOCK; o++)
                for (int v = 0; v < vectors; v++) sum[o][v] += scaled[v] * weights[o];
        }
    }
    float *out = a->out.data + n * a->out.image + first * a->out.channel + y * a->out.row + x;
    int64_t left = a->outputs - first;
    for (int o = 0; o < OUTPUT_BLOCK && o < left; o++, out += a->out.channel)
        for (int v = 0; v < vectors; v++)
            if (lanes == VL)
                *(vu *)(out + v * VL) = sum[o][v];
            else
                for (int i = 0; i < lanes; i++) out[i] = sum[o][v][i];
}

/* One row. Where it is wide enough, the last vectors end with it and may do some pixels again. */
INLINE void FN(convolve_row)(const Adaptive *a, int64_t n, int64_t y, int64_t first) {
    int64_t x = 0, width = a->width, step = PIXEL_VECTORS * VL;
    if (width >= step) {
        for (; x + step <= width; x += step) FN(convolve)(a, PIXEL_VECTORS, n, y, x, first, VL);
        if (x < width) FN(convolve)(a, PIXEL_VECTORS, n, y, width - step, first, VL);
        return;
    }
    for (; x < width; x += VL) FN(convolve)(a, 1, n, y, x, first, width - x < VL ? (int)(width - x) : VL);
}

EXPORT void FN(hsmamba_adaptive)(Adaptive *a) {
    int64_t task, bands = (a->height + a->band - 1) / a->band;
    while ((task = __atomic_fetch_add(&a->next_task, 1, __ATOMIC_RELAXED)) < a->images * bands) {
        int64_t n = task / bands, first = task % bands * a->band, end = a->height - first < a->band ? a->height : first + a->band;
        for (int64_t y = first; y < end; y++)
            for (int64_t o = 0; o < a->outputs; o += OUTPUT_BLOCK) FN(convolve_row)(a, n, y, o);
    }
}
