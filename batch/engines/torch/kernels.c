/* The small loops of a step, each in one pass over memory: what torch does in several, and reads the KV cache slowly.
 *
 * Plain C for any compiler that vectorises loops; native.py compiles it once and checks it against torch. Arrays are
 * contiguous float32 unless said otherwise. Sums keep NaN, so that a broken row stays visible. KV caches have the shape
 * [slots, heads, columns, size], in float32 or bfloat16.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 16384 /* elements that one thread does sooner than it wakes another */

typedef uint16_t bf16;

static inline float from_f32(float x) { return x; }
static inline float to_f32(float x) { return x; }
static inline float from_bf16(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline bf16 to_bf16(float x) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fc0;
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* e^x to 1e-7 of it: 2^n by the exponent's bits, the rest by a polynomial (Cephes, expf). */
static inline float exp_fast(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

static inline float square_sum(const float *x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

/* out = x / sqrt(mean(x²) + eps) · weight, for each row of n. */
void rms_norm(const float *x, const float *weight, float *out, int64_t rows, int64_t n, float eps, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * n;
        float *to = out + row * n;
        float scale = 1.0f / sqrtf(square_sum(from, n) / n + eps);
        for (int64_t i = 0; i < n; i++) to[i] = weight[i] * (from[i] * scale);
    }
}

/* out[rows, n] = silu(gate) · up; x: [rows, 2n], the gates first. */
void swiglu(const float *x, float *out, int64_t rows, int64_t n, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        const float *gate = x + row * 2 * n, *up = gate + n;
        float *to = out + row * n;
        for (int64_t i = 0; i < n; i++) to[i] = gate[i] / (1.0f + exp_fast(-gate[i])) * up[i];
    }
}

/* Each row to 8 bits around 128, and its scale. */
void quantise(const float *x, uint8_t *out, float *scales, int64_t rows, int64_t n, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * n;
        uint8_t *to = out + row * n;
        uint32_t most = 0; /* as whole numbers NaN is above all others */
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, from + i, 4);
            bits &= 0x7fffffff;
            most = bits > most ? bits : most;
        }
        float largest;
        memcpy(&largest, &most, 4);
        if (largest < 1e-12f) largest = 1e-12f;
        float inverse = 127.0f / largest;
        scales[row] = largest / 127.0f;
        for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)(int32_t)(from[i] * inverse + 128.5f);
    }
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
static inline void turn(const float *x, const float *weight, float eps, const float *cosine, const float *sine,
                        float *out, int64_t size) {
    float scale = weight ? 1.0f / sqrtf(square_sum(x, size) / size + eps) : 1.0f;
    int64_t half = size / 2;
    for (int64_t i = 0; i < half; i++) {
        float a = x[i] * scale, b = x[i + half] * scale;
        if (weight) a *= weight[i], b *= weight[i + half];
        out[i] = a * cosine[i] - b * sine[i];
        out[i + half] = b * cosine[i + half] + a * sine[i + half];
    }
}

typedef struct {
    int64_t heads, kv_heads, size, columns; /* columns: of the cache, allocated */
    int64_t threads;
} Shape;

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

/* Of one token's group of query heads, over one KV head: its shared prefix, then columns [first, last) of its slot. */
#define ATTEND(NAME, T, FROM)                                                                                          \
    static inline __attribute__((always_inline)) void NAME##_scores(const float *q, const T *keys, int64_t count,      \
                                                                    int group, int size, float *scores, int64_t n) {   \
        for (int64_t c = 0; c < count; c++)                                                                            \
            for (int g = 0; g < group; g++) {                                                                          \
                float sum = 0;                                                                                         \
                for (int i = 0; i < size; i++) sum += q[g * size + i] * FROM(keys[c * size + i]);                      \
                scores[g * n + c] = sum;                                                                               \
            }                                                                                                          \
    }                                                                                                                  \
    static inline __attribute__((always_inline)) void NAME##_values(float *out, const T *values, int64_t count,        \
                                                                    int group, int size, const float *p, int64_t n) {  \
        int64_t c = 0;                                                                                                 \
        for (; c + 4 <= count; c += 4)                                                                                 \
            for (int g = 0; g < group; g++) {                                                                          \
                const T *v = values + c * size;                                                                        \
                const float *w = p + g * n + c;                                                                        \
                for (int i = 0; i < size; i++)                                                                         \
                    out[g * size + i] += w[0] * FROM(v[i]) + w[1] * FROM(v[i + size]) + w[2] * FROM(v[i + 2 * size])   \
                                         + w[3] * FROM(v[i + 3 * size]);                                               \
            }                                                                                                          \
        for (; c < count; c++)                                                                                         \
            for (int g = 0; g < group; g++)                                                                            \
                for (int i = 0; i < size; i++) out[g * size + i] += p[g * n + c] * FROM(values[c * size + i]);         \
    }                                                                                                                  \
    static inline __attribute__((always_inline)) void NAME##_one(                                                      \
        const float *query, float scale, const T *far_keys, const T *far_values, int64_t far, const T *keys,           \
        const T *values, int64_t count, int group, int size, float *scores, float *out) {                              \
        int64_t n = far + count;                                                                                       \
        float q[group * size];                                                                                         \
        for (int i = 0; i < group * size; i++) q[i] = query[i] * scale;                                                \
        NAME##_scores(q, far_keys, far, group, size, scores, n);                                                       \
        NAME##_scores(q, keys, count, group, size, scores + far, n);                                                   \
        for (int g = 0; g < group; g++) {                                                                              \
            float *s = scores + g * n, most = -INFINITY, sum = 0;                                                      \
            for (int64_t c = 0; c < n; c++) most = s[c] > most ? s[c] : most;                                          \
            for (int64_t c = 0; c < n; c++) s[c] = exp_fast(s[c] - most), sum += s[c];                                 \
            float share = 1.0f / sum;                                                                                  \
            for (int64_t c = 0; c < n; c++) s[c] *= share;                                                             \
        }                                                                                                              \
        float sums[group * size];                                                                                      \
        for (int i = 0; i < group * size; i++) sums[i] = 0;                                                            \
        NAME##_values(sums, far_values, far, group, size, scores, n);                                                  \
        NAME##_values(sums, values, count, group, size, scores + far, n);                                              \
        for (int i = 0; i < group * size; i++) out[i] = sums[i];                                                       \
    }                                                                                                                  \
    /* q, out: [tokens, heads, size]. prefix: for each token which of the shared ones, or -1; those have the shape     \
     * [heads, length, size]. The head is the outer loop, so that a prefix stays in the processor's cache. */          \
    void NAME(const Shape *s, const float *q, float scale, const T *keys, const T *values, const int64_t *slots,       \
              const int64_t *first, const int64_t *last, const int64_t *prefix, const T *const *prefix_keys,           \
              const T *const *prefix_values, const int64_t *prefix_length, int64_t tokens, int64_t longest,            \
              float *out) {                                                                                            \
        int group = s->heads / s->kv_heads, size = s->size;                                                            \
        _Pragma("omp parallel num_threads(s->threads)")                                                                \
        {                                                                                                              \
            float *scores = malloc(sizeof(float) * group * longest);                                                   \
            _Pragma("omp for schedule(dynamic, 4)")                                                                    \
            for (int64_t task = 0; task < tokens * s->kv_heads; task++) {                                              \
                int64_t h = task / tokens, t = task % tokens, begin = first[t], far = 0;                               \
                const T *k = keys + ((slots[t] * s->kv_heads + h) * s->columns + begin) * size, *far_k = k;            \
                const T *v = values + ((slots[t] * s->kv_heads + h) * s->columns + begin) * size, *far_v = v;          \
                if (prefix[t] >= 0) {                                                                                  \
                    far = prefix_length[prefix[t]];                                                                    \
                    far_k = prefix_keys[prefix[t]] + h * far * size;                                                   \
                    far_v = prefix_values[prefix[t]] + h * far * size;                                                 \
                }                                                                                                      \
                int64_t place = (t * s->heads + h * group) * size, count = last[t] - begin;                            \
                if (size == 64 && group == 2)                                                                          \
                    NAME##_one(q + place, scale, far_k, far_v, far, k, v, count, 2, 64, scores, out + place);          \
                else if (size == 128 && group == 2)                                                                    \
                    NAME##_one(q + place, scale, far_k, far_v, far, k, v, count, 2, 128, scores, out + place);         \
                else                                                                                                   \
                    NAME##_one(q + place, scale, far_k, far_v, far, k, v, count, group, size, scores, out + place);    \
            }                                                                                                          \
            free(scores);                                                                                              \
        }                                                                                                              \
    }

ATTEND(attend_f32, float, from_f32)
ATTEND(attend_bf16, bf16, from_bf16)
