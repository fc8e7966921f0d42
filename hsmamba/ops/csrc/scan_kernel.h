/* The kernels for one vector width VL, in names that end in LEVEL. Included by scan.c once for each level.

   A vector holds one quantity of VL neighbouring channels of a group, which share B and C. For a block of STEPS time steps,
   everything that depends on channel and time is turned into tiles [step][channel]; then, for a few states at a time, the
   recurrence runs over the tile with the state in registers. Exponentials are the bulk of the work: exp(dt A) is computed as
   2^(dt A log2(e)) once in the forward and once in the backward, which recomputes the states of a block from its checkpoint. */

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define FN(name) JOIN(name, LEVEL)
#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

#if defined(_WIN32)
#undef EXPORT
#define EXPORT __declspec(dllexport)
#endif

#define vf FN(vf)
#define vi FN(vi)
#define vu FN(vu)
#define f4 FN(f4)
typedef float vf __attribute__((ext_vector_type(VL)));
typedef int32_t vi __attribute__((ext_vector_type(VL)));
typedef float vu __attribute__((ext_vector_type(VL), aligned(4))); /* the same, anywhere in memory */
typedef float f4 __attribute__((ext_vector_type(4), aligned(4)));

#define TILES 14 /* tiles [STEPS][VL] that one block of the backward works on */
#define LOG2E 1.44269504088896341f

/* 2^t, error 1e-7; 0 below -127, inf above 128, nan for nan, exactly 1 at 0. The polynomial is the best one with p(0) = 1. */
INLINE vf FN(exp2v)(vf t) {
#if defined(HAVE_SCALEF)
    vf whole = _mm512_roundscale_ps(t, 8); /* to the nearest integer */
#else
    t = (vf)-127.0f > t ? (vf)-127.0f : t;
    t = (vf)128.0f < t ? (vf)128.0f : t;
    const vf magic = 12582912.0f + 127.0f; /* pushes the fraction out and leaves whole + 127 in the low bits */
    vf shifted = t + magic;
    vf whole = shifted - magic;
#endif
    vf f = t - whole;
    vf p = 0.001326472725f * f + 0.009671512688f;
    p = p * f + 0.05550733744f;
    p = p * f + 0.2402224208f;
    p = p * f + 0.6931469776f;
    p = p * f + 1.0f;
#if defined(HAVE_SCALEF)
    return _mm512_scalef_ps(p, whole);
#else
    return p * (vf)((vi)shifted << 23);
#endif
}

/* e^x for x <= 0 with small relative error throughout: the argument is reduced by log(2) in two parts. */
INLINE vf FN(exp_negative)(vf x) {
    x = (vf)-87.0f > x ? (vf)-87.0f : x;
    const vf magic = 12582912.0f + 127.0f;
    vf shifted = x * LOG2E + magic;
    vf whole = shifted - magic;
    vf f = ((x - whole * 0.693359375f) + whole * 2.12194440e-4f) * LOG2E;
    vf p = 0.0001535336199f * f + 0.001339887445f;
    p = p * f + 0.009618437358f;
    p = p * f + 0.05550332471f;
    p = p * f + 0.2402264791f;
    p = p * f + 0.6931472029f;
    p = p * f + 1.0f;
    return p * (vf)((vi)shifted << 23);
}

INLINE vf FN(absv)(vf x) { return (vf)((vi)x & 0x7fffffff); }

/* softplus(x) = max(x, 0) + log(1 + e^-|x|), and its derivative. */
INLINE vf FN(softplusv)(vf x, vf *derivative) {
    vf e = FN(exp_negative)(-FN(absv)(x));
    vf s = e / (2.0f + e), q = s * s; /* log(1 + e) = 2 artanh(e / (2 + e)) */
    vf p = 0.2817833915f * q + 0.279606018f;
    p = p * q + 0.4002491035f;
    p = p * q + 0.6666631468f;
    p = p * q + 2.000000008f;
    *derivative = (x < 0.0f ? e : (vf)1.0f) / (1.0f + e);
    vf big = x < 0.0f ? (vf)0.0f : x;
    return big + s * p;
}

INLINE vf FN(sigmoidv)(vf x) {
    vf e = FN(exp_negative)(-FN(absv)(x));
    return (x < 0.0f ? e : (vf)1.0f) / (1.0f + e);
}

/* Four rows of four into four columns. */
INLINE void FN(transpose4)(f4 *r) {
    f4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    f4 c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7), e = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(c, e, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(c, e, 2, 3, 6, 7);
}

/* tile[t] = channels 0 .. lanes - 1 of steps 0 .. steps - 1, zeros in the other lanes. */
static void FN(load_tile)(vf *tile, const float *src, int64_t channel, int64_t step, int lanes, int steps) {
    float *out = (float *)tile;
    if (channel == 1 && lanes == VL) {
        for (int t = 0; t < steps; t++) tile[t] = *(const vu *)(src + t * step);
        return;
    }
    if (lanes < VL)
        for (int t = 0; t < steps; t++) tile[t] = 0.0f;
    int c = 0;
    if (step == 1)
        for (; c + 4 <= lanes; c += 4) {
            const float *from = src + c * channel;
            int t = 0;
            for (; t + 4 <= steps; t += 4) {
                f4 r[4];
                for (int i = 0; i < 4; i++) r[i] = *(const f4 *)(from + i * channel + t);
                FN(transpose4)(r);
                for (int i = 0; i < 4; i++) *(f4 *)(out + (t + i) * VL + c) = r[i];
            }
            for (; t < steps; t++)
                for (int i = 0; i < 4; i++) out[t * VL + c + i] = from[i * channel + t];
        }
    for (; c < lanes; c++)
        for (int t = 0; t < steps; t++) out[t * VL + c] = src[c * channel + t * step];
}

/* The way back of load_tile. */
static void FN(store_tile)(float *dst, int64_t channel, int64_t step, int lanes, int steps, const vf *tile) {
    const float *in = (const float *)tile;
    if (channel == 1 && lanes == VL) {
        for (int t = 0; t < steps; t++) *(vu *)(dst + t * step) = tile[t];
        return;
    }
    int c = 0;
    if (step == 1)
        for (; c + 4 <= lanes; c += 4) {
            float *to = dst + c * channel;
            int t = 0;
            for (; t + 4 <= steps; t += 4) {
                f4 r[4];
                for (int i = 0; i < 4; i++) r[i] = *(const f4 *)(in + (t + i) * VL + c);
                FN(transpose4)(r);
                for (int i = 0; i < 4; i++) *(f4 *)(to + i * channel + t) = r[i];
            }
            for (; t < steps; t++)
                for (int i = 0; i < 4; i++) to[i * channel + t] = in[t * VL + c + i];
        }
    for (; c < lanes; c++)
        for (int t = 0; t < steps; t++) dst[c * channel + t * step] = in[t * VL + c];
}

/* rows[state * STEPS + t] of a block of B or C. */
static void FN(load_projection)(float *rows, const Projection *p, int64_t batch, int64_t group, int64_t start, int steps, int64_t n) {
    const float *src = p->data + batch * p->batch + group * p->group + start * p->step;
    for (int64_t k = 0; k < n; k++)
        for (int t = 0; t < steps; t++) rows[k * STEPS + t] = src[k * p->state + t * p->step];
}

/* The time step and what enters the state: dt = softplus(delta + bias), x = dt u. */
INLINE void FN(prepare)(const Scan *s, int64_t batch, int64_t c, int64_t start, int lanes, int steps, vf *dt, vf *u, vf *slope) {
    FN(load_tile)(dt, s->delta.data + batch * s->delta.batch + c * s->delta.channel + start * s->delta.step, s->delta.channel,
                  s->delta.step, lanes, steps);
    FN(load_tile)(u, s->u.data + batch * s->u.batch + c * s->u.channel + start * s->u.step, s->u.channel, s->u.step, lanes, steps);
    vf bias = *(const vu *)(s->bias + c);
    for (int t = 0; t < steps; t++) {
        dt[t] += bias;
        vf derivative = 1.0f;
        if (s->softplus) dt[t] = FN(softplusv)(dt[t], &derivative);
        slope[t] = derivative;
    }
}

/* y[t] += sum over K states of C h, while h moves over the block. */
#define FORWARD_STATES(K)                                                     \
    INLINE void FN(forward##K)(vf *h, const vf *A2, const float *B, const float *C, const vf *dt, const vf *x, vf *y, int steps) { \
        vf state[K], rate[K];                                                 \
        for (int k = 0; k < K; k++) state[k] = h[k], rate[k] = A2[k];         \
        for (int t = 0; t < steps; t++) {                                     \
            vf step = dt[t], in = x[t], sum = y[t];                           \
            for (int k = 0; k < K; k++) {                                     \
                state[k] = FN(exp2v)(step * rate[k]) * state[k] + in * B[k * STEPS + t]; \
                sum += state[k] * C[k * STEPS + t];                           \
            }                                                                 \
            y[t] = sum;                                                       \
        }                                                                     \
        for (int k = 0; k < K; k++) h[k] = state[k];                          \
    }
FORWARD_STATES(1)
FORWARD_STATES(4)
#undef FORWARD_STATES

/* What one task covers: the channels of one part of one group, of one sample. */
typedef struct {
    int64_t batch, group, part, first_channel, end_channel;
} FN(Task);

INLINE FN(Task) FN(task)(const Scan *s, int64_t index) {
    FN(Task) t;
    int64_t per_group = s->d / s->g, blocks = (per_group + VL - 1) / VL;
    t.batch = index % s->b;
    t.part = index / s->b % s->parts;
    t.group = index / s->b / s->parts;
    int64_t begin = blocks * t.part / s->parts * VL, end = blocks * (t.part + 1) / s->parts * VL;
    t.first_channel = t.group * per_group + begin;
    t.end_channel = t.group * per_group + (end < per_group ? end : per_group);
    return t;
}

/* The block's states [n][VL] into or out of (n, d) rows of a checkpoint. */
INLINE void FN(store_states)(float *rows, int64_t d, int lanes, int64_t n, const vf *h) {
    for (int64_t k = 0; k < n; k++)
        if (lanes == VL)
            *(vu *)(rows + k * d) = h[k];
        else
            for (int i = 0; i < lanes; i++) rows[k * d + i] = ((const float *)(h + k))[i];
}

INLINE void FN(load_states)(vf *h, const float *rows, int64_t d, int lanes, int64_t n) {
    for (int64_t k = 0; k < n; k++)
        if (lanes == VL)
            h[k] = *(const vu *)(rows + k * d);
        else {
            h[k] = 0.0f;
            for (int i = 0; i < lanes; i++) ((float *)(h + k))[i] = rows[k * d + i];
        }
}

/* h[n] of each vector of the task from (b, d, n), or zeros. */
INLINE void FN(first_states)(const Scan *s, const FN(Task) *task, const float *from, vf *h) {
    for (int64_t c = task->first_channel; c < task->end_channel; c += VL, h += s->n) {
        int lanes = task->end_channel - c < VL ? (int)(task->end_channel - c) : VL;
        if (from)
            FN(load_tile)(h, from + (task->batch * s->d + c) * s->n, s->n, 1, lanes, (int)s->n);
        else
            for (int64_t k = 0; k < s->n; k++) h[k] = 0.0f;
    }
}

INLINE void FN(last_states)(const Scan *s, const FN(Task) *task, float *to, const vf *h) {
    for (int64_t c = task->first_channel; c < task->end_channel; c += VL, h += s->n) {
        int lanes = task->end_channel - c < VL ? (int)(task->end_channel - c) : VL;
        FN(store_tile)(to + (task->batch * s->d + c) * s->n, s->n, 1, lanes, (int)s->n, h);
    }
}

/* One block of steps of one vector of channels. */
static void FN(forward_block)(const Scan *s, int64_t batch, int64_t c, int lanes, int64_t start, int steps, const float *B, const float *C, vf *h, vf *tiles) {
    vf *dt = tiles, *u = dt + STEPS, *x = u + STEPS, *y = x + STEPS, *slope = y + STEPS;
    int64_t n = s->n, k = 0;
    FN(prepare)(s, batch, c, start, lanes, steps, dt, u, slope);
    vf D = *(const vu *)(s->D + c);
    for (int t = 0; t < steps; t++) x[t] = dt[t] * u[t], y[t] = D * u[t];
    for (; k + 4 <= n; k += 4) {
        vf A2[4];
        for (int i = 0; i < 4; i++) A2[i] = *(const vu *)(s->A + (k + i) * s->row + c) * LOG2E;
        FN(forward4)(h + k, A2, B + k * STEPS, C + k * STEPS, dt, x, y, steps);
    }
    for (; k < n; k++) {
        vf A2 = *(const vu *)(s->A + k * s->row + c) * LOG2E;
        FN(forward1)(h + k, &A2, B + k * STEPS, C + k * STEPS, dt, x, y, steps);
    }
    if (s->z.data) {
        FN(load_tile)(u, s->z.data + batch * s->z.batch + c * s->z.channel + start * s->z.step, s->z.channel, s->z.step, lanes, steps);
        for (int t = 0; t < steps; t++) y[t] *= u[t] * FN(sigmoidv)(u[t]);
    }
    FN(store_tile)(s->y.data + batch * s->y.batch + c * s->y.channel + start * s->y.step, s->y.channel, s->y.step, lanes, steps, y);
}

static void FN(forward_task)(const Scan *s, int64_t index, float *scratch) {
    FN(Task) task = FN(task)(s, index);
    int64_t n = s->n, blocks = (s->l + STEPS - 1) / STEPS;
    float *B = scratch, *C = scratch + n * STEPS;
    vf *tiles = (vf *)(scratch + 2 * n * STEPS), *h = tiles + TILES * STEPS;
    FN(first_states)(s, &task, s->first, h);
    for (int64_t block = 0; block < blocks; block++) {
        int64_t start = block * STEPS;
        int steps = s->l - start < STEPS ? (int)(s->l - start) : STEPS;
        FN(load_projection)(B, &s->B, task.batch, task.group, start, steps, n);
        FN(load_projection)(C, &s->C, task.batch, task.group, start, steps, n);
        vf *state = h;
        for (int64_t c = task.first_channel; c < task.end_channel; c += VL, state += n) {
            int lanes = task.end_channel - c < VL ? (int)(task.end_channel - c) : VL;
            if (s->checkpoints) FN(store_states)(s->checkpoints + (task.batch * blocks + block) * n * s->d + c, s->d, lanes, n, state);
            FN(forward_block)(s, task.batch, c, lanes, start, steps, B, C, state, tiles);
        }
    }
    FN(last_states)(s, &task, s->last, h);
}

/* Gradients of K states over a block. The states before each step and the decays are recomputed, then time runs back.
   g is the gradient of the state; through_input collects the gradient of dt u, through_decay that of dt by way of the decay. */
typedef struct {
    const vf *dt, *x, *dy;
    vf *y, *through_input, *through_decay; /* y: null where no gate needs it */
    vf *before, *decay;                    /* [t][state]: the state before a step, and exp(dt A) */
} FN(Block);

#define BACKWARD_STATES(K)                                                    \
    INLINE void FN(backward##K)(const FN(Block) *o, const vf *h, vf *dh, const vf *A, vf *dA, const float *B, const float *C, vf *dB, vf *dC, int steps) { \
        vf state[K], rate[K], g[K], sum[K];                                   \
        vf *before = o->before, *decay = o->decay;                            \
        for (int k = 0; k < K; k++) state[k] = h[k], rate[k] = A[k] * LOG2E;  \
        for (int t = 0; t < steps; t++)                                       \
            for (int k = 0; k < K; k++) {                                     \
                vf a = FN(exp2v)(o->dt[t] * rate[k]);                         \
                before[t * K + k] = state[k];                                      \
                decay[t * K + k] = a;                                              \
                state[k] = a * state[k] + o->x[t] * B[k * STEPS + t];         \
                if (o->y) o->y[t] += state[k] * C[k * STEPS + t];             \
            }                                                                 \
        for (int k = 0; k < K; k++) g[k] = dh[k], sum[k] = dA[k], rate[k] = A[k]; \
        for (int t = steps - 1; t >= 0; t--) {                                \
            vf dy = o->dy[t], x = o->x[t], dt = o->dt[t];                     \
            vf in = o->through_input[t], out = o->through_decay[t];           \
            for (int k = 0; k < K; k++) {                                     \
                g[k] += dy * C[k * STEPS + t];                                \
                dC[k * STEPS + t] += dy * state[k];                           \
                dB[k * STEPS + t] += x * g[k];                                \
                in += g[k] * B[k * STEPS + t];                                \
                g[k] *= decay[t * K + k];                                          \
                state[k] = before[t * K + k];                                      \
                vf q = g[k] * state[k];                                       \
                out += q * rate[k];                                           \
                sum[k] += q * dt;                                             \
            }                                                                 \
            o->through_input[t] = in, o->through_decay[t] = out;              \
        }                                                                     \
        for (int k = 0; k < K; k++) dh[k] = g[k], dA[k] = sum[k];             \
    }
BACKWARD_STATES(1)
BACKWARD_STATES(2)
#undef BACKWARD_STATES

/* One block of steps of one vector of channels, back in time; h holds the states before the block. */
static void FN(backward_block)(const Scan *s, int64_t slot, int64_t batch, int64_t c, int lanes, int64_t start, int steps, const float *B,
                               const float *C, const vf *h, vf *dh, vf *dB, vf *dC, vf *tiles) {
    vf *dt = tiles, *u = dt + STEPS, *x = u + STEPS, *dy = x + STEPS, *slope = dy + STEPS, *y = slope + STEPS, *in = y + STEPS;
    vf *out = in + STEPS, *z = out + STEPS, *gate = z + STEPS, *history = gate + STEPS;
    int64_t n = s->n, k = 0;
    int gated = s->z.data != 0;
    FN(prepare)(s, batch, c, start, lanes, steps, dt, u, slope);
    FN(load_tile)(dy, s->dy.data + batch * s->dy.batch + c * s->dy.channel + start * s->dy.step, s->dy.channel, s->dy.step, lanes, steps);
    vf D = *(const vu *)(s->D + c), dD = 0.0f, dbias = 0.0f;
    if (gated) {
        FN(load_tile)(z, s->z.data + batch * s->z.batch + c * s->z.channel + start * s->z.step, s->z.channel, s->z.step, lanes, steps);
        for (int t = 0; t < steps; t++) {
            vf sigmoid = FN(sigmoidv)(z[t]);
            gate[t] = dy[t] * sigmoid * (1.0f + z[t] * (1.0f - sigmoid)); /* becomes the gradient of z once y is known */
            dy[t] *= z[t] * sigmoid;
            y[t] = D * u[t];
        }
    }
    for (int t = 0; t < steps; t++) x[t] = dt[t] * u[t], in[t] = 0.0f, out[t] = 0.0f;
    FN(Block) block = {dt, x, dy, gated ? y : (vf *)0, in, out, history, history + 2 * STEPS};
    for (; k < n;) {
        int K = k + 2 <= n ? 2 : 1;
        vf A[2], dA[2];
        for (int i = 0; i < K; i++) {
            A[i] = *(const vu *)(s->A + (k + i) * s->row + c);
            dA[i] = *(const vu *)(s->dA + (slot * n + k + i) * s->row + c);
        }
        if (K == 2)
            FN(backward2)(&block, h + k, dh + k, A, dA, B + k * STEPS, C + k * STEPS, dB + k * STEPS, dC + k * STEPS, steps);
        else
            FN(backward1)(&block, h + k, dh + k, A, dA, B + k * STEPS, C + k * STEPS, dB + k * STEPS, dC + k * STEPS, steps);
        for (int i = 0; i < K; i++) *(vu *)(s->dA + (slot * n + k + i) * s->row + c) = dA[i];
        k += K;
    }
    for (int t = 0; t < steps; t++) {
        dD += dy[t] * u[t];
        out[t] = (out[t] + u[t] * in[t]) * slope[t];
        dbias += out[t];
        in[t] = dt[t] * in[t] + D * dy[t];
        if (gated) gate[t] *= y[t];
    }
    *(vu *)(s->dD + slot * s->row + c) += dD;
    *(vu *)(s->dbias + slot * s->row + c) += dbias;
    FN(store_tile)(s->ddelta.data + batch * s->ddelta.batch + c * s->ddelta.channel + start * s->ddelta.step, s->ddelta.channel,
                   s->ddelta.step, lanes, steps, out);
    FN(store_tile)(s->du.data + batch * s->du.batch + c * s->du.channel + start * s->du.step, s->du.channel, s->du.step, lanes, steps, in);
    if (gated)
        FN(store_tile)(s->dz.data + batch * s->dz.batch + c * s->dz.channel + start * s->dz.step, s->dz.channel, s->dz.step, lanes, steps, gate);
}

/* Sum the lanes of a block's gradient of B or C into its row (n, all steps or 1). */
INLINE void FN(add_lanes)(float *grad, int64_t all_steps, const vf *lanes_of, int64_t n, int64_t start, int steps) {
    for (int64_t k = 0; k < n; k++)
        for (int t = 0; t < steps; t++) {
            const float *lane = (const float *)(lanes_of + k * STEPS + t);
            f4 four = *(const f4 *)lane;
            for (int i = 4; i < VL; i += 4) four += *(const f4 *)(lane + i);
            float sum = (four[0] + four[1]) + (four[2] + four[3]);
            grad[all_steps == 1 ? k : k * all_steps + start + t] += sum;
        }
}

static void FN(backward_task)(const Scan *s, int64_t slot, int64_t index, float *scratch) {
    FN(Task) task = FN(task)(s, index);
    int64_t n = s->n, blocks = (s->l + STEPS - 1) / STEPS;
    float *B = scratch, *C = scratch + n * STEPS;
    vf *tiles = (vf *)(scratch + 2 * n * STEPS), *dB = tiles + TILES * STEPS, *dC = dB + n * STEPS, *h = dC + n * STEPS, *dh = h + n;
    int64_t cell = (task.part * s->b + task.batch) * s->g + task.group;
    FN(first_states)(s, &task, s->dlast, dh);
    for (int64_t block = blocks - 1; block >= 0; block--) {
        int64_t start = block * STEPS;
        int steps = s->l - start < STEPS ? (int)(s->l - start) : STEPS;
        FN(load_projection)(B, &s->B, task.batch, task.group, start, steps, n);
        FN(load_projection)(C, &s->C, task.batch, task.group, start, steps, n);
        for (int64_t i = 0; i < 2 * n * STEPS; i++) dB[i] = 0.0f; /* dC follows it */
        vf *gradient = dh;
        for (int64_t c = task.first_channel; c < task.end_channel; c += VL, gradient += n) {
            int lanes = task.end_channel - c < VL ? (int)(task.end_channel - c) : VL;
            FN(load_states)(h, s->checkpoints + (task.batch * blocks + block) * n * s->d + c, s->d, lanes, n);
            FN(backward_block)(s, slot, task.batch, c, lanes, start, steps, B, C, h, gradient, dB, dC, tiles);
        }
        FN(add_lanes)(s->dB + cell * n * s->dB_steps, s->dB_steps, dB, n, start, steps);
        FN(add_lanes)(s->dC + cell * n * s->dC_steps, s->dC_steps, dC, n, start, steps);
    }
    FN(last_states)(s, &task, s->dfirst, dh);
}

/* Floats of scratch memory that one thread needs, for forward and backward alike; aligned to 64 bytes. */
EXPORT int64_t FN(hsmamba_scan_scratch)(const Scan *s) {
    int64_t per_group = s->d / s->g, blocks = (per_group + VL - 1) / VL;
    int64_t vectors = (blocks + s->parts - 1) / s->parts + 1;
    return 2 * s->n * STEPS + TILES * STEPS * VL + (2 * STEPS + 1 + vectors) * s->n * VL;
}

/* Run tasks until the counter, which the threads of one call share, has passed the last slot. */
EXPORT void FN(hsmamba_scan_forward)(const Scan *s, float *scratch, int64_t *next_slot) {
    int64_t tasks = s->b * s->g * s->parts, slot;
    while ((slot = __atomic_fetch_add(next_slot, 1, __ATOMIC_RELAXED)) < s->slots)
        for (int64_t i = tasks * slot / s->slots; i < tasks * (slot + 1) / s->slots; i++) FN(forward_task)(s, i, scratch);
}

EXPORT void FN(hsmamba_scan_backward)(const Scan *s, float *scratch, int64_t *next_slot) {
    int64_t tasks = s->b * s->g * s->parts, slot;
    while ((slot = __atomic_fetch_add(next_slot, 1, __ATOMIC_RELAXED)) < s->slots)
        for (int64_t i = tasks * slot / s->slots; i < tasks * (slot + 1) / s->slots; i++) FN(backward_task)(s, slot, i, scratch);
}

#undef vf
#undef vi
#undef vu
#undef f4
#undef LEVEL
#undef VL
#undef FN
#undef JOIN
#undef JOIN2
#undef EXPORT
#undef INLINE
#undef LOG2E
#undef TILES
