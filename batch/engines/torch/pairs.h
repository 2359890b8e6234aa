/* The products of attention.c for a cache in bfloat16, where the processor multiplies pairs of those (AVX512-BF16).
 *
 * Queries and shares are rounded to bfloat16 too, as keys and values are; sums are float32. Sums of values stand in
 * another order until `order_pairs`: of every 8 elements first the lower four of 32, then the upper four.
 */
#ifdef __AVX512BF16__
#include <immintrin.h>
#define PAIRS(half, size) ((half) && (size) % 32 == 0 && (size) <= LARGEST_PAIRED)

INLINE __m512bh as_pairs(__m512i x) { return (__m512bh)x; }

/* Queries, [queries, size]. */
INLINE void pair_asked(const float *asked, int queries, int size, bf16 *halves) {
    for (int i = 0; i < queries * size; i++) halves[i] = to_bf16(asked[i]);
}

/* A query as pairs in lane j of [size / 2, lanes]. */
INLINE void pair_upright(const bf16 *query, int j, int lanes, int size, uint32_t *pairs) {
    for (int i = 0; i < size / 2; i++) memcpy(pairs + i * lanes + j, query + 2 * i, 4);
}

/* Two columns of shares as pairs of bfloat16, [16]. */
INLINE __m512i pair_shares(__m512 first, __m512 second) {
    const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i beyond = _mm512_add_epi32(places, _mm512_set1_epi32(16));
    __m512i order = _mm512_or_si512(places, _mm512_slli_epi32(beyond, 16));
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

INLINE void score_pairs_of(const uint32_t *upright, int vectors, const bf16 *keys, int rows, int size, float *scores) {
    __m512 sums[8][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sums[r][v] = _mm512_setzero_ps();
    for (int i = 0; i < size / 2; i++) {
        __m512bh query[VECTORS];
        for (int v = 0; v < vectors; v++)
            query[v] = as_pairs(_mm512_loadu_si512(upright + (i * vectors + v) * LANES));
        for (int r = 0; r < rows; r++) { /* a key at a time, as all of them would not fit the registers */
            int pair;
            memcpy(&pair, keys + r * size + 2 * i, 4);
            for (int v = 0; v < vectors; v++)
                sums[r][v] = _mm512_dpbf16_ps(sums[r][v], query[v], as_pairs(_mm512_set1_epi32(pair)));
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(scores + (r * vectors + v) * LANES, sums[r][v]);
}

/* As score_tile. */
INLINE void score_pairs(const uint32_t *upright, int vectors, const bf16 *keys, int columns, int size, float *scores) {
    int c = 0;
    for (; c + 8 <= columns; c += 8)
        score_pairs_of(upright, vectors, keys + c * size, 8, size, scores + c * vectors * LANES);
    for (; c < columns; c++)
        score_pairs_of(upright, vectors, keys + c * size, 1, size, scores + c * vectors * LANES);
}

/* Sums of the elements of each of four vectors. */
INLINE __m128 add_each(const __m512 *each) {
    __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(each[0], each[1]), _mm512_unpackhi_ps(each[0], each[1]));
    __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(each[2], each[3]), _mm512_unpackhi_ps(each[2], each[3]));
    __m512 both = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(both), _mm512_extractf32x8_ps(both, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* As score_few; up to four queries at a time. */
INLINE void score_few_pairs(const bf16 *q, int group, const bf16 *keys, int columns, int size, float *scores, int lanes,
                            Next next) {
    for (int c = 0; c < columns; c++) {
        fetch(next, c);
        for (int g = 0; g < group; g += 4) {
            int count = group - g < 4 ? group - g : 4;
            __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int i = 0; i < size; i += 32) {
                __m512bh key = as_pairs(_mm512_loadu_si512(keys + c * size + i));
                for (int r = 0; r < count; r++)
                    sums[r] = _mm512_dpbf16_ps(sums[r], as_pairs(_mm512_loadu_si512(q + (g + r) * size + i)), key);
            }
            if (count == 1) scores[c * lanes + g] = _mm512_reduce_add_ps(sums[0]);
            else _mm_mask_storeu_ps(scores + c * lanes + g, (1 << count) - 1, add_each(sums));
        }
    }
}

/* Values [columns, size] as pairs of two columns each, [columns / 2 upwards, size]. */
static __attribute__((noinline)) void pair_values(const bf16 *values, int columns, int size, uint32_t *pairs) {
    for (int c = 0; c < columns; c += 2)
        for (int i = 0; i < size; i += 32, pairs += 32) {
            __m512i a = _mm512_loadu_si512(values + c * size + i), b = _mm512_setzero_si512();
            if (c + 1 < columns) b = _mm512_loadu_si512(values + (c + 1) * size + i);
            _mm512_storeu_si512(pairs, _mm512_unpacklo_epi16(a, b));
            _mm512_storeu_si512(pairs + LANES, _mm512_unpackhi_epi16(a, b));
        }
}

/* Shares [columns, lanes] as pairs of columns. */
INLINE void pair_columns(const float *shares, int lanes, int columns, uint32_t *pairs) {
    for (int c = 0; c < columns; c += 2)
        for (int j = 0; j < lanes; j += LANES) {
            const float *share = shares + c * lanes + j;
            __m512 second = c + 1 < columns ? _mm512_loadu_ps(share + lanes) : _mm512_setzero_ps();
            _mm512_storeu_si512(pairs + c / 2 * lanes + j, pair_shares(_mm512_loadu_ps(share), second));
        }
}

/* As value_tile, over all of a value's elements, of columns and their shares in pairs; what is in `out` is first
 * multiplied by each query's `change`. */
INLINE void value_pairs(const uint32_t *pairs, int lanes, const uint32_t *values, int columns, int queries, int size,
                        const float *change, float *out) {
    int count = (columns + 1) / 2;
    for (int j = 0; j < queries; j += 8) /* to whole vectors: what lies behind is not looked at */
        for (int i = 0; i < size; i += 2 * LANES) {
            __m512 sums[8][2];
            for (int r = 0; r < 8; r++)
                for (int v = 0; v < 2; v++)
                    sums[r][v] = _mm512_mul_ps(_mm512_loadu_ps(out + (j + r) * size + i + v * LANES),
                                               _mm512_set1_ps(change[j + r]));
            for (int c = 0; c < count; c++)
                for (int v = 0; v < 2; v++) {
                    __m512bh value = as_pairs(_mm512_loadu_si512(values + c * size + i + v * LANES));
                    for (int r = 0; r < 8; r++) {
                        __m512bh share = as_pairs(_mm512_set1_epi32(pairs[c * lanes + j + r]));
                        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], share, value);
                    }
                }
            for (int r = 0; r < 8; r++)
                for (int v = 0; v < 2; v++) _mm512_storeu_ps(out + (j + r) * size + i + v * LANES, sums[r][v]);
        }
}

/* As value_few; a bfloat16 is the upper half of a float32. */
INLINE void value_few_pairs(const float *shares, int lanes, int group, const bf16 *values, int columns, int size,
                            float *out, Next next) {
    const __m512i none = _mm512_setzero_si512();
    for (int g = 0; g < group; g += 2) {
        int two = g + 1 < group;
        for (int i = 0; i < size; i += 128) {
            int blocks = size - i < 128 ? (size - i) / 32 : 4;
            __m512 sums[2][8];
            for (int r = 0; r < 1 + two; r++)
                for (int v = 0; v < 2 * blocks; v++) sums[r][v] = _mm512_loadu_ps(out + (g + r) * size + i + v * LANES);
            for (int c = 0; c < columns; c++) {
                if (!g && !i) fetch(next, c);
                for (int v = 0; v < blocks; v++) {
                    __m512i both = _mm512_loadu_si512(values + c * size + i + 32 * v);
                    __m512 lower = _mm512_castsi512_ps(_mm512_unpacklo_epi16(none, both));
                    __m512 upper = _mm512_castsi512_ps(_mm512_unpackhi_epi16(none, both));
                    for (int r = 0; r < 1 + two; r++) {
                        __m512 share = _mm512_set1_ps(shares[c * lanes + g + r]);
                        sums[r][2 * v] = _mm512_fmadd_ps(share, lower, sums[r][2 * v]);
                        sums[r][2 * v + 1] = _mm512_fmadd_ps(share, upper, sums[r][2 * v + 1]);
                    }
                }
            }
            for (int r = 0; r < 1 + two; r++)
                for (int v = 0; v < 2 * blocks; v++) _mm512_storeu_ps(out + (g + r) * size + i + v * LANES, sums[r][v]);
        }
    }
}

/* A value's sums times `scale`, in their order again. */
INLINE void order_pairs(const float *sums, int size, float scale, float *out) {
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    for (int i = 0; i < size; i += 2 * LANES) {
        __m512 lower = _mm512_mul_ps(_mm512_loadu_ps(sums + i), _mm512_set1_ps(scale));
        __m512 upper = _mm512_mul_ps(_mm512_loadu_ps(sums + i + LANES), _mm512_set1_ps(scale));
        _mm512_storeu_ps(out + i, _mm512_permutex2var_ps(lower, first, upper));
        _mm512_storeu_ps(out + i + LANES, _mm512_permutex2var_ps(lower, second, upper));
    }
}

#else
#define PAIRS(half, size) 0
#define pair_upright(...)
#define pair_asked(...)
#define score_pairs(...)
#define score_few_pairs(...)
#define pair_values(...)
#define pair_columns(...)
#define value_pairs(...)
#define value_few_pairs(...)
#define order_pairs(...)
#endif
