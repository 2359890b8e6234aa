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

/* Columns a task may see, in the order of its scores: those of a shared prefix, then its own from `first` on. */
#define PARTS(T)                                                                                                       \
    int64_t far = which < 0 ? 0 : prefix_length[which], own = ((slot * s->kv_heads + h) * s->columns + first) * size;  \
    const T *part_keys[2] = {far ? prefix_keys[which] + h * far * size : keys, keys + own};                            \
    const T *part_values[2] = {far ? prefix_values[which] + h * far * size : values, values + own};                    \
    int64_t counts[2] = {far, last - first};

/* Scores to shares of one, in place. */
static inline void softmax(float *s, int64_t n) {
    float most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < n; c++) most = s[c] > most ? s[c] : most;
    for (int64_t c = 0; c < n; c++) s[c] = exp_fast(s[c] - most), sum += s[c];
    float share = 1.0f / sum;
    for (int64_t c = 0; c < n; c++) s[c] *= share;
}

#define ARGUMENTS(T)                                                                                                   \
    const Shape *s, const float *q, float scale, const T *keys, const T *values, const T *const *prefix_keys,          \
        const T *const *prefix_values, const int64_t *prefix_length, const int64_t *slots, const int64_t *firsts,      \
        const int64_t *lasts, const int64_t *whiches, int64_t tokens, int64_t longest, float *out

/* One new token a row: q and out [tokens, heads, size]; each sees columns [first, last) of its slot after the shared
 * prefix `which`, or -1; those have the shape [heads, length, size]. Bound by memory: every key and value is read once
 * for a group of query heads. The head is the outer loop, so that a prefix stays in the processor's cache. */
#define ATTEND(NAME, T, FROM)                                                                                          \
    static inline __attribute__((always_inline)) void NAME##_scores(const float *q, const T *keys, int64_t count,      \
                                                                    int group, int size, float *scores, int64_t n) {   \
        for (int64_t c = 0; c < count; c++) {                                                                          \
            float key[size];                                                                                           \
            for (int i = 0; i < size; i++) key[i] = FROM(keys[c * size + i]);                                          \
            for (int g = 0; g < group; g++) {                                                                          \
                float sum = 0;                                                                                         \
                for (int i = 0; i < size; i++) sum += q[g * size + i] * key[i];                                        \
                scores[g * n + c] = sum;                                                                               \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static inline __attribute__((always_inline)) void NAME##_values(float *out, const T *values, int64_t count,        \
                                                                    int group, int size, const float *p, int64_t n) {  \
        int64_t c = 0;                                                                                                 \
        for (; c + 4 <= count; c += 4) {                                                                               \
            const T *v = values + c * size;                                                                            \
            for (int i = 0; i < size; i++) {                                                                           \
                float a = FROM(v[i]), b = FROM(v[i + size]), d = FROM(v[i + 2 * size]), e = FROM(v[i + 3 * size]);     \
                for (int g = 0; g < group; g++) {                                                                      \
                    const float *w = p + g * n + c;                                                                    \
                    out[g * size + i] += w[0] * a + w[1] * b + w[2] * d + w[3] * e;                                    \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        for (; c < count; c++)                                                                                         \
            for (int g = 0; g < group; g++)                                                                            \
                for (int i = 0; i < size; i++) out[g * size + i] += p[g * n + c] * FROM(values[c * size + i]);         \
    }                                                                                                                  \
    static inline __attribute__((always_inline)) void NAME##_one(                                                      \
        const float *query, float scale, const T **keys, const T **values, const int64_t *counts, int group, int size, \
        float *scores, float *out) {                                                                                   \
        int64_t n = counts[0] + counts[1];                                                                             \
        float q[group * size], sums[group * size];                                                                     \
        for (int i = 0; i < group * size; i++) q[i] = query[i] * scale, sums[i] = 0;                                   \
        NAME##_scores(q, keys[0], counts[0], group, size, scores, n);                                                  \
        NAME##_scores(q, keys[1], counts[1], group, size, scores + counts[0], n);                                      \
        for (int g = 0; g < group; g++) softmax(scores + g * n, n);                                                    \
        NAME##_values(sums, values[0], counts[0], group, size, scores, n);                                             \
        NAME##_values(sums, values[1], counts[1], group, size, scores + counts[0], n);                                 \
        for (int i = 0; i < group * size; i++) out[i] = sums[i];                                                       \
    }                                                                                                                  \
    void NAME(ARGUMENTS(T)) {                                                                                          \
        int group = s->heads / s->kv_heads, size = s->size;                                                            \
        _Pragma("omp parallel num_threads(s->threads)")                                                                \
        {                                                                                                              \
            float *scores = malloc(sizeof(float) * group * longest);                                                   \
            _Pragma("omp for schedule(dynamic, 4)")                                                                    \
            for (int64_t task = 0; task < tokens * s->kv_heads; task++) {                                              \
                int64_t h = task / tokens, t = task % tokens;                                                          \
                int64_t slot = slots[t], first = firsts[t], last = lasts[t], which = whiches[t];                       \
                PARTS(T)                                                                                               \
                int64_t at = (t * s->heads + h * group) * size;                                                        \
                if (size == 64 && group == 2)                                                                          \
                    NAME##_one(q + at, scale, part_keys, part_values, counts, 2, 64, scores, out + at);                \
                else if (size == 128 && group == 2)                                                                    \
                    NAME##_one(q + at, scale, part_keys, part_values, counts, 2, 128, scores, out + at);               \
                else                                                                                                   \
                    NAME##_one(q + at, scale, part_keys, part_values, counts, group, size, scores, out + at);          \
            }                                                                                                          \
            free(scores);                                                                                              \
        }                                                                                                              \
    }

ATTEND(attend_f32, float, from_f32)
ATTEND(attend_bf16, bf16, from_bf16)

#define TILE 16  /* columns at a time: one vector of scores */
#define BLOCK 32 /* queries at a time, over which a tile's conversion is spread */
typedef float Vector __attribute__((vector_size(4 * TILE), aligned(4)));

/* scores[0..queries)[0..TILE) of a tile of keys that stands upright, [size, TILE]; 8 queries in registers. */
static inline void tile_scores(const float *q, const Vector *upright, int queries, int size, float *scores, int64_t n) {
    for (int j = 0; j < queries; j += 8) {
        Vector sums[8] = {{0}};
        const float *from = q + j * size;
        for (int i = 0; i < size; i++)
            for (int r = 0; r < 8; r++) sums[r] += from[r * size + i] * upright[i];
        for (int r = 0; r < 8; r++) *(Vector *)(scores + (j + r) * n) = sums[r];
    }
}

/* out += shares · values of a tile, [columns, size]; `wide` vectors of 4 queries in registers. */
static inline __attribute__((always_inline)) void tile_values(const float *shares, int64_t n, const float *values,
                                                              int columns, int queries, int size, int from, int wide,
                                                              float *out) {
    for (int j = 0; j < queries; j += 4) {
        Vector sums[4][4];
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < wide; v++) sums[r][v] = *(Vector *)(out + (j + r) * size + from + v * TILE);
        for (int c = 0; c < columns; c++)
            for (int v = 0; v < wide; v++) {
                Vector value = *(const Vector *)(values + c * size + from + v * TILE);
                for (int r = 0; r < 4; r++) sums[r][v] += shares[(j + r) * n + c] * value;
            }
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < wide; v++) *(Vector *)(out + (j + r) * size + from + v * TILE) = sums[r][v];
    }
}

/* Many new tokens a row, in runs of a slot whose tokens stand side by side: slots, firsts, lasts and whiches tell of
 * each token, so that its own columns end with itself. A block is at most BLOCK queries of one run; `longest` keys. */
#define ATTEND_MANY(NAME, T, FROM)                                                                                     \
    void NAME(ARGUMENTS(T), const int64_t *begins, const int64_t *ends, int64_t blocks) {              \
        int64_t group = s->heads / s->kv_heads, size = s->size, n = longest + TILE;                                    \
        _Pragma("omp parallel num_threads(s->threads)")                                                                \
        {                                                                                                              \
            float *scores = malloc(sizeof(float) * (BLOCK * n + 2 * BLOCK * size + 2 * TILE * size));                  \
            float *asked = scores + BLOCK * n, *sums = asked + BLOCK * size;                                           \
            float *upright = sums + BLOCK * size, *tile = upright + TILE * size;                                       \
            _Pragma("omp for schedule(dynamic, 1)")                                                                    \
            for (int64_t task = 0; task < blocks * s->kv_heads; task++) {                                              \
                int64_t h = task / blocks, begin = begins[task % blocks], end = ends[task % blocks];                   \
                int64_t slot = slots[begin], first = firsts[begin], last = lasts[end - 1], which = whiches[begin];     \
                PARTS(T)                                                                                               \
                int queries = (end - begin) * group;                                                                   \
                memset(asked, 0, sizeof(float) * 2 * BLOCK * size);                                                    \
                for (int j = 0; j < queries; j++)                                                                      \
                    for (int64_t i = 0; i < size; i++)                                                                 \
                        asked[j * size + i]                                                                            \
                            = q[((begin + j / group) * s->heads + h * group + j % group) * size + i] * scale;          \
                for (int part = 0; part < 2; part++)                                                                   \
                    for (int64_t c = 0; c < counts[part]; c += TILE) {                                                 \
                        const T *from = part_keys[part] + c * size;                                                    \
                        int columns = counts[part] - c < TILE ? counts[part] - c : TILE;                               \
                        memset(upright, 0, sizeof(float) * TILE * size);                                               \
                        for (int r = 0; r < columns; r++)                                                              \
                            for (int64_t i = 0; i < size; i++) upright[i * TILE + r] = FROM(from[r * size + i]);       \
                        tile_scores(asked, (const Vector *)upright, queries, size, scores + part * far + c, n);        \
                    }                                                                                                  \
                for (int j = 0; j < queries; j++) {                                                                    \
                    float *row = scores + j * n;                                                                       \
                    int64_t seen = far + lasts[begin + j / group] - first, hidden = firsts[begin + j / group] - first; \
                    for (int64_t c = far; c < far + hidden; c++) row[c] = -INFINITY;                                   \
                    softmax(row, seen);                                                                                \
                    for (int64_t c = seen; c < far + counts[1]; c++) row[c] = 0;                                       \
                }                                                                                                      \
                for (int part = 0; part < 2; part++)                                                                   \
                    for (int64_t c = 0; c < counts[part]; c += TILE) {                                                 \
                        const T *from = part_values[part] + c * size;                                                  \
                        int columns = counts[part] - c < TILE ? counts[part] - c : TILE, i = 0;                        \
                        for (int k = 0; k < columns * size; k++) tile[k] = FROM(from[k]);                              \
                        const float *shares = scores + part * far + c;                                                 \
                        for (; i + 4 * TILE <= size; i += 4 * TILE)                                                    \
                            tile_values(shares, n, tile, columns, queries, size, i, 4, sums);                          \
                        for (; i < size; i += TILE) tile_values(shares, n, tile, columns, queries, size, i, 1, sums);  \
                    }                                                                                                  \
                for (int j = 0; j < queries; j++)                                                                      \
                    memcpy(out + ((begin + j / group) * s->heads + h * group + j % group) * size, sums + j * size,     \
                           sizeof(float) * size);                                                                      \
            }                                                                                                          \
            free(scores);                                                                                              \
        }                                                                                                              \
    }

ATTEND_MANY(attend_many_f32, float, from_f32)
ATTEND_MANY(attend_many_bf16, bf16, from_bf16)
