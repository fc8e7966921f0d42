/* Each pixel attends to the window around it, VL neighbouring pixels of a row at a time: their neighbours at one offset are
   neighbours in memory, too. Logits of one row of the window are kept; maximum, sum and weighted values go along from row to
   row, as in the online softmax. Included by scan.c once for each level, after vectors.h. */

INLINE void FN(attend)(const Attention *a, const int d, int64_t g, int64_t y, int64_t x, int lanes) {
    const float *k = a->k.data + g * a->k.group + y * a->k.row + x, *v = a->v.data + g * a->v.group + y * a->v.row + x;
    const float *q = a->q.data + g * a->q.group + y * a->q.row + x;
    vf query[MOST_CHANNELS], value[MOST_CHANNELS], logit[WIDEST_WINDOW], sum = 0.0f, most = -__builtin_inff();
    for (int c = 0; c < d; c++) query[c] = FN(some)(q + c * a->q.channel, lanes) * LOG2E, value[c] = 0.0f;
    for (int64_t i = 0; i < a->window; i++, k += a->k.row, v += a->v.row) {
        vf before = most;
        for (int64_t j = 0; j < a->window; j++) {
            vf l = query[0] * FN(some)(k + j, lanes);
            for (int c = 1; c < d; c++) l += query[c] * FN(some)(k + c * a->k.channel + j, lanes);
            logit[j] = l;
            most = l > most ? l : most;
        }
        vf shrink = FN(exp2v)(before - most);
        sum *= shrink;
        for (int c = 0; c < d; c++) value[c] *= shrink;
        for (int64_t j = 0; j < a->window; j++) {
            vf weight = FN(exp2v)(logit[j] - most);
            sum += weight;
            for (int c = 0; c < d; c++) value[c] += weight * FN(some)(v + c * a->v.channel + j, lanes);
        }
    }
    float *out = a->out.data + g * a->out.group + y * a->out.row + x;
    for (int c = 0; c < d; c++) {
        vf mean = value[c] / sum;
        if (a->activation == LINEAR_RELU) mean = mean < 0.0f ? (vf)0.0f : mean;
        if (a->activation == LINEAR_SIGMOID) mean = FN(sigmoidv)(mean);
        if (lanes == VL)
            *(vu *)(out + c * a->out.channel) = mean;
        else
            for (int i = 0; i < lanes; i++) out[c * a->out.channel + i] = mean[i];
    }
}

/* One row, at least a vector wide. The last vector ends with the row and may do some pixels again. */
INLINE void FN(attend_row)(const Attention *a, const int d, int64_t g, int64_t y) {
    for (int64_t x = 0; x + VL <= a->width; x += VL) FN(attend)(a, d, g, y, x, VL);
    if (a->width % VL) FN(attend)(a, d, g, y, a->width - VL, VL);
}

EXPORT void FN(hsmamba_attention)(Attention *a) {
    uint64_t mode = flush_denormals();
    int64_t task, bands = (a->height + a->band - 1) / a->band;
    while ((task = __atomic_fetch_add(&a->next_task, 1, __ATOMIC_RELAXED)) < a->groups * bands) {
        int64_t g = task / bands, first = task % bands * a->band, end = a->height - first < a->band ? a->height : first + a->band;
        for (int64_t y = first; y < end; y++) {
            if (a->width < VL)
                FN(attend)(a, (int)a->channels, g, y, 0, (int)a->width);
            else if (a->channels == 3) /* those of the papers' networks stay in registers */
                FN(attend_row)(a, 3, g, y);
            else
                FN(attend_row)(a, (int)a->channels, g, y);
        }
    }
    restore_mode(mode);
}
