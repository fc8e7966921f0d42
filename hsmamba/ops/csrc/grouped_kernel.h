/* Convolutions whose groups have few channels: a block of outputs stays in registers for some vectors of neighbouring pixels of a
   row, while taps and channels go by; what is added and the activation go in there. Included by scan.c once for each level,
   after adaptive_kernel.h and rows_kernel.h. */

#define GROUPED_VECTORS 4

INLINE void FN(grouped)(const Grouped *g, const int vectors, const int outputs, const float *in, const float *weights, const float *add,
                        const float *across, const float *down, float *out, int lanes) {
    vf sum[GROUP_BLOCK][GROUPED_VECTORS];
    float gain = add ? *g->gain : 0.0f;
    _Pragma("clang loop unroll(full)") for (int o = 0; o < outputs; o++)
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++)
        {
            sum[o][v] = add ? FN(some)(add + o * g->add.channel + v * VL, lanes) * gain : (vf)0.0f;
            if (across) sum[o][v] += FN(some)(across + o * g->width + v * VL, lanes) + down[o * g->height];
        }
    for (int64_t i = 0; i < g->kernel; i++)
        for (int64_t j = 0; j < g->kernel; j++) {
            const float *from = in + i * g->x.row + j;
            for (int64_t c = 0; c < g->inputs; c++, from += g->x.channel, weights += GROUP_BLOCK) {
                vf pixels[GROUPED_VECTORS];
                _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) pixels[v] = FN(some)(from + v * VL, lanes);
                _Pragma("clang loop unroll(full)") for (int o = 0; o < outputs; o++)
                    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) sum[o][v] += pixels[v] * weights[o];
            }
        }
    _Pragma("clang loop unroll(full)") for (int o = 0; o < outputs; o++)
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {
            vf y = sum[o][v];
            if (g->activation == LINEAR_RELU) y = y < 0.0f ? (vf)0.0f : y;
            if (g->activation == LINEAR_SIGMOID) y = FN(sigmoidv)(y);
            FN(put)(out + o * g->out.channel + v * VL, y, lanes);
        }
}

/* One row of one block of outputs. Where it is wide enough, the last vectors end with it and do some pixels again. */
INLINE void FN(grouped_row)(const Grouped *g, const int outputs, const float *in, const float *weights, const float *add,
                            const float *across, const float *down, float *out) {
    int64_t step = GROUPED_VECTORS * VL, x = 0;
    for (; x + step <= g->width; x += step) FN(grouped)(g, GROUPED_VECTORS, outputs, in + x, weights, add ? add + x : add, across ? across + x : across, down, out + x, VL);
    for (; x + VL <= g->width; x += VL) FN(grouped)(g, 1, outputs, in + x, weights, add ? add + x : add, across ? across + x : across, down, out + x, VL);
    if (x < g->width) FN(grouped)(g, 1, outputs, in + x, weights, add ? add + x : add, across ? across + x : across, down, out + x, (int)(g->width - x));
}

EXPORT void FN(hsmamba_grouped)(Grouped *g) {
    int64_t task, bands = (g->height + g->band - 1) / g->band, blocks = (g->outputs + GROUP_BLOCK - 1) / GROUP_BLOCK;
    while ((task = __atomic_fetch_add(&g->next_task, 1, __ATOMIC_RELAXED)) < g->images * g->groups * bands) {
        int64_t n = task / bands / g->groups, group = task / bands % g->groups, first = task % bands * g->band;
        int64_t end = g->height - first < g->band ? g->height : first + g->band;
        for (int64_t y = first; y < end; y++)
            for (int64_t b = 0; b < blocks; b++) {
                const float *in = g->x.data + n * g->x.image + group * g->x_group + y * g->x.row;
                const float *weights = g->weights + (group * blocks + b) * g->kernel * g->kernel * g->inputs * GROUP_BLOCK;
                const float *add = g->add.data;
                float *out = g->out.data + n * g->out.image + group * g->out_group + b * GROUP_BLOCK * g->out.channel + y * g->out.row;
                if (add) add += n * g->add.image + (group * g->outputs + b * GROUP_BLOCK) * g->add.channel + y * g->add.row;
                int64_t output = group * g->outputs + b * GROUP_BLOCK;
                const float *across = g->across ? g->across + output * g->width : g->across, *down = g->across ? g->down + output * g->height + y : g->down;
                switch (g->outputs - b * GROUP_BLOCK) {
                case 1: FN(grouped_row)(g, 1, in, weights, add, across, down, out); break;
                case 2: FN(grouped_row)(g, 2, in, weights, add, across, down, out); break;
                case 3: FN(grouped_row)(g, 3, in, weights, add, across, down, out); break;
                default: FN(grouped_row)(g, 4, in, weights, add, across, down, out);
                }
            }
    }
}
#undef GROUPED_VECTORS

EXPORT void FN(hsmamba_reflect)(const Reflected *r) {
    int64_t m = r->margin, wide = r->width + 2 * m;
    for (int64_t plane = 0; plane < r->images * r->channels; plane++) {
        float *first = r->x.data + plane / r->channels * r->x.image + plane % r->channels * r->x.channel;
        for (int64_t y = 0; y < r->height; y++) {
            float *row = first + (m + y) * r->x.row + m, *last = row + r->width - 1;
            for (int64_t i = 1; i <= m; i++) row[-i] = row[i], last[i] = last[-i];
        }
        float *top = first + m * r->x.row, *bottom = top + (r->height - 1) * r->x.row;
        for (int64_t i = 1; i <= m; i++)
            for (int64_t x = 0; x < wide; x++)
                top[x - i * r->x.row] = top[x + i * r->x.row], bottom[x + i * r->x.row] = bottom[x - i * r->x.row];
    }
}
