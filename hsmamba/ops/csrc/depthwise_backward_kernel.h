/* Gradients of depthwise convolutions of small maps whose channels are neighbours in memory. Included by scan.c once for each level,
   after depthwise_kernel.h. */

/* The gradient of some vectors of channels of an image; `lanes` of the last one. */
INLINE void FN(depthwise_back_pixels)(const DepthwiseBackward *d, int64_t n, int64_t c, const int vectors, int lanes, const int64_t stride) {
    const float *grad = d->grad.data + n * d->grad.image + c, *weights = d->weights + c;
    const int last = vectors - 1;
    for (int64_t y = d->top; y < d->top + d->in_height; y++) /* the taps by which an output sees this pixel: i0, i0 + stride, .. i1 */
        for (int64_t x = d->left; x < d->left + d->in_width; x++) {
            int64_t i0 = y % stride, i1 = y < d->taps_down - 1 ? y : d->taps_down - 1, past = y / stride - d->height + 1;
            int64_t j0 = x % stride, j1 = x < d->taps_across - 1 ? x : d->taps_across - 1, beyond = x / stride - d->width + 1;
            if (past > 0) i0 += past * stride;
            if (beyond > 0) j0 += beyond * stride;
            float *to = d->dx.data + n * d->dx.image + (y - d->top) * d->dx.row + (x - d->left) * d->dx.pixel + c;
            vf sum[4];
            const float *base = d->base.data ? d->base.data + n * d->base.image + (y - d->top) * d->base.row + (x - d->left) * d->base.pixel + c : 0;
            _Pragma("clang loop unroll(full)") for (int v = 0; v < last; v++) sum[v] = base ? *(const vu *)(base + v * VL) : (vf)0.0f;
            sum[last] = base ? FN(some)(base + last * VL, lanes) : (vf)0.0f;
            int64_t column = (x - j0) / stride;
            for (int64_t i = i0, row = (y - i0) / stride; i <= i1; i += stride, row--) {
                const float *from = grad + row * d->grad.row + column * d->grad.pixel, *weight = weights + (i * d->taps_across + j0) * d->pitch;
                for (int64_t j = j0; j <= j1; j += stride, from -= d->grad.pixel, weight += stride * d->pitch) {
                    _Pragma("clang loop unroll(full)") for (int v = 0; v < last; v++) sum[v] += *(const vu *)(from + v * VL) * *(const vu *)(weight + v * VL);
                    sum[last] += FN(some)(from + last * VL, lanes) * *(const vu *)(weight + last * VL);
                }
            }
            _Pragma("clang loop unroll(full)") for (int v = 0; v < last; v++) *(vu *)(to + v * VL) = sum[v];
            FN(put)(to + last * VL, sum[last], lanes);
        }
}

static void FN(depthwise_back_image)(const DepthwiseBackward *d, int64_t n, int64_t c, int vectors, int lanes) {
    if (vectors == 4 && lanes == VL && d->stride == 1)
        FN(depthwise_back_pixels)(d, n, c, 4, VL, 1);
    else if (vectors == 4)
        FN(depthwise_back_pixels)(d, n, c, 4, lanes, d->stride);
    else if (vectors == 3)
        FN(depthwise_back_pixels)(d, n, c, 3, lanes, d->stride);
    else if (vectors == 2)
        FN(depthwise_back_pixels)(d, n, c, 2, lanes, d->stride);
    else
        FN(depthwise_back_pixels)(d, n, c, 1, lanes, d->stride);
}

/* The first output that sees a line of the map by a tap, and the one after the last. */
INLINE int64_t FN(first_seen)(int64_t before, int64_t tap, int64_t stride) { return before > tap ? (before - tap + stride - 1) / stride : 0; }
INLINE int64_t FN(end_seen)(int64_t before, int64_t tap, int64_t stride, int64_t lines, int64_t outputs) {
    int64_t end = lines - 1 + before - tap < 0 ? 0 : (lines - 1 + before - tap) / stride + 1;
    return end < outputs ? end : outputs;
}

/* Add what an image gives to the gradient of the weights of some vectors of channels. */
INLINE void FN(depthwise_back_taps)(const DepthwiseBackward *d, int64_t n, int64_t c, float *sums, const int vectors, int lanes) {
    const float *grad = d->grad.data + n * d->grad.image + c, *from = d->x.data + n * d->x.image + c;
    const int last = vectors - 1;
    for (int64_t i = 0; i <= d->taps_down; i++)
        for (int64_t j = 0; j < (i < d->taps_down ? d->taps_across : 1); j++) {
            int bias = i == d->taps_down; /* after the taps */
            int64_t y0 = bias ? 0 : FN(first_seen)(d->top, i, d->stride), x0 = bias ? 0 : FN(first_seen)(d->left, j, d->stride);
            int64_t y1 = bias ? d->height : FN(end_seen)(d->top, i, d->stride, d->in_height, d->height);
            int64_t x1 = bias ? d->width : FN(end_seen)(d->left, j, d->stride, d->in_width, d->width);
            float *to = sums + (i * d->taps_across + j) * d->pitch + c;
            vf sum[4];
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) sum[v] = 0.0f;
            for (int64_t y = y0; y < y1; y++) {
                const float *g = grad + y * d->grad.row + x0 * d->grad.pixel;
                if (bias) {
                    for (int64_t x = x0; x < x1; x++, g += d->grad.pixel) {
                        _Pragma("clang loop unroll(full)") for (int v = 0; v < last; v++) sum[v] += *(const vu *)(g + v * VL);
                        sum[last] += FN(some)(g + last * VL, lanes);
                    }
                    continue;
                }
                const float *in = from + (y * d->stride - d->top + i) * d->x.row + (x0 * d->stride - d->left + j) * d->x.pixel;
                for (int64_t x = x0; x < x1; x++, g += d->grad.pixel, in += d->stride * d->x.pixel) {
                    _Pragma("clang loop unroll(full)") for (int v = 0; v < last; v++) sum[v] += *(const vu *)(g + v * VL) * *(const vu *)(in + v * VL);
                    sum[last] += FN(some)(g + last * VL, lanes) * FN(some)(in + last * VL, lanes);
                }
            }
            _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) *(vu *)(to + v * VL) += sum[v];
        }
}

static void FN(depthwise_back_weights)(const DepthwiseBackward *d, int64_t n, int64_t c, float *sums, int vectors, int lanes) {
    if (vectors == 4 && lanes == VL)
        FN(depthwise_back_taps)(d, n, c, sums, 4, VL);
    else if (vectors == 4)
        FN(depthwise_back_taps)(d, n, c, sums, 4, lanes);
    else if (vectors == 3)
        FN(depthwise_back_taps)(d, n, c, sums, 3, lanes);
    else if (vectors == 2)
        FN(depthwise_back_taps)(d, n, c, sums, 2, lanes);
    else
        FN(depthwise_back_taps)(d, n, c, sums, 1, lanes);
}

/* What one image gives to the gradients of all convolutions, while it is in a cache. */
static void FN(depthwise_back)(const DepthwiseBackward *first, int64_t n, int64_t slot) {
    for (int image = 0; image < 2; image++)
        for (const DepthwiseBackward *d = first; d && !(image && !d->dx.data); d = d->next) {
            float *sums = d->sums + slot * d->sums_slot;
            for (int64_t c = 0; c < d->channels; c += 4 * VL) {
                int64_t left = d->channels - c, vectors = left >= 4 * VL ? 4 : (left + VL - 1) / VL;
                int lanes = left >= vectors * VL ? VL : (int)(left - (vectors - 1) * VL);
                if (image)
                    FN(depthwise_back_image)(d, n, c, (int)vectors, lanes);
                else
                    FN(depthwise_back_weights)(d, n, c, sums, (int)vectors, lanes);
            }
        }
}

EXPORT void FN(hsmamba_depthwise_back)(DepthwiseBackward *d) {
    int64_t slot;
    while ((slot = __atomic_fetch_add(&d->next_task, 1, __ATOMIC_RELAXED)) < d->slots)
        for (int64_t n = d->images * slot / d->slots; n < d->images * (slot + 1) / d->slots; n++) FN(depthwise_back)(d, n, slot);
}
