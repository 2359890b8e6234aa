/* The small loops of a step, each in one pass over memory: what torch does in several, and reads the KV cache slowly.
 *
 * Plain C for any compiler that vectorises loops; native.py compiles it once and checks it against torch. Arrays are
 * contiguous float32 unless said otherwise. Sums keep NaN, so that a broken row stays visible. KV caches have the shape
 * [slots, heads, columns, size], of a kind (kv_int8.h).
 */
#include "kernels.h"
#include "kv_int8.h"
#include "team.h"

int64_t page_columns(void);

int64_t largest_head(void) { return LARGEST_HEAD; }

/* x and out: `count` elements, rows of n; weight: [n]. */
int rms_norm(const float *x, int64_t count, const float *weight, int64_t n, float *out, int64_t out_count, float eps,
             int threads) {
    REQUIRE(threads > 0 && n > 0 && count >= 0 && count % n == 0 && out_count == count);
    int64_t rows = count / n;
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) norm_row(x + row * n, weight, out + row * n, n, eps);
    return 0;
}

/* x: [rows, 2n]; out: [rows, n]. */
int swiglu(const float *x, int64_t count, int64_t n, float *out, int64_t out_count, int threads) {
    REQUIRE(threads > 0 && n > 0 && count >= 0 && count % n == 0 && count / n % 2 == 0 && out_count == count / 2);
    int64_t rows = count / n / 2;
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) gate_row(x + row * 2 * n, out + row * n, n);
    return 0;
}

/* The same with GELU's form by tanh (Hendrycks 2016) in the place of silu: x · sigmoid(2 √(2/π) (x + 0.044715 x³)). */
int geglu(const float *x, int64_t count, int64_t n, float *out, int64_t out_count, int threads) {
    REQUIRE(threads > 0 && n > 0 && count >= 0 && count % n == 0 && count / n % 2 == 0 && out_count == count / 2);
    int64_t rows = count / n / 2;
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        const float *gate = x + row * 2 * n, *up = gate + n;
        for (int64_t i = 0; i < n; i++) {
            float g = gate[i], inner = 1.5957691216057308f * (g + 0.044715f * g * g * g);
            out[row * n + i] = g / (1.0f + exp_fast(-inner)) * up[i];
        }
    }
    return 0;
}

/* Each row to 8 bits around 128, and its scale. */
int quantise(const float *x, int64_t count, uint8_t *out, int64_t out_count, float *scales, int64_t rows, int threads) {
    REQUIRE(threads > 0 && rows >= 0 && count >= 0 && (rows ? count % rows == 0 : count == 0) && out_count == count);
    int64_t n = rows ? count / rows : 0;
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * n;
        scales[row] = quantise_row(from, out + row * n, n, largest_size(from, n));
    }
    return 0;
}

/* x = x · scale of its row + bias (or NULL), in place. */
int rescale(float *x, int64_t count, const float *scales, int64_t rows, const float *bias, int64_t bias_count,
            int threads) {
    REQUIRE(threads > 0 && rows >= 0 && count >= 0 && (rows ? count % rows == 0 : count == 0));
    int64_t n = rows ? count / rows : 0;
    REQUIRE(!bias || bias_count == n || !rows);
#pragma omp parallel for num_threads(threads) if (rows * n > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        float *to = x + row * n, scale = scales[row];
        if (bias)
            for (int64_t i = 0; i < n; i++) to[i] = to[i] * scale + bias[i];
        else
            for (int64_t i = 0; i < n; i++) to[i] *= scale;
    }
    return 0;
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

/* A head's vector to column `at` of its tile. */
static inline void put(int kind, const float *from, int64_t size, char *tile, int64_t at, int values) {
    if (kind == BYTES) put_int8(from, size, tile, at, values);
    else if (kind == FLOATS) memcpy((float *)tile + at * size, from, size * sizeof(float));
    else
        for (int64_t i = 0; i < size; i++) ((bf16 *)tile)[at * size + i] = to_bf16(from[i]);
}

/* Part `part` of `parts` of the heads of all tokens. */
void set_part(const Setting *s, int64_t part, int64_t parts) {
    int64_t every = s->heads + 2 * s->kv_heads, all = s->tokens * every, size = s->size;
    int64_t tile = s->columns * cell_of(s->kind, size) * bytes_of(s->kind);
    float key[LARGEST_HEAD];
    for (int64_t unit = all * part / parts; unit < all * (part + 1) / parts; unit++) {
        int64_t t = unit / every, h = unit % every - s->heads;
        const float *from = s->qkv + unit * size, *cos_t = s->cosine + t * size, *sin_t = s->sine + t * size;
        if (h < 0) {
            turn(from, s->q_weight, s->eps, cos_t, sin_t, s->q + (t * s->heads + h + s->heads) * size, size);
            continue;
        }
        int value = h >= s->kv_heads;
        int64_t place = s->slots[t] * s->kv_heads + (value ? h - s->kv_heads : h);
        if (!value) turn(from, s->k_weight, s->eps, cos_t, sin_t, key, size), from = key;
        put(s->kind, from, size, (value ? s->values : s->keys) + place * tile, s->at[t], value);
    }
}

/* qkv: [tokens, (heads + 2 kv_heads) · size]; queries to q [tokens, heads, size], the rest to slot, column of a cache of
 * that kind. Counts are elements. Returns 0, or as REQUIRE says. */
int set_cache(const float *qkv, int64_t qkv_count, const float *q_weight, const float *k_weight, int64_t weight_count,
              float eps, const float *cosine, const float *sine, int64_t rotary_count, const int64_t *slots,
              const int64_t *at, int64_t tokens, float *q, int64_t q_count, int kind, char *keys, char *values,
              int64_t cache_count, int64_t heads, int64_t kv_heads, int64_t size, int64_t columns, int threads) {
    REQUIRE(threads > 0 && heads > 0 && kv_heads > 0 && heads < 1 << 30 && kv_heads < 1 << 30);
    REQUIRE(size > 0 && size % 2 == 0 && size <= LARGEST_HEAD);
    REQUIRE(qkv_count == extent(tokens, heads + 2 * kv_heads, size) && rotary_count == extent(tokens, size, 1));
    REQUIRE(q_count == extent(tokens, heads, size) && !q_weight == !k_weight);
    REQUIRE(!q_weight || weight_count == size);
    REQUIRE(kind >= FLOATS && kind <= BYTES && (kind != BYTES || columns == page_columns()));
    int64_t page = extent(kv_heads, columns, cell_of(kind, size));
    REQUIRE(page > 0 && cache_count >= 0 && cache_count % page == 0);
    for (int64_t t = 0; t < tokens; t++)
        REQUIRE(slots[t] >= 0 && slots[t] < cache_count / page && at[t] >= 0 && at[t] < columns);
    Setting s = {qkv, q_weight, k_weight, cosine, sine,   slots,    at,   q,      eps,
                 kind, keys,    values,   tokens, heads,  kv_heads, size, columns};
#pragma omp parallel for num_threads(threads) if (qkv_count > SMALL)
    for (int part = 0; part < threads; part++) set_part(&s, part, threads);
    return 0;
}

/* x: vectors of `size`, those of a token `apart` elements from each other and tokens `along`; vector h of token t goes
 * to page slots[t], head h, column at[t] of pages [pages, heads, columns, size] of a kind; `values`: as values lie.
 * Counts are elements. Returns 0, or as REQUIRE says. */
int write_pages(const float *x, int64_t x_count, int64_t along, int64_t apart, const int64_t *slots, const int64_t *at,
                int64_t tokens, int kind, int values, char *pages, int64_t pages_count, int64_t heads,
                int64_t size, int64_t columns, int threads) {
    REQUIRE(threads > 0 && heads > 0 && size > 0 && tokens >= 0 && kind >= FLOATS && kind <= BYTES);
    REQUIRE(kind != BYTES || (size <= LARGEST_HEAD && columns == page_columns()));
    int64_t page = extent(heads, columns, cell_of(kind, size));
    REQUIRE(page > 0 && pages_count >= 0 && pages_count % page == 0);
    if (!tokens) return 0;
    int64_t last = extent(tokens - 1, along, 1), other = extent(heads - 1, apart, 1);
    REQUIRE(last >= 0 && other >= 0 && last <= x_count && other <= x_count - last && size <= x_count - last - other);
    for (int64_t t = 0; t < tokens; t++)
        REQUIRE(slots[t] >= 0 && slots[t] < pages_count / page && at[t] >= 0 && at[t] < columns);
#pragma omp parallel for num_threads(threads) if (tokens * heads * size > SMALL)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < heads; h++) {
            int64_t place = slots[t] * heads + h;
            char *tile = pages + place * columns * cell_of(kind, size) * bytes_of(kind);
            put(kind, x + t * along + h * apart, size, tile, at[t], values);
        }
    return 0;
}

#define STRIDE 1024 /* elements looked through at a time */

/* The place of each row's largest element, the first of equals; -1 where that is not finite or one is NaN. */
int largest(const float *x, int64_t count, int64_t *out, int64_t rows, int threads) {
    REQUIRE(threads > 0 && rows >= 0 && count >= 0 && (rows ? count % rows == 0 && count > 0 : count == 0));
    int64_t n = rows ? count / rows : 0;
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
    return 0;
}
