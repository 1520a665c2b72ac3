/* Barriers that count bytes, box copies and warpgroup products: see hopper.h. */
#include "hopper.h"

#include <algorithm>
#include <memory>
#include <vector>

static const uint32_t POISON = 0x7fbadbadu; /* a NaN that no arithmetic makes */

/* --- shared memory by address -------------------------------------------------------------------------------------------------------------- */

static uint32_t base; /* of this block's shared memory */

uint32_t emulated_shared_address(const void *p)
{
    const size_t at = (size_t)((const char *)p - (const char *)emulated_shared());
    if (at > emulated_shared_size())
        emulated_fault("an address outside of shared memory");
    return base + (uint32_t)at;
}

static char *shared_at(uint32_t address, size_t bytes, const char *what)
{
    if (address < base || address + bytes > base + emulated_shared_size())
        emulated_fault("%s at address %u, outside of shared memory (%u … %zu)", what, address, base, base + emulated_shared_size());
    return (char *)emulated_shared() + (address - base);
}

/* Bits 4 … 6 of an address change by bits 7 … 9 of it. */
static uint32_t permuted(uint32_t address)
{
    return address ^ (address >> 3 & 0x70);
}

/* --- barriers -------------------------------------------------------------------------------------------------------------------------------- */

struct barrier {
    uint64_t parity : 1, left : 12, arrivals : 12, made : 14;
    int64_t bytes : 25;
};
static_assert(sizeof(barrier) == 8, "a barrier has eight bytes");
enum { MADE = 0x2b5d };

static barrier *barrier_at(uint64_t *bar, const char *what)
{
    shared_at(emulated_shared_address(bar), 8, what);
    if ((uintptr_t)bar % 8)
        emulated_fault("%s: a barrier at an address that is no multiple of 8", what);
    barrier *b = (barrier *)(void *)bar;
    if (b->made != MADE)
        emulated_fault("%s: there is no barrier at byte %zu of shared memory", what, (size_t)((char *)bar - (char *)emulated_shared()));
    return b;
}

static void turn(barrier *b)
{
    if (b->left || b->bytes)
        return;
    b->parity ^= 1;
    b->left = b->arrivals;
}

/* One time in so many a thread is late, by up to 2^most rounds of the others. */
static void late(unsigned one_in, unsigned most)
{
    if (!emulated_draw(one_in))
        for (unsigned rounds = emulated_draw(2u << emulated_draw(most)); rounds; rounds--)
            emulated_wait_until("", [] { return true; });
}

struct box {
    char *to;
    CUtensorMap map;
    uint64_t *bar;
    unsigned at[4];
};
static std::vector<box> boxes; /* on their way */
static bool visible;           /* barrier_made was called */

void emulated_barrier_init(uint64_t *bar, unsigned arrivals)
{
    shared_at(emulated_shared_address(bar), 8, "barrier_init");
    if (!arrivals || arrivals > 1023)
        emulated_fault("barrier_init of %u arrivals", arrivals);
    late(4, 11);
    barrier b = {};
    b.made = MADE;
    b.arrivals = b.left = arrivals;
    memcpy(bar, &b, sizeof b);
    visible = false;
}

void emulated_barrier_made(void)
{
    visible = true;
}

void emulated_barrier_arrive(uint64_t *bar, unsigned bytes)
{
    barrier *b = barrier_at(bar, "barrier_arrive");
    if (!b->left)
        emulated_fault("more arrive at a barrier than the %u of a turn", (unsigned)b->arrivals);
    b->bytes += bytes;
    b->left--;
    turn(b);
    late(2, 6);
}

static void deliver(const box &c)
{
    const CUtensorMap &m = c.map;
    unsigned bytes = 0;
    const uint32_t to = emulated_shared_address(c.to);
    for (unsigned row = 0; row < m.box[2]; row++)
        for (unsigned i = 0; i < m.box[0]; i++, bytes += 2) {
            const uint64_t at[4] = {(uint64_t)c.at[0] + i, c.at[1], (uint64_t)c.at[2] + row, c.at[3]};
            uint16_t item = 0;
            if (at[0] < m.size[0] && at[1] < m.size[1] && at[2] < m.size[2] && at[3] < m.size[3])
                memcpy(&item, (const char *)(uintptr_t)m.at + at[0] * 2 + at[1] * m.between[0] + at[2] * m.between[1] + at[3] * m.between[2], 2);
            const uint32_t byte = to + row * m.box[0] * 2 + i * 2;
            memcpy(shared_at(m.permuted ? permuted(byte) : byte, 2, "copy_box"), &item, 2);
        }
    barrier *b = barrier_at(c.bar, "copy_box");
    b->bytes -= bytes;
    turn(b);
}

void emulated_barrier_wait(uint64_t *bar, unsigned parity)
{
    emulated_wait_until("barrier_wait", [=] {
        barrier *b = barrier_at(bar, "barrier_wait");
        while (b->parity == parity) {
            std::vector<size_t> mine;
            for (size_t i = 0; i < boxes.size(); i++)
                if (boxes[i].bar == bar)
                    mine.push_back(i);
            if (mine.empty())
                return false;
            const size_t one = mine[emulated_draw((uint32_t)mine.size())];
            const box c = boxes[one];
            boxes.erase(boxes.begin() + (ptrdiff_t)one);
            deliver(c);
        }
        return true;
    });
    late(32, 11);
}

static struct {
    unsigned threads, here, generation;
} points[16];

void emulated_meeting_point(unsigned id, unsigned threads, bool wait)
{
    if (!id || id > 15 || threads % 32 || !threads || threads > blockDim.x)
        emulated_fault("a meeting of %u threads at %u", threads, id);
    emulated_meet(wait ? "meeting_wait" : "meeting_arrive", "", 0); /* warps come whole */
    auto *m = &points[id];
    if (m->here && m->threads != threads)
        emulated_fault("%u threads meet at %u where others expect %u", threads, id, m->threads);
    m->threads = threads;
    const unsigned generation = m->generation;
    if (++m->here == threads) {
        m->here = 0;
        m->generation++;
    } else if (wait) {
        emulated_wait_until("meeting_wait", [=] { return m->generation != generation; });
    }
}

/* --- copies ----------------------------------------------------------------------------------------------------------------------------------- */

static CUresult encode(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t axes, void *at, const cuuint64_t *size, const cuuint64_t *between,
                       const cuuint32_t *box, const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                       CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill)
{
    bool good = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 && axes == 4 && (uintptr_t)at % 16 == 0 && (uintptr_t)map % 64 == 0 &&
                interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE && box[1] == 1 && box[3] == 1 &&
                (box[0] * 2 == 128 || (swizzle == CU_TENSOR_MAP_SWIZZLE_NONE && box[0] * 2 % 16 == 0));
    for (int i = 0; i < 4; i++) {
        good = good && size[i] && size[i] <= (uint64_t)1 << 32 && box[i] && box[i] <= 256 && steps[i] == 1;
        good = good && (i == 3 || (between[i] % 16 == 0 && between[i] < (uint64_t)1 << 40));
    }
    if (!good)
        return CUDA_ERROR_INVALID_VALUE;
    *map = CUtensorMap{};
    map->made = MADE;
    map->at = (uint64_t)(uintptr_t)at;
    memcpy(map->size, size, sizeof map->size);
    memcpy(map->between, between, sizeof map->between);
    memcpy(map->box, box, sizeof map->box);
    map->permuted = swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **entry, unsigned version, unsigned long long,
                                             cudaDriverEntryPointQueryResult *found)
{
    const bool known = !strcmp(name, "cuTensorMapEncodeTiled") && version >= 12000;
    *entry = known ? (void *)encode : NULL;
    *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

void emulated_copy_box(void *to, const CUtensorMap *map, uint64_t *bar, unsigned c0, unsigned c1, unsigned c2, unsigned c3)
{
    if (map->made != MADE)
        emulated_fault("copy_box by something that is no tensor map");
    if (!visible)
        emulated_fault("copy_box to a barrier that barrier_made did not show it");
    barrier_at(bar, "copy_box");
    const uint32_t address = emulated_shared_address(to), bytes = map->box[0] * map->box[2] * 2;
    if (address % 128)
        emulated_fault("copy_box to address %u, which is no multiple of 128", address);
    memset(shared_at(address, bytes, "copy_box"), 0xff, bytes);
    boxes.push_back(box{(char *)to, *map, bar, {c0, c1, c2, c3}});
}

/* --- products --------------------------------------------------------------------------------------------------------------------------------- */

struct asked {
    float *d;
    const uint32_t *a_registers;
    uint64_t a, b;
    unsigned registers;
    bool across, add;
};
static_assert(sizeof(asked) <= 64, "what a lane brings to a meeting");

/* A warp's sums of products on their way. */
struct sums {
    float *d[32];
    unsigned registers, left; /* products that add to them */
    float value[32][64];
};

struct product {
    asked of[32];
    std::shared_ptr<sums> to;
    unsigned group;
    bool done;
};

struct warp {
    std::vector<product> all; /* on their way, in order */
    unsigned group, asked_for;
    bool begun, eager; /* whether products read their operands at once, or at the wait */
};
static std::vector<warp> warps;
static std::vector<std::vector<asked>> order; /* of a warpgroup, all of the block's */

static warp *warp_here(void)
{
    const unsigned i = threadIdx.x / 32;
    if (blockDim.x / 128 * 128 <= threadIdx.x)
        emulated_fault("a product by a warp that has no whole warpgroup");
    if (warps.size() <= i)
        warps.resize(i + 1);
    return &warps[i];
}

/* All lanes come; lane 0 does it, before any goes on. */
static void together(const char *kind, const asked &mine, const std::function<void(const emulated_meeting &)> &it)
{
    const emulated_meeting m = emulated_meet(kind, &mine, sizeof mine);
    if (!m.self)
        it(m);
    emulated_meet(kind, "", 0);
}

static float item(uint32_t address)
{
    uint16_t v;
    memcpy(&v, shared_at(permuted(address), 2, "a product's operand"), 2);
    return __uint_as_float((unsigned)v << 16);
}

/* Items of a matrix whose 16 inner indices are k: rows of K, or across. */
static void decode(float (*to)[16], unsigned first, unsigned rows, uint64_t matrix, bool across)
{
    const uint32_t at = (uint32_t)(matrix & 0x3fff) << 4, between_panels = (uint32_t)(matrix >> 16 & 0x3fff) << 4,
                   between_eights = (uint32_t)(matrix >> 32 & 0x3fff) << 4;
    if (matrix >> 62 != 1 || (matrix & 0x3fffc000c000c000u & ~((uint64_t)7 << 49)))
        emulated_fault("a matrix descriptor %016llx that is none of 128-byte permutation", (unsigned long long)matrix);
    if (matrix >> 49 & 7)
        emulated_fault("a matrix descriptor with a base offset");
    for (unsigned r = first; r < first + rows; r++)
        for (unsigned k = 0; k < 16; k++)
            to[r - first][k] = item(across ? at + r / 64 * between_panels + r % 64 * 2 + k % 8 * 128 + k / 8 * between_eights
                                           : at + r / 8 * between_eights + r % 8 * 128 + k * 2);
}

static void perform(product *p)
{
    static float a[16][16], b[256][16], sum[16][256];
    const asked &one = p->of[0];
    const unsigned n = one.registers * 2;
    if (one.a_registers) {
        for (unsigned row = 0; row < 16; row++)
            for (unsigned k = 0; k < 16; k++) {
                const uint32_t pair = p->of[row % 8 * 4 + k % 8 / 2].a_registers[row / 8 + k / 8 * 2];
                a[row][k] = __uint_as_float((k % 2 ? pair >> 16 : pair & 0xffffu) << 16);
            }
    } else {
        decode(a, threadIdx.x / 32 % 4 * 16, 16, one.a, false);
    }
    decode(b, 0, n, one.b, one.across);
    for (unsigned row = 0; row < 16; row++)
        for (unsigned column = 0; column < n; column++) {
            double x = 0;
            for (unsigned k = 0; k < 16; k++)
                x += (double)a[row][k] * (double)b[column][k];
            sum[row][column] = (float)x;
        }
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < one.registers; i++) {
            float *to = &p->to->value[lane][i];
            const float x = sum[lane / 4 + i % 4 / 2 * 8][i / 4 * 8 + lane % 4 * 2 + i % 2];
            *to = one.add ? *to + x : x;
        }
    p->done = true;
}

static void finish(product *p)
{
    if (!p->done)
        perform(p);
    sums *to = p->to.get();
    if (--to->left)
        return;
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < to->registers; i++) {
            if (__float_as_uint(to->d[lane][i]) != POISON)
                emulated_fault("sums of a product were written before they were waited for: lane %u, register %u", lane, i);
            to->d[lane][i] = to->value[lane][i];
        }
}

/* Registers a thread of each warpgroup of the block; 0: what the launch gave. */
static unsigned registers[32];

void emulated_registers(unsigned many, bool more)
{
    const unsigned groups = blockDim.x / 128, given = std::min(65536 / blockDim.x / 8 * 8, 255u), group = threadIdx.x / 128;
    asked mine = {};
    mine.registers = many;
    together("setmaxnreg", mine, [=](const emulated_meeting &) {
        if (blockDim.x % 128 || many % 8 || many < 24 || many > 256 || (more ? many < given : many > given))
            emulated_fault("%u registers of %u", many, given);
        registers[group] = many;
        unsigned all = 0;
        for (unsigned i = 0; i < groups; i++)
            all += registers[i] * 128;
        if (all > given * blockDim.x)
            emulated_fault("warpgroups take %u registers of %u", all, given * blockDim.x);
    });
}

void emulated_wgmma_begin(void)
{
    together("wgmma_begin", asked{}, [](const emulated_meeting &) { warp_here()->begun = true; });
}

void emulated_wgmma_commit(void)
{
    together("wgmma_commit", asked{}, [](const emulated_meeting &) { warp_here()->group++; });
}

void emulated_wgmma_wait(unsigned left)
{
    together("wgmma_wait", asked{}, [=](const emulated_meeting &) {
        warp *w = warp_here();
        size_t many = 0;
        for (; many < w->all.size() && w->all[many].group + left < w->group; many++)
            finish(&w->all[many]);
        w->all.erase(w->all.begin(), w->all.begin() + (ptrdiff_t)many);
        w->begun = false;
    });
}

static bool same(const asked &x, const asked &y)
{
    return x.a == y.a && x.b == y.b && x.registers == y.registers && x.across == y.across && x.add == y.add && !x.a_registers == !y.a_registers;
}

void emulated_wgmma(float *d, unsigned registers, const uint32_t *a_registers, uint64_t a, uint64_t b, bool across, bool add)
{
    const asked mine = {d, a_registers, a, b, registers, across, add};
    together(across ? "wgmma, across" : "wgmma", mine, [](const emulated_meeting &m) {
        warp *w = warp_here();
        product p = {};
        p.group = w->group;
        for (int lane = 0; lane < 32; lane++) {
            p.of[lane] = emulated_lane<asked>(m, lane);
            if (!same(p.of[lane], p.of[0]))
                emulated_fault("lanes of a warp ask for different products");
        }
        if (!w->begun)
            emulated_fault("a product without wgmma_begin since the last wait");
        const unsigned group = threadIdx.x / 128;
        if (order.size() <= group)
            order.resize(group + 1);
        if (order[group].size() == w->asked_for)
            order[group].push_back(p.of[0]);
        else if (!same(order[group][w->asked_for], p.of[0]))
            emulated_fault("warps of a warpgroup ask for different products: its product %u", w->asked_for);
        w->asked_for++;
        for (product &before : w->all)
            if (before.of[0].d == p.of[0].d)
                p.to = before.to;
        if (!p.to) {
            p.to = std::make_shared<sums>();
            p.to->registers = p.of[0].registers;
            p.to->left = 0;
            for (int lane = 0; lane < 32; lane++) {
                p.to->d[lane] = p.of[lane].d;
                memcpy(p.to->value[lane], p.of[lane].d, p.to->registers * sizeof(float));
                for (unsigned i = 0; i < p.to->registers; i++)
                    memcpy(&p.of[lane].d[i], &POISON, sizeof POISON);
            }
        }
        p.to->left++;
        w->all.push_back(p);
        if (w->all.size() == 1)
            w->eager = emulated_draw(2);
        if (w->eager)
            perform(&w->all.back());
    });
}

/* --- blocks ------------------------------------------------------------------------------------------------------------------------------------ */

static void begins(void)
{
    base = 1024 + 128 * emulated_draw(8);
    visible = false;
    boxes.clear();
    warps.clear();
    order.clear();
    memset(registers, 0, sizeof registers);
    memset(points, 0, sizeof points);
}

static void ends(void)
{
    if (!boxes.empty())
        emulated_fault("a block ends with %zu copies that nobody waited for", boxes.size());
    for (unsigned id = 1; id < 16; id++)
        if (points[id].here)
            emulated_fault("a block ends with %u threads of %u at meeting %u", points[id].here, points[id].threads, id);
    for (size_t i = 0; i < warps.size(); i++) {
        if (!warps[i].all.empty())
            emulated_fault("a block ends with %zu products of warp %zu that it did not wait for", warps[i].all.size(), i);
        if (warps[i].asked_for != (i / 4 < order.size() ? order[i / 4].size() : 0))
            emulated_fault("warp %zu asked for %u products, others of its warpgroup for more", i, warps[i].asked_for);
    }
}

__attribute__((used)) static const bool hooked = (emulated_block_begins = begins, emulated_block_ends = ends, true);
