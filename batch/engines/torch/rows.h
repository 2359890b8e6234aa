/* What the product of gemm.c makes of float rows: 8 bits around 128, sums of their blocks, and the few inputs that stay
 * floats. */
#include <immintrin.h>

#ifdef __AMX_INT8__
#define ROWS 16 /* of a block of rows */
#else
#define ROWS 12
#endif
#define LIMIT 5.0f /* times the mean of a row's absolute inputs: larger ones may stay floats */
#define KEPT 16    /* of a row, at most, and at most one of SPARSE */
#define SPARSE 16
#define LIMITS 4 /* that are tried at a time */

/* What a row keeps as floats: inputs by their columns, in ascending order. */
typedef struct {
    int count, columns[KEPT], at[KEPT]; /* at: of its columns, their place among those of the block */
    float values[KEPT];
} Few;

/* What a block of rows keeps. */
typedef struct Kept {
    int count, columns[ROWS * KEPT];
    Few rows[ROWS];
} Kept;

static inline __mmask16 first_of(int64_t left) { return left >= 16 ? 0xffff : left <= 0 ? 0 : (1 << left) - 1; }

/* How many inputs of a row lie beyond each of so many limits. */
static void count_beyond(const float *x, int64_t n, const float *limits, int *counts) {
    __m512 each[LIMITS];
    __m512i found[LIMITS]; /* counted by lanes: from masks to numbers is a long way */
    for (int k = 0; k < LIMITS; k++) each[k] = _mm512_set1_ps(limits[k]), found[k] = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += 16) {
        __m512 some = _mm512_abs_ps(_mm512_maskz_loadu_ps(first_of(n - i), x + i));
        for (int k = 0; k < LIMITS; k++) {
            __mmask16 above = _mm512_cmp_ps_mask(some, each[k], _CMP_GT_OQ);
            found[k] = _mm512_mask_add_epi32(found[k], above, found[k], _mm512_set1_epi32(1));
        }
    }
    for (int k = 0; k < LIMITS; k++) counts[k] = _mm512_reduce_add_epi32(found[k]);
}

/* Inputs of a row beyond the first limit, from `limit` on and each a quarter above the last, that no more than `most`
 * of them lie beyond; how many. */
static int beyond(const float *x, int64_t n, float limit, int64_t most, int *columns) {
    float limits[LIMITS];
    int counts[LIMITS], chosen = LIMITS;
    while (chosen == LIMITS) {
        for (int k = 0; k < LIMITS; k++) limits[k] = limit, limit *= 1.25f;
        count_beyond(x, n, limits, counts);
        for (chosen = 0; chosen < LIMITS && counts[chosen] > most;) chosen++;
    }
    int count = 0, all = counts[chosen];
    for (int64_t i = 0; count < all; i += 16) {
        __m512 some = _mm512_maskz_loadu_ps(first_of(n - i), x + i);
        unsigned found = _mm512_cmp_ps_mask(_mm512_abs_ps(some), _mm512_set1_ps(limits[chosen]), _CMP_GT_OQ);
        for (; found; found &= found - 1) columns[count++] = (int)i + __builtin_ctz(found);
    }
    return count;
}

/* LIMIT times the mean of a row's absolute inputs, those beyond `most` left out; `largest`: of all, NaN where there is
 * one among them. */
static float limit_of(const float *x, int64_t n, float most, float *largest) {
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    __m512i highest = _mm512_setzero_si512(); /* as whole numbers NaN is above all others */
    for (int64_t i = 0; i < n; i += 32)
        for (int v = 0; v < 2; v++) {
            __m512 some = _mm512_abs_ps(_mm512_maskz_loadu_ps(first_of(n - i - 16 * v), x + i + 16 * v));
            __mmask16 within = _mm512_cmp_ps_mask(some, _mm512_set1_ps(most), _CMP_NGT_UQ);
            sums[v] = _mm512_mask_add_ps(sums[v], within, sums[v], some);
            highest = _mm512_max_epu32(highest, _mm512_castps_si512(some));
        }
    uint32_t bits = _mm512_reduce_max_epu32(highest);
    memcpy(largest, &bits, 4);
    float sum = _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) * LIMIT / n;
    return sum < 1e-12f ? 1e-12f : sum; /* NaN and infinity have nothing beyond them */
}

/* A row to 8 bits, apart from what it keeps; its scale. room, which may be x: [n]. */
static float keep_row(const float *x, int64_t n, Few *few, float *room, uint8_t *bytes) {
    int64_t most = n / SPARSE < KEPT ? n / SPARSE : KEPT;
    float largest, limit = limit_of(x, n, INFINITY, &largest);
    few->count = 0;
    if (!(largest > limit)) return quantise_row(x, bytes, n, largest);
    limit = limit_of(x, n, limit, &largest); /* the largest ones hide others in the mean */
    int count = few->count = beyond(x, n, limit, most, few->columns);
    if (!count) return quantise_row(x, bytes, n, largest);
    if (room != x) memcpy(room, x, n * sizeof(float));
    for (int i = 0; i < count; i++) few->values[i] = room[few->columns[i]], room[few->columns[i]] = 0;
    return quantise_row(room, bytes, n, largest_size(room, n));
}

/* Sums of the bytes of each block of a row. */
static void sum_blocks(const uint8_t *bytes, int64_t blocks, int64_t size, float *sums) {
    for (int64_t b = 0; b < blocks; b++) {
        int sum = 0;
        for (int64_t i = 0; i < size; i++) sum += bytes[b * size + i];
        sums[b] = (float)sum;
    }
}

/* Count each column that rows of a block keep once. places: of every of so many inputs. */
static void count_columns(Kept *kept, int rows, int64_t inputs, int *places) {
    kept->count = 0;
    int some = 0;
    for (int r = 0; r < rows; r++) some |= kept->rows[r].count;
    if (!some) return;
    memset(places, -1, inputs * sizeof(int));
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < kept->rows[r].count; i++) {
            int *place = places + kept->rows[r].columns[i];
            if (*place < 0) *place = kept->count, kept->columns[kept->count++] = kept->rows[r].columns[i];
            kept->rows[r].at[i] = *place;
        }
}
