/* Adaptive convolutions of pixels whose channels are neighbours in memory, forward and back: a block of pixels is brought into
   columns, which are multiplied while they are in a cache. Included by scan.c once for each level, after align_kernel.h. */

/* A pixel and its place in its image. */
typedef struct {
    int64_t pixel, y, x;
} FN(Spot);

INLINE FN(Spot) FN(spot)(const AdaptiveRows *a, int64_t pixel) {
    FN(Spot) s = {pixel, pixel / a->width % a->height, pixel % a->width};
    return s;
}

INLINE void FN(next_spot)(const AdaptiveRows *a, FN(Spot) *s) {
    s->pixel++;
    if (++s->x == a->width) s->x = 0, s->y = s->y + 1 == a->height ? 0 : s->y + 1;
}

/* Where the pixel is that lies so far from a spot, in floats of x; -1 beyond the border. */
INLINE int64_t FN(tapped)(const AdaptiveRows *a, const FN(Spot) *s, int64_t down, int64_t across) {
    int inside = (uint64_t)(s->y + down) < (uint64_t)a->height && (uint64_t)(s->x + across) < (uint64_t)a->width;
    return inside ? (s->pixel + down * a->width + across) * a->channels : -1;
}

/* Scaled pixels, (count, kernel^2 channels). */
static void FN(adaptive_rows_columns)(const AdaptiveRows *a, int64_t first, int64_t count, float *columns) {
    int64_t near = a->kernel / 2;
    const float *tap = a->taps + first * a->kernel * a->kernel;
    FN(Spot) s = FN(spot)(a, first);
    for (int64_t i = 0; i < count; i++, FN(next_spot)(a, &s))
        for (int64_t down = -near; down <= near; down++)
            for (int64_t across = -near; across <= near; across++, tap++, columns += a->channels) {
                int64_t from = FN(tapped)(a, &s, down, across);
                for (int64_t c = 0; c < a->channels; c += VL)
                    *(vu *)(columns + c) = from < 0 ? (vf)0.0f : *tap * *(const vu *)(a->x + from + c);
            }
}

EXPORT void FN(hsmamba_adaptive_rows)(AdaptiveRows *a) {
    uint64_t mode = flush_denormals();
    float *columns = a->scratch + a->scratch_floats * __atomic_fetch_add(&a->next_thread, 1, __ATOMIC_RELAXED);
    int64_t pixels = a->images * a->height * a->width, inner = a->kernel * a->kernel * a->channels, task;
    while ((task = __atomic_fetch_add(&a->next_task, 1, __ATOMIC_RELAXED)) * ADAPTIVE_PIXELS < pixels) {
        int64_t first = task * ADAPTIVE_PIXELS, count = pixels - first < ADAPTIVE_PIXELS ? pixels - first : ADAPTIVE_PIXELS;
        FN(adaptive_rows_columns)(a, first, count, columns);
        Linear l = FN(small_linear)(count, inner, a->outputs, columns, inner, 1, a->turned, a->pitch, a->out + first * a->outputs, a->outputs);
        FN(small_product)(&l);
    }
    restore_mode(mode);
}

/* Gradients of pixels and taps from that of columns. */
static void FN(adaptive_rows_gather)(const AdaptiveRows *a, int64_t first, int64_t count, const float *columns, float *dx) {
    int64_t near = a->kernel / 2, taps = a->kernel * a->kernel;
    const float *tap = a->taps + first * taps;
    float *dtap = a->dtaps + first * taps;
    FN(Spot) s = FN(spot)(a, first);
    for (int64_t i = 0; i < count; i++, FN(next_spot)(a, &s))
        for (int64_t down = -near; down <= near; down++)
            for (int64_t across = -near; across <= near; across++, tap++, dtap++, columns += a->channels) {
                int64_t from = FN(tapped)(a, &s, down, across);
                vf sum = 0.0f;
                float along = 0.0f;
                for (int64_t c = 0; from >= 0 && c < a->channels; c += VL) {
                    vf slope = *(const vu *)(columns + c);
                    sum += slope * *(const vu *)(a->x + from + c);
                    *(vu *)(dx + from + c) += *tap * slope;
                }
                for (int lane = 0; lane < VL; lane++) along += sum[lane];
                *dtap = along;
            }
}

EXPORT void FN(hsmamba_adaptive_rows_backward)(AdaptiveRows *a) {
    uint64_t mode = flush_denormals();
    int64_t inner = a->kernel * a->kernel * a->channels, pixels = a->images * a->height * a->width, slot;
    int64_t blocks = (pixels + ADAPTIVE_PIXELS - 1) / ADAPTIVE_PIXELS;
    float *columns = a->scratch + a->scratch_floats * __atomic_fetch_add(&a->next_thread, 1, __ATOMIC_RELAXED);
    float *slopes = columns + ADAPTIVE_PIXELS * inner;
    while ((slot = __atomic_fetch_add(&a->next_task, 1, __ATOMIC_RELAXED)) < a->slots) {
        float *dweights = a->dweights + slot * a->outputs * inner, *dx = a->dx + slot * pixels * a->channels;
        for (int64_t task = blocks * slot / a->slots; task < blocks * (slot + 1) / a->slots; task++) {
            int64_t first = task * ADAPTIVE_PIXELS, count = pixels - first < ADAPTIVE_PIXELS ? pixels - first : ADAPTIVE_PIXELS;
            const float *grad = a->out + first * a->outputs;
            FN(adaptive_rows_columns)(a, first, count, columns);
            Linear l = FN(small_linear)(a->outputs, count, inner, grad, 1, a->outputs, columns, inner, dweights, inner);
            l.add = dweights, l.add_row = inner;
            FN(small_product)(&l);
            l = FN(small_linear)(count, a->outputs, inner, grad, a->outputs, 1, a->weights, inner, slopes, inner);
            FN(small_product)(&l);
            FN(adaptive_rows_gather)(a, first, count, slopes, dx);
        }
    }
    restore_mode(mode);
}
