/* The small loops of a step, each in one pass over memory: what torch does in several, and reads the KV cache slowly.
 *
 * Plain C for any compiler that vectorises loops; native.py compiles it once and checks it against torch. Arrays are
 * contiguous float32 unless said otherwise. Sums keep NaN, so that a broken row stays visible. KV caches have the shape
 * [slots, heads, columns, size], in float32 or bfloat16.
 */
#include "kernels.h"

void rms_norm(const float *x, const float *weight, float *out, int64_t rows, int64_t n, float eps, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) norm_row(x + row * n, weight, out + row * n, n, eps);
}

/* x: [rows, 2n]; out: [rows, n]. */
void swiglu(const float *x, float *out, int64_t rows, int64_t n, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) gate_row(x + row * 2 * n, out + row * n, n);
}

/* Each row to 8 bits around 128, and its scale. */
void quantise(const float *x, uint8_t *out, float *scales, int64_t rows, int64_t n, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) scales[row] = quantise_row(x + row * n, out + row * n, n);
}

/* x = x · scale of its row + bias (or NULL), in place. */
void rescale(float *x, const float *scales, const float *bias, int64_t rows, int64_t n, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        float *to = x + row * n, scale = scales[row];
        if (bias)
            for (int64_t i = 0; i < n; i++) to[i] = to[i] * scale + bias[i];
        else
            for (int64_t i = 0; i < n; i++) to[i] *= scale;
    }
}

/* A head's vector normalised (weight NULL: as it is) and rotated by half (Su 2021, as in GPT-NeoX). */
static inline void turn(const float *restrict x, const float *restrict weight, float eps,
                        const float *restrict cosine, const float *restrict sine, float *restrict out, int64_t size) {
    float scale = weight ? 1.0f / sqrtf(square_sum(x, size) / size + eps) : 1.0f;
    int64_t half = size / 2;
    for (int64_t i = 0; i < half; i++) {
        float a = x[i] * scale, b = x[i + half] * scale;
        if (weight) a *= weight[i], b *= weight[i + half];
        out[i] = a * cosine[i] - b * sine[i];
        out[i + half] = b * cosine[i + half] + a * sine[i + half];
    }
}

#define SET_CACHE(NAME, T, TO)                                                                                         \
    /* qkv: [tokens, (heads + 2 kv_heads) · size]; queries to q [tokens, heads, size], the rest to slot, column. */    \
    void NAME(const Shape *s, const float *qkv, const float *q_weight, const float *k_weight, float eps,               \
              const float *cosine, const float *sine, const int64_t *slots, const int64_t *at, int64_t tokens,         \
              float *q, T *keys, T *values) {                                                                          \
        int64_t size = s->size, width = (s->heads + 2 * s->kv_heads) * size;                                           \
        _Pragma("omp parallel for num_threads(s->threads) if (tokens * width > SMALL)")                                \
        for (int64_t t = 0; t < tokens; t++) {                                                                         \
            const float *from = qkv + t * width, *cos_t = cosine + t * size, *sin_t = sine + t * size;                 \
            float key[1024];                                                                                           \
            for (int64_t h = 0; h < s->heads; h++, from += size)                                                       \
                turn(from, q_weight, eps, cos_t, sin_t, q + (t * s->heads + h) * size, size);                          \
            for (int64_t h = 0; h < s->kv_heads; h++, from += size) {                                                  \
                T *to = keys + ((slots[t] * s->kv_heads + h) * s->columns + at[t]) * size;                             \
                turn(from, k_weight, eps, cos_t, sin_t, key, size);                                                    \
                for (int64_t i = 0; i < size; i++) to[i] = TO(key[i]);                                                 \
            }                                                                                                          \
            for (int64_t h = 0; h < s->kv_heads; h++, from += size) {                                                  \
                T *to = values + ((slots[t] * s->kv_heads + h) * s->columns + at[t]) * size;                           \
                for (int64_t i = 0; i < size; i++) to[i] = TO(from[i]);                                                \
            }                                                                                                          \
        }                                                                                                              \
    }

SET_CACHE(set_f32, float, to_f32)
SET_CACHE(set_bf16, bf16, to_bf16)

#define STRIDE 1024 /* elements looked through at a time */

/* The place of each row's largest element, the first of equals; -1 where that is not finite or one is NaN. */
void largest(const float *x, int64_t *out, int64_t rows, int64_t n, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * n;
        float most = -INFINITY;
        int64_t place = 0;
        int broken = 0;
        for (int64_t start = 0; start < n; start += STRIDE) {
            int64_t end = start + STRIDE < n ? start + STRIDE : n;
            float here = -INFINITY;
            for (int64_t i = start; i < end; i++) {
                here = from[i] > here ? from[i] : here;
                broken |= from[i] != from[i];
            }
            if (here > most) most = here, place = start;
        }
        while (place < n && from[place] != most) place++;
        out[row] = broken || !isfinite(most) ? -1 : place;
    }
}
