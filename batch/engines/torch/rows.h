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

/* Absolute inputs of a row, of which so many are left; zeros behind them. */
static inline __m512 sizes_of(const float *x, int64_t left) {
    return _mm512_abs_ps(left < 16 ? _mm512_maskz_loadu_ps(first_of(left), x) : _mm512_loadu_ps(x));
}

/* How many inputs of a row lie beyond each of so many limits. */
static void count_beyond(const float *x, int64_t n, const float *limits, int *counts) {
    __m512 each[LIMITS];
    __m512i found[LIMITS]; /* counted by lanes: from masks to numbers is a long way */
    for (int k = 0; k < LIMITS; k++) each[k] = _mm512_set1_ps(limits[k]), found[k] = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += 16) {
        __m512 some = sizes_of(x + i, n - i);
        for (int k = 0; k < LIMITS; k++) {
            __mmask16 above = _mm512_cmp_ps_mask(some, each[k], _CMP_GT_OQ);
            found[k] = _mm512_mask_add_epi32(found[k], above, found[k], _mm512_set1_epi32(1));
        }
    }
    for (int k = 0; k < LIMITS; k++) counts[k] = _mm512_reduce_add_epi32(found[k]);
}

/* Inputs of a row beyond `limit`, at most so many, and the largest absolute one of the others; how many there are. */
static int64_t beyond_one(const float *x, int64_t n, float limit, int64_t most, int *columns, float *largest) {
    const __m512 border = _mm512_set1_ps(limit);
    __m512 highest = _mm512_setzero_ps();
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += 16) {
        __m512 some = sizes_of(x + i, n - i);
        unsigned found = _mm512_cmp_ps_mask(some, border, _CMP_GT_OQ);
        highest = _mm512_mask_max_ps(highest, (__mmask16)~found, highest, some);
        for (; found; found &= found - 1, count++)
            if (count < most) columns[count] = (int)i + __builtin_ctz(found);
    }
    *largest = _mm512_reduce_max_ps(highest);
    return count;
}

/* Inputs of a row beyond the first limit, from `limit` on and each a quarter above the last, that no more than `most`
 * of them lie beyond, and the largest absolute one of the others; how many. There is no NaN among them. */
static int beyond(const float *x, int64_t n, float limit, int64_t most, int *columns, float *largest) {
    int64_t found = beyond_one(x, n, limit, most, columns, largest);
    if (found <= most) return (int)found; /* nearly always */
    float limits[LIMITS];
    int counts[LIMITS], chosen = LIMITS;
    while (chosen == LIMITS) {
        for (int k = 0; k < LIMITS; k++) limits[k] = limit, limit *= 1.25f;
        count_beyond(x, n, limits, counts);
        for (chosen = 0; chosen < LIMITS && counts[chosen] > most;) chosen++;
    }
    return (int)beyond_one(x, n, limits[chosen], most, columns, largest);
}

/* LIMIT times the mean of a row's absolute inputs, those beyond `most` left out; `largest`: of all, NaN where there is
 * one among them. */
static float limit_of(const float *x, int64_t n, float most, float *largest) {
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    __m512i highest[2]; /* as whole numbers NaN is above all others */
    highest[0] = highest[1] = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += 32)
        for (int v = 0; v < 2; v++) {
            __m512 some = sizes_of(x + i + 16 * v, n - i - 16 * v);
            __mmask16 within = _mm512_cmp_ps_mask(some, _mm512_set1_ps(most), _CMP_NGT_UQ);
            sums[v] = _mm512_mask_add_ps(sums[v], within, sums[v], some);
            highest[v] = _mm512_max_epu32(highest[v], _mm512_castps_si512(some));
        }
    uint32_t bits = _mm512_reduce_max_epu32(_mm512_max_epu32(highest[0], highest[1]));
    memcpy(largest, &bits, 4);
    float sum = _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) * LIMIT / n;
    return sum < 1e-12f ? 1e-12f : sum; /* NaN and infinity have nothing beyond them */
}

/* Where bytes of a row lie: `block` of them side by side, and `apart` from there to the next ones. */
typedef struct {
    uint8_t *bytes;
    int64_t block, apart;
} Row;

/* As kernels.h's quantise_row. */
static float quantise_blocks(const float *from, const Row *to, int64_t n, float largest) {
    if (largest < 1e-12f) largest = 1e-12f;
    __m512 inverse = _mm512_set1_ps(127.0f / largest), middle = _mm512_set1_ps(128.5f);
    uint8_t *bytes = to->bytes;
    for (int64_t start = 0; start < n; start += to->block, bytes += to->apart) {
        int64_t count = n - start < to->block ? n - start : to->block;
        int64_t i = 0;
        for (; i + 16 <= count; i += 16) {
            __m512 some = _mm512_fmadd_ps(_mm512_loadu_ps(from + start + i), inverse, middle);
            _mm_storeu_si128((void *)(bytes + i), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(some)));
        }
        if (i == count) continue;
        __m512 rest = _mm512_maskz_loadu_ps(first_of(count - i), from + start + i);
        rest = _mm512_fmadd_ps(rest, inverse, middle);
        _mm512_mask_cvtepi32_storeu_epi8(bytes + i, first_of(count - i), _mm512_cvttps_epi32(rest));
    }
    return largest / 127.0f;
}

/* A row to 8 bits, apart from what it keeps, which are zero there; its scale. */
static float keep_row(const float *x, int64_t n, Few *few, const Row *to) {
    int64_t most = n / SPARSE < KEPT ? n / SPARSE : KEPT;
    float largest, limit = limit_of(x, n, INFINITY, &largest);
    few->count = 0;
    if (!(largest > limit)) return quantise_blocks(x, to, n, largest);
    limit = limit_of(x, n, limit, &largest); /* the largest ones hide others in the mean */
    few->count = beyond(x, n, limit, most, few->columns, &largest);
    float scale = quantise_blocks(x, to, n, largest);
    for (int i = 0; i < few->count; i++) {
        int64_t column = few->columns[i];
        few->values[i] = x[column], to->bytes[column / to->block * to->apart + column % to->block] = 128;
    }
    return scale;
}

/* Sums of the bytes of each block of a row, of 32 of them. */
static void sum_blocks(const Row *of, int64_t blocks, float *sums) {
    for (int64_t b = 0; b < blocks; b++) {
        int64_t start = b * 32 / of->block * of->apart + b * 32 % of->block;
        __m256i eights = _mm256_sad_epu8(_mm256_loadu_si256((const void *)(of->bytes + start)), _mm256_setzero_si256());
        __m128i two = _mm_add_epi64(_mm256_castsi256_si128(eights), _mm256_extracti128_si256(eights, 1));
        sums[b] = (float)(_mm_cvtsi128_si32(two) + _mm_extract_epi32(two, 2));
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
