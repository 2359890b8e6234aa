/* Attention of a step over the KV cache and shared prefixes. */
#include "kernels.h"

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
