/* What rows that decode side by side share, by tiles: its scores and its values, as in run_tiles.h, and where the
 * products of pairs.h leave them. */
#if HAS_TILES && defined(__AVX512BF16__)
/* Lanes of a block's queries, in memory of their own. */
typedef struct {
    Lanes all[SUBS];
    int count;
    _Alignas(64) uint32_t upright[SUBS][LARGEST_PAIRED / 2 * WIDE];
    _Alignas(64) float sums[SUBS][LARGEST_PAIRED * WIDE];
    _Alignas(64) float scores[COLUMNS * WIDE];
    _Alignas(64) uint32_t shares[COLUMNS / 2 * WIDE];
    _Alignas(64) bf16 values[LARGEST_PAIRED * COLUMNS], edge[LARGEST_PAIRED * COLUMNS];
} Beside;

static void put_beside(Beside *s, int queries) {
    for (s->count = 0; s->count * WIDE < queries; s->count++)
        s->all[s->count] = (Lanes){.sums = s->sums[s->count], .upright = s->upright[s->count],
                                   .wide = queries - s->count * WIDE > 16};
}

/* scores[columns, lanes] of what is shared. */
static __attribute__((noinline)) void score_far(const Block *b, int group, int size, int lanes, float *scores) {
    Beside s;
    put_beside(&s, b->tokens * group);
    for (int k = 0; k < s.count; k++) stand_up(b, group, k * WIDE, size, s.all + k);
    set_run_tiles();
    for (Spot at = spot_at(b, 0, 0); !at.part; at = spot_at(b, 0, at.at + COLUMNS)) {
        const bf16 *keys = tile_at(b, &at, 0, size, s.edge);
        for (int k = 0; k < s.count; k++) {
            score_lanes(s.all + k, keys, size, s.scores);
            for (int c = 0; c < at.columns; c++)
                for (int j = 0; j < (s.all[k].wide ? 32 : 16); j += 16)
                    _mm512_storeu_ps(scores + (at.at + c) * lanes + k * WIDE + j, _mm512_load_ps(s.scores + c * WIDE + j));
        }
    }
    _tile_release();
}

/* The sums of lanes from `from` on as rows of pairs.h, in its order. */
static void rows_of_pairs(const Lanes *l, int from, int queries, int size, float *sums) {
    for (int j = 0; j < (l->wide ? 32 : 16); j += 16)
        for (int i = 0; i < size; i += 32) {
            __m512i low[16], high[16];
            for (int r = 0; r < 16; r++) {
                low[r] = _mm512_load_si512(l->sums + (i + r) * WIDE + j);
                high[r] = _mm512_load_si512(l->sums + (i + 16 + r) * WIDE + j);
            }
            turn(low);
            turn(high);
            for (int r = 0; r < 16 && from + j + r < queries; r++) {
                float *to = sums + (from + j + r) * size + i;
                _mm512_storeu_si512(to, _mm512_shuffle_i32x4(low[r], high[r], 0x88));
                _mm512_storeu_si512(to + 16, _mm512_shuffle_i32x4(low[r], high[r], 0xdd));
            }
        }
}

/* sums[queries, size] of what is shared, by its shares [columns, lanes]. */
static __attribute__((noinline)) void value_far(const Block *b, int group, int size, int lanes, const float *shares,
                                                float *sums) {
    Beside s;
    put_beside(&s, b->tokens * group);
    for (int k = 0; k < s.count; k++) memset(s.sums[k], 0, sizeof(float) * size * WIDE);
    set_run_tiles();
    for (Spot at = spot_at(b, 0, 0); !at.part; at = spot_at(b, 0, at.at + COLUMNS)) {
        turn_values(tile_at(b, &at, 1, size, s.edge), size, s.values);
        for (int k = 0; k < s.count; k++) {
            for (int c = 0; c < COLUMNS; c += 2)
                for (int j = 0; j < (s.all[k].wide ? 32 : 16); j += 16) {
                    const float *from = shares + (at.at + c) * lanes + k * WIDE + j;
                    __m512 one = c < at.columns ? _mm512_loadu_ps(from) : _mm512_setzero_ps();
                    __m512 two = c + 1 < at.columns ? _mm512_loadu_ps(from + lanes) : _mm512_setzero_ps();
                    _mm512_store_si512(s.shares + c / 2 * WIDE + j, pair_shares(one, two));
                }
            for (int i = 0; i < size; i += 32) add_values(s.all + k, s.shares, s.values, 1, size, i);
        }
    }
    _tile_release();
    for (int k = 0; k < s.count; k++) rows_of_pairs(s.all + k, k * WIDE, b->tokens * group, size, sums);
}
#else
#define score_far(...)
#define value_far(...)
#endif
