/* Depthwise convolution of small maps whose channels are neighbours in memory. Included by scan.c once for each level, after
   vectors.h. */

/* Some vectors of channels of some rows at once; `lanes` of the last one. */
INLINE void FN(depthwise_channels)(const Depthwise *d, int64_t n, int64_t first, int64_t end, int64_t c, const int vectors, int lanes) {
    const float *in = d->x.data + n * d->x.image + c, *weights = d->weights + c;
    float *out = d->out.data + n * d->out.image + c;
    for (int64_t y = first; y < end; y++) {
        int64_t row = y * d->stride - d->top, i0 = row < 0 ? -row : 0;
        int64_t i1 = d->in_height - row < d->taps_down ? d->in_height - row : d->taps_down;
        for (int64_t x = 0; x < d->width; x++) {
            int64_t column = x * d->stride - d->left, j0 = column < 0 ? -column : 0;
            int64_t j1 = d->in_width - column < d->taps_across ? d->in_width - column : d->taps_across;
            vf sum[4];
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) sum[v] = *(const vu *)(d->bias + c + v * VL);
            for (int64_t i = i0; i < i1; i++) {
                const float *from = in + (row + i) * d->x.row + (column + j0) * d->x.pixel;
                const float *weight = weights + (i * d->taps_across + j0) * d->pitch;
                for (int64_t j = j0; j < j1; j++, from += d->x.pixel, weight += d->pitch) {
                    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors - 1; v++) sum[v] += *(const vu *)(from + v * VL) * *(const vu *)(weight + v * VL);
                    int v = vectors - 1;
                    sum[v] += FN(some)(from + v * VL, lanes) * *(const vu *)(weight + v * VL);
                }
            }
            float *to = out + y * d->out.row + x * d->out.pixel;
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
                if (d->silu) sum[v] *= FN(sigmoidv)(sum[v]);
                FN(put)(to + v * VL, sum[v], v < vectors - 1 ? VL : lanes);
            }
        }
    }
}

/* All channels of some rows. */
static void FN(depthwise_rows)(const Depthwise *d, int64_t n, int64_t first, int64_t end) {
    for (int64_t c = 0; c < d->channels; c += 4 * VL) {
        int64_t left = d->channels - c, vectors = left >= 4 * VL ? 4 : (left + VL - 1) / VL;
        int lanes = left >= vectors * VL ? VL : (int)(left - (vectors - 1) * VL);
        if (vectors == 4 && lanes == VL)
            FN(depthwise_channels)(d, n, first, end, c, 4, VL);
        else if (vectors == 4)
            FN(depthwise_channels)(d, n, first, end, c, 4, lanes);
        else if (vectors == 3)
            FN(depthwise_channels)(d, n, first, end, c, 3, lanes);
        else if (vectors == 2)
            FN(depthwise_channels)(d, n, first, end, c, 2, lanes);
        else
            FN(depthwise_channels)(d, n, first, end, c, 1, lanes);
    }
}

EXPORT void FN(hsmamba_depthwise)(Depthwise *d) {
    int64_t task, bands = (d->height + d->band - 1) / d->band;
    while ((task = __atomic_fetch_add(&d->next_task, 1, __ATOMIC_RELAXED)) < d->images * bands) {
        int64_t n = task / bands, first = task % bands * d->band, end = first + d->band < d->height ? first + d->band : d->height;
        FN(depthwise_rows)(d, n, first, end);
    }
}
