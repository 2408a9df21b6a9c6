// CUDA's vector types, with CUDA's alignments: the sanitizer reports a float4 that is read off its 16 bytes.
#pragma once

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

namespace gpuseg_emulator {
constexpr unsigned at_most_16(unsigned bytes) { return bytes < 16 ? bytes : 16; }
}  // namespace gpuseg_emulator

#define GPUSEG_VECTORS_2_AND_4(name, type)                                                    \
  struct alignas(gpuseg_emulator::at_most_16(2 * sizeof(type))) name##2 { type x, y; };       \
  struct alignas(gpuseg_emulator::at_most_16(4 * sizeof(type))) name##4 { type x, y, z, w; }; \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                            \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
#define GPUSEG_VECTORS(name, type)   \
  GPUSEG_VECTORS_2_AND_4(name, type) \
  struct name##3 { type x, y, z; };  \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }

GPUSEG_VECTORS(char, signed char)
GPUSEG_VECTORS(uchar, unsigned char)
GPUSEG_VECTORS(short, short)
GPUSEG_VECTORS(ushort, unsigned short)
GPUSEG_VECTORS(int, int)
GPUSEG_VECTORS_2_AND_4(uint, unsigned)
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
GPUSEG_VECTORS(longlong, long long)
GPUSEG_VECTORS(ulonglong, unsigned long long)
GPUSEG_VECTORS(float, float)
GPUSEG_VECTORS(double, double)
#undef GPUSEG_VECTORS
#undef GPUSEG_VECTORS_2_AND_4
