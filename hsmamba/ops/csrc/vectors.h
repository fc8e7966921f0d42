/* Vectors of VL floats, their exponentials, and tiles [step][channel] out of and into sequences (channel, step). Included
   for each level, like scan_kernel.h, and before it. */

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define FN(name) JOIN(name, LEVEL)
#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline)) /* with a stack of its own: Windows takes no more than a page of it at once */

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

/* 2^(a b), in one operation less than exp2v of the product. */
INLINE vf FN(exp2_product)(vf a, vf b) {
#if defined(HAVE_SCALEF)
    const vf magic = 12582912.0f; /* pushes the fraction out */
    vf whole = __builtin_elementwise_fma(a, b, magic) - magic;
    vf f = __builtin_elementwise_fma(a, b, -whole);
    vf p = 0.001326472725f * f + 0.009671512688f;
    p = p * f + 0.05550733744f;
    p = p * f + 0.2402224208f;
    p = p * f + 0.6931469776f;
    p = p * f + 1.0f;
    return _mm512_scalef_ps(p, whole);
#else
    return FN(exp2v)(a * b);
#endif
}

/* The first lanes of a vector out of memory, zeros in the others; nothing else is read. */
INLINE vf FN(some)(const float *from, int lanes) {
    if (lanes == VL) return *(const vu *)from;
#if defined(HAVE_SCALEF)
    return _mm512_maskz_loadu_ps((__mmask16)((1u << lanes) - 1), from);
#else
    vf x = 0.0f;
    for (int i = 0; i < lanes; i++) x[i] = from[i];
    return x;
#endif
}

/* The first lanes of a vector into memory. */
INLINE void FN(put)(float *to, vf x, int lanes) {
    if (lanes == VL) {
        *(vu *)to = x;
        return;
    }
#if defined(HAVE_SCALEF)
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << lanes) - 1), x);
#else
    for (int i = 0; i < lanes; i++) to[i] = x[i];
#endif
}

/* 1 / x within 2e-7, x not denormal. */
INLINE vf FN(inverse)(vf x) {
#if defined(HAVE_SCALEF)
    vf y = _mm512_rcp14_ps(x);
    return y * (2.0f - x * y);
#else
    return 1.0f / x;
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
    vf s = e * FN(inverse)(2.0f + e), q = s * s; /* log(1 + e) = 2 artanh(e / (2 + e)) */
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
    return (x < 0.0f ? e : (vf)1.0f) * FN(inverse)(1.0f + e);
}

/* Lane i of the result is the sum of v[i]; what was in v is gone. */
INLINE vf FN(sums)(vf *v) {
    for (int n = VL; n > 1; n /= 2)
        for (int i = 0; i < n / 2; i++) {
            vf a = v[2 * i], b = v[2 * i + 1];
#if VL == 16
            v[i] = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
                   __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif VL == 8
            v[i] = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
            v[i] = __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
        }
    return v[0];
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

/* All bits set in the lanes of channels, none in the dead ones. */
INLINE vi FN(live_lanes)(int lanes) {
    vi live;
    for (int i = 0; i < VL; i++) live[i] = i < lanes ? -1 : 0;
    return live;
}

INLINE vf FN(only)(vf x, vi live) { return (vf)((vi)x & live); }

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
