/* The product of a linear layer, in the phases that product.c leads through: rows are made ready, then pieces of panels
 * multiplied, each by any thread. How that is done is for the kinds of weights: gemm.c has those of 8 and 4 bits,
 * floats.c those of 32 and 16.
 *
 * Weights lie in panels of neighbouring outputs; or, `paired`, of as many of the first half and of the second, so that
 * a gate and what it gates come together and half as much goes to memory. A panel is read front to back, once for every
 * block of rows. It stays in the cache (levels 1 and 2) from block to block, while each block prefetches a part of the
 * panel after it.
 */
#include "kernels.h"
#include "team.h"

#define INLINE static inline __attribute__((always_inline)) /* so that sizes become constants, and sums registers */

struct Share;
struct Kept;

/* A layer, the rows that go through it, and what threads work in. */
typedef struct {
    int64_t inputs, outputs;
    int64_t stride, blocks; /* stride: of a row made ready, in bytes; blocks: of inputs, or steps of four bytes */
    int bits, paired, gated, threads;
    const uint8_t *weights;
    const uint16_t *steps;
    const float *scales, *bias, *offsets, *x, *norm, *residual;
    float *out, eps;
    int by_tiles;
    int64_t height; /* rows of a block, at most */
    int64_t rows, row_blocks, panel, panels, advance, pieces; /* pieces: of a panel, that are units */
    int64_t width, before; /* of `out`: the length of a row, and the outputs that lie before its first */
    int64_t together; /* panels that go through a piece one after the other, while its rows are in the cache */
    struct Share *early, *late;
    struct Kept *kept; /* of each block of rows */
    float *rooms;      /* of each thread: a row put through the norm */
    float *sums, *row_scales; /* sums: of a row's blocks, in 4 bits */
    int *places;       /* of each thread: of every input */
    uint8_t *bytes;    /* rows made ready: in 8 bits, in bfloat16, or as floats put through the norm */
    _Atomic int64_t waiting; /* blocks of rows that are not ready yet */
} Product;

/* Where the two halves of a panel go: columns of `out`, how many of each, and the length of a row. */
typedef struct {
    int64_t columns[2], counts[2], width;
} Place;

static inline int64_t within(int64_t count, int64_t most) { return count < 0 ? 0 : count < most ? count : most; }

static inline Place place_of(const Product *p, int64_t column) {
    int64_t half = (p->outputs + 1) / 2, few = p->panel / 2, left = p->outputs - column;
    if (p->paired)
        return (Place){{column / 2, column / 2 + half},
                       {within(half - column / 2, few), within(p->outputs - half - column / 2, few)},
                       p->width};
    int64_t to = column - p->before;
    return (Place){{to, to + few}, {within(left, few), within(left - few, few)}, p->width};
}

#define TILED 16 /* rows of a block by tiles */

/* The first row of a block. By tiles there are whole blocks and a rest; else blocks of one height, or of two that
 * differ by one row: no small rest that costs as much as a whole block. */
static inline int64_t start_of(const Product *p, int64_t b) {
    if (!p->by_tiles) return p->rows * b / p->row_blocks;
    return b * p->height < p->rows ? b * p->height : p->rows;
}

/* Of gemm.c. */
int64_t gemm_outputs(void);  /* of a panel; 0 where the processor lacks the product */
int64_t kept_bytes(void);    /* that a block of rows takes of `kept` */
int gemm_tiles(int64_t rows, int64_t stride, int64_t bits); /* whether so many rows go by tiles */
void round_packed(const Product *p, int64_t block, float *room, int *places);
void multiply_packed(const Product *p, int64_t column, int64_t first, int64_t last, int *set); /* blocks of rows */
void leave_tiles(void);

/* Of floats.c. */
int64_t float_outputs(void); /* of a panel */
int float_bits(int64_t bits); /* whether the processor has the product */
int float_tiles(int64_t bits); /* whether rows go by tiles: any number of them, or none */
int64_t float_rows(int by_tiles); /* of a block, at most */
void round_floats(const Product *p, int64_t row, const float *from); /* to bfloat16 */
void multiply_floats(const Product *p, int64_t column, int64_t first, int64_t last, int *set); /* blocks of rows */
