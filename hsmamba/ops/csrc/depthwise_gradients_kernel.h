/* Depthwise convolution with stride 1 of an image that has its border around it, and the gradient of its weights. Included by
   scan.c once for each level, after attention_backward_kernel.h. */

#define ACROSS 8 /* pixels whose sums stay in registers */

INLINE void FN(depthwise_pixels)(const DepthwiseGradients *d, const float *x, int64_t line, int64_t c, int count, float *y) {
    vf sum[ACROSS];
    for (int q = 0; q < count; q++) sum[q] = 0.0f;
    const float *weights = d->weights + c;
    for (int64_t i = 0; i < d->rows; i++)
        for (int64_t j = 0; j < d->columns; j++, weights += d->row) {
            vf weight = *(const vu *)weights;
            const float *from = x + i * d->dilation * line + j * d->dilation * d->row + c;
            for (int q = 0; q < count; q++) sum[q] += weight * *(const vu *)(from + q * d->row);
        }
    int lanes = d->channels - c < VL ? (int)(d->channels - c) : VL;
    for (int q = 0; q < count; q++) FN(put)(y + q * d->channels + c, sum[q], lanes);
}

EXPORT void FN(hsmamba_depthwise_image)(DepthwiseGradients *d) {
    uint64_t mode = flush_denormals();
    int64_t line = (d->width + d->dilation * (d->columns - 1)) * d->row, lines = d->height + d->dilation * (d->rows - 1), task;
    while ((task = __atomic_fetch_add(&d->next_task, 1, __ATOMIC_RELAXED)) < d->images * d->height) {
        const float *x = d->x + (task / d->height * lines + task % d->height) * line;
        float *y = d->y + task * d->width * d->channels;
        int64_t at = 0;
        for (; at + ACROSS <= d->width; at += ACROSS)
            for (int64_t c = 0; c < d->channels; c += VL) FN(depthwise_pixels)(d, x + at * d->row, line, c, ACROSS, y + at * d->channels);
        for (; at < d->width; at++)
            for (int64_t c = 0; c < d->channels; c += VL) FN(depthwise_pixels)(d, x + at * d->row, line, c, 1, y + at * d->channels);
    }
    restore_mode(mode);
}

/* Add the gradient of I x J weights from row i and column j on, of one vector of channels and some lines of an image. */
INLINE void FN(depthwise_weights)(const DepthwiseGradients *d, int64_t c, int64_t first, int64_t count, int64_t i, int64_t j, const int I, const int J) {
    int64_t line = (d->width + d->dilation * (d->columns - 1)) * d->row;
    float *weights = d->weights + (i * d->columns + j) * d->row + c;
    vf sum[16];
    for (int a = 0; a < I; a++)
        for (int b = 0; b < J; b++) sum[a * J + b] = *(const vu *)(weights + (a * d->columns + b) * d->row);
    for (int64_t y = first; y < first + count; y++) {
        const float *grad = d->y + y * line + c, *x = d->x + (y + i * d->dilation) * line + j * d->dilation * d->row + c;
        for (int64_t at = 0; at < d->width; at++, grad += d->row, x += d->row) {
            vf g = *(const vu *)grad;
            for (int a = 0; a < I; a++)
                for (int b = 0; b < J; b++) sum[a * J + b] += g * *(const vu *)(x + d->dilation * (a * line + b * d->row));
        }
    }
    for (int a = 0; a < I; a++)
        for (int b = 0; b < J; b++) *(vu *)(weights + (a * d->columns + b) * d->row) = sum[a * J + b];
}

/* A few lines are worked on for all weights: they stay in the first cache. */
EXPORT void FN(hsmamba_depthwise_weights)(DepthwiseGradients *d) {
    uint64_t mode = flush_denormals();
    int64_t lines = d->height + d->dilation * (d->rows - 1), task;
    while ((task = __atomic_fetch_add(&d->next_task, 1, __ATOMIC_RELAXED)) < d->row / VL)
        for (int64_t n = 0; n < d->images; n++)
            for (int64_t y = 0; y < d->height; y += ACROSS) {
                int64_t c = task * VL, first = n * lines + y, count = d->height - y < ACROSS ? d->height - y : ACROSS;
                for (int64_t i = 0; i < d->rows; i++) {
                    int64_t j = 0;
                    if (d->columns == 11)
                        FN(depthwise_weights)(d, c, first, count, i, 0, 1, 11);
                    else if (d->columns == 7)
                        FN(depthwise_weights)(d, c, first, count, i, 0, 1, 7);
                    else if (d->columns == 3 && i + 3 <= d->rows)
                        FN(depthwise_weights)(d, c, first, count, i, 0, 3, 3), i += 2;
                    else {
                        for (; j + 3 <= d->columns; j += 3) FN(depthwise_weights)(d, c, first, count, i, j, 1, 3);
                        for (; j < d->columns; j++) FN(depthwise_weights)(d, c, first, count, i, j, 1, 1);
                    }
                }
            }
    restore_mode(mode);
}

#undef ACROSS
