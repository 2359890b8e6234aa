/* Tiles (AMX), where the compiler is told of a processor that has them: what a thread needs before it may use them.
 *
 * A tile has up to 16 rows of 64 bytes. A product adds rows times columns to one: 16 x 16 sums of 64 inputs of 8 bits,
 * or of 32 in bfloat16, in one instruction. A thread that has loaded a configuration releases it when it is done, so
 * that the system has less to keep for it.
 */
#if defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__linux__)
#define HAS_TILES 1
#include <immintrin.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ASK_PERMISSION 0x1023 /* ARCH_REQ_XCOMP_PERM */
#define TILE_DATA 18          /* XFEATURE_XTILEDATA */

/* What the processor is told of its tiles. */
typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t width[16]; /* bytes of a row */
    uint8_t rows[16];
} Tiles;

/* Compilers do not know of all memory that a configuration or a tile is read from: what was written there before is
 * written by then. */
#define WRITTEN() __asm__ volatile("" : : : "memory")

static inline void load_config(const Tiles *tiles) {
    __asm__ volatile("" : : "r"(tiles) : "memory");
    _tile_loadconfig(tiles);
}

#define load_tile(TILE, FROM, STRIDE)                                                                                  \
    do {                                                                                                               \
        WRITTEN();                                                                                                     \
        _tile_loadd(TILE, FROM, STRIDE);                                                                               \
    } while (0)

/* Whether the system lets this process use tiles; asked once. */
static int tiles_allowed(void) {
    static _Atomic int known;
    int found = atomic_load(&known);
    if (!found) {
        found = syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) == 0 ? 1 : -1;
        atomic_store(&known, found);
    }
    return found > 0;
}
#else
#define HAS_TILES 0
static inline int tiles_allowed(void) { return 0; }
#endif
