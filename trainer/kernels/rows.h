/* Types, loads and stores, and the exponential that the kernels share.
 *
 * Types: 0 is float32, 1 is bfloat16; everything is computed in float32.
 */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads(void) { return 1; }
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

#define BLOCK 1024

static inline float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* Round to nearest even; what is no number stays none. */
static inline uint16_t to_bfloat16(float value) {
    uint32_t bits = to_bits(value);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

static inline const void *at(const void *base, int64_t index, int type) {
    return (const char *)base + index * (type ? 2 : 4);
}

static inline void load(float *restrict to, const void *from, int64_t count, int type) {
    if (type) {
        const uint16_t *source = from;
        for (int64_t i = 0; i < count; i++) to[i] = from_bits((uint32_t)source[i] << 16);
    } else {
        memcpy(to, from, count * sizeof(float));
    }
}

static inline void store(void *to, const float *restrict from, int64_t count, int type) {
    if (type) {
        uint16_t *target = to;
        for (int64_t i = 0; i < count; i++) target[i] = to_bfloat16(from[i]);
    } else {
        memcpy(to, from, count * sizeof(float));
    }
}

/* Vectors of GCC, whatever the processor calls its own. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float vector __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t integers __attribute__((vector_size(LANES * 4), aligned(4)));

static inline vector all(float value) { return value - (vector){0}; }

/* Where a mask is set the first, else the second. */
static inline vector choose(integers mask, vector first, vector second) {
    return (vector)(((integers)first & mask) | ((integers)second & ~mask));
}

/* e^x to 2 units in the last place, 0 below -87: Cody and Waite's reduction, a polynomial of degree 6. */
static inline vector exponential(vector x) {
    vector within = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x));
    vector turns = within * 1.44269504f;
    integers n = __builtin_convertvector(turns + choose(turns < 0.0f, all(-0.5f), all(0.5f)), integers);
    vector whole = __builtin_convertvector(n, vector);
    vector r = within - whole * 0.693359375f;
    r = r + whole * 2.12194440e-4f;
    vector p = r * 1.3981999507e-3f + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    p = p * (vector)((n + 127) << 23);
    return choose(x < -87.0f, all(0.0f), p);
}

static inline float one_exponential(float x) { return exponential(all(x))[0]; }

/* The largest of a row. */
static inline float highest_of(const float *row, int64_t count) {
    float highest = row[0];
    int64_t i = 0;
    if (count >= LANES) {
        vector most = *(const vector *)row;
        for (; i + LANES <= count; i += LANES) {
            vector next = *(const vector *)(row + i);
            most = choose(next > most, next, most);
        }
        for (int lane = 0; lane < LANES; lane++) highest = most[lane] > highest ? most[lane] : highest;
    }
    for (; i < count; i++) highest = row[i] > highest ? row[i] : highest;
    return highest;
}

/* A row becomes e^(row - shift); its sum. */
static inline float exponentials(float *row, int64_t count, float shift) {
    vector sums = {0};
    float total = 0.0f;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        vector value = exponential(*(vector *)(row + i) - shift);
        *(vector *)(row + i) = value;
        sums += value;
    }
    for (int lane = 0; lane < LANES; lane++) total += sums[lane];
    for (; i < count; i++) {
        row[i] = one_exponential(row[i] - shift);
        total += row[i];
    }
    return total;
}
