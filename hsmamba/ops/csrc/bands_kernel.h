/* 3-D convolution of one channel with a few small kernels, and the gradient of their weights: neighbouring bands are the lanes of a
   vector. Included by scan.c once for each level, after vectors.h. */

#if VL == 16
#define BAND_PIXELS 2 /* whose sums stay in registers */
#define BAND_FILTERS 6
#else
#define BAND_PIXELS 1
#define BAND_FILTERS 4
#endif
#define BAND_TAPS 3 /* of the gradient */

/* How many filters are worked on together when so many are left. */
INLINE int FN(band_filters)(int64_t left) {
    if (left >= BAND_FILTERS && (left % BAND_FILTERS == 0 || left % 4)) return BAND_FILTERS;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* Some filters at some pixels of a row, for some vectors of bands; `lanes` of the last one. */
INLINE void FN(band_tile)(const Bands *b, const float *x, const float *weights, float *y, const int filters, const int pixels,
                          const int vectors, int lanes) {
    vf sum[BAND_FILTERS][BAND_PIXELS][2];
    int64_t line = (b->width + b->across - 1) * b->pitch;
    _Pragma("clang loop unroll(full)") for (int f = 0; f < filters; f++)
        _Pragma("clang loop unroll(full)") for (int p = 0; p < pixels; p++)
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) sum[f][p][v] = 0.0f;
    for (int64_t i = 0; i < b->down; i++, x += line)
        for (int64_t j = 0; j < b->across; j++) {
            const float *from = x + j * b->pitch;
            for (int64_t k = 0; k < b->taps; k++, from++, weights += b->filters) {
                vf in[BAND_PIXELS][2];
                _Pragma("clang loop unroll(full)") for (int p = 0; p < pixels; p++)
                    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) in[p][v] = *(const vu *)(from + p * b->pitch + v * VL);
                _Pragma("clang loop unroll(full)") for (int f = 0; f < filters; f++) {
                    vf weight = weights[f];
                    _Pragma("clang loop unroll(full)") for (int p = 0; p < pixels; p++)
                        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) sum[f][p][v] += weight * in[p][v];
                }
            }
        }
    _Pragma("clang loop unroll(full)") for (int f = 0; f < filters; f++)
        _Pragma("clang loop unroll(full)") for (int p = 0; p < pixels; p++)
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++)
                FN(put)(y + (p * b->filters + f) * b->bands + v * VL, sum[f][p][v], v < vectors - 1 ? VL : lanes);
}

/* Two vectors of bands, or the last one, of one or some pixels. */
INLINE void FN(band_pixels)(const Bands *b, const float *x, const float *weights, float *y, const int filters, const int pixels) {
    for (int64_t c = 0; c < b->bands; c += 2 * VL) {
        int64_t left = b->bands - c;
        if (left > VL)
            FN(band_tile)(b, x + c, weights, y + c, filters, pixels, 2, left >= 2 * VL ? VL : (int)(left - VL));
        else
            FN(band_tile)(b, x + c, weights, y + c, filters, pixels, 1, (int)left);
    }
}

INLINE void FN(band_row)(const Bands *b, const float *x, const float *weights, float *y, const int filters) {
    int64_t at = 0, each = b->filters * b->bands;
    for (; at + BAND_PIXELS <= b->width; at += BAND_PIXELS) FN(band_pixels)(b, x + at * b->pitch, weights, y + at * each, filters, BAND_PIXELS);
    for (; at < b->width; at++) FN(band_pixels)(b, x + at * b->pitch, weights, y + at * each, filters, 1);
}

EXPORT void FN(hsmamba_bands)(Bands *b) {
    int64_t line = (b->width + b->across - 1) * b->pitch, lines = b->height + b->down - 1, task;
    while ((task = __atomic_fetch_add(&b->next_task, 1, __ATOMIC_RELAXED)) < b->images * b->height) {
        const float *x = b->x + (task / b->height * lines + task % b->height) * line;
        float *y = b->y + task * b->width * b->filters * b->bands;
        for (int64_t f = 0; f < b->filters;) {
            int count = FN(band_filters)(b->filters - f);
            float *to = y + f * b->bands;
            if (count == BAND_FILTERS)
                FN(band_row)(b, x, b->weights + f, to, BAND_FILTERS);
            else if (count == 4)
                FN(band_row)(b, x, b->weights + f, to, 4);
            else if (count == 2)
                FN(band_row)(b, x, b->weights + f, to, 2);
            else
                FN(band_row)(b, x, b->weights + f, to, 1);
            f += count;
        }
    }
}

/* Add what some rows of an image give to the gradient of some taps of some filters. */
INLINE void FN(band_gradient)(const Bands *b, const float *x, const float *grad, int64_t rows, float *sums, const int filters, const int taps) {
    vf sum[BAND_TAPS][BAND_FILTERS];
    int64_t line = (b->width + b->across - 1) * b->pitch, each = b->filters * b->bands, whole = b->bands / VL;
    int lanes = (int)(b->bands % VL);
    _Pragma("clang loop unroll(full)") for (int k = 0; k < taps; k++)
        _Pragma("clang loop unroll(full)") for (int f = 0; f < filters; f++) sum[k][f] = *(const vf *)(sums + (k * b->filters + f) * WIDEST);
    for (int64_t row = 0; row < rows; row++, x += line)
        for (int64_t at = 0; at < b->width; at++, grad += each) {
            const float *from = x + at * b->pitch;
            for (int64_t v = 0; v < whole; v++) {
                vf in[BAND_TAPS];
                _Pragma("clang loop unroll(full)") for (int k = 0; k < taps; k++) in[k] = *(const vu *)(from + v * VL + k);
                _Pragma("clang loop unroll(full)") for (int f = 0; f < filters; f++) {
                    vf g = *(const vu *)(grad + f * b->bands + v * VL);
                    _Pragma("clang loop unroll(full)") for (int k = 0; k < taps; k++) sum[k][f] += g * in[k];
                }
            }
            if (lanes) {
                vf in[BAND_TAPS];
                _Pragma("clang loop unroll(full)") for (int k = 0; k < taps; k++) in[k] = *(const vu *)(from + whole * VL + k);
                _Pragma("clang loop unroll(full)") for (int f = 0; f < filters; f++) {
                    vf g = FN(some)(grad + f * b->bands + whole * VL, lanes);
                    _Pragma("clang loop unroll(full)") for (int k = 0; k < taps; k++) sum[k][f] += g * in[k];
                }
            }
        }
    _Pragma("clang loop unroll(full)") for (int k = 0; k < taps; k++)
        _Pragma("clang loop unroll(full)") for (int f = 0; f < filters; f++) *(vf *)(sums + (k * b->filters + f) * WIDEST) = sum[k][f];
}

/* All taps of some filters. */
INLINE void FN(band_gradients)(const Bands *b, const float *x, const float *grad, int64_t rows, float *sums, const int filters) {
    int64_t line = (b->width + b->across - 1) * b->pitch, step = b->filters * WIDEST;
    for (int64_t i = 0; i < b->down; i++)
        for (int64_t j = 0; j < b->across; j++) {
            const float *from = x + i * line + j * b->pitch;
            int64_t k = 0;
            for (; k + BAND_TAPS <= b->taps; k += BAND_TAPS, sums += BAND_TAPS * step)
                FN(band_gradient)(b, from + k, grad, rows, sums, filters, BAND_TAPS);
            for (; k < b->taps; k++, sums += step) FN(band_gradient)(b, from + k, grad, rows, sums, filters, 1);
        }
}

/* A few rows are worked on for all weights: they stay in the first cache. */
EXPORT void FN(hsmamba_band_gradients)(Bands *b) {
    int64_t line = (b->width + b->across - 1) * b->pitch, lines = b->height + b->down - 1, each = b->width * b->filters * b->bands, slot;
    int64_t some = 6144 / (each > 0 ? each : 1) > 0 ? 6144 / (each > 0 ? each : 1) : 1; /* rows of 24 KB */
    while ((slot = __atomic_fetch_add(&b->next_task, 1, __ATOMIC_RELAXED)) < b->slots) {
        float *sums = b->weights + slot * b->down * b->across * b->taps * b->filters * WIDEST;
        for (int64_t n = b->images * slot / b->slots; n < b->images * (slot + 1) / b->slots; n++)
            for (int64_t y = 0; y < b->height; y += some) {
                int64_t rows = b->height - y < some ? b->height - y : some;
                const float *x = b->x + (n * lines + y) * line, *grad = b->y + (n * b->height + y) * each;
                for (int64_t f = 0; f < b->filters;) {
                    int count = FN(band_filters)(b->filters - f);
                    const float *from = grad + f * b->bands;
                    float *to = sums + f * WIDEST;
                    if (count == BAND_FILTERS)
                        FN(band_gradients)(b, x, from, rows, to, BAND_FILTERS);
                    else if (count == 4)
                        FN(band_gradients)(b, x, from, rows, to, 4);
                    else if (count == 2)
                        FN(band_gradients)(b, x, from, rows, to, 2);
                    else
                        FN(band_gradients)(b, x, from, rows, to, 1);
                    f += count;
                }
            }
    }
}

EXPORT void FN(hsmamba_band_images)(BandImages *b) {
    vf tile[STEPS];
    int64_t task;
    while ((task = __atomic_fetch_add(&b->next_task, 1, __ATOMIC_RELAXED)) < b->images * b->height) {
        const float *from = b->from + task / b->height * b->image + task % b->height * b->row;
        float *to = b->to + task / b->height * b->to_image + task % b->height * b->to_row;
        for (int64_t c = 0; c < b->bands; c += VL)
            for (int64_t at = 0; at < b->width; at += STEPS) {
                int lanes = b->bands - c < VL ? (int)(b->bands - c) : VL, steps = b->width - at < STEPS ? (int)(b->width - at) : STEPS;
                FN(load_tile)(tile, from + c * b->band + at, b->band, 1, lanes, steps);
                for (int t = 0; t < steps; t++) FN(put)(to + (at + t) * b->pitch + c, tile[t], lanes);
            }
    }
}

#undef BAND_PIXELS
#undef BAND_FILTERS
#undef BAND_TAPS
