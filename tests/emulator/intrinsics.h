// What CUDA C++ has and C++ has not: barriers, warp operations, atomics, bits, and some mathematics.
//
// Every thread of the block runs alone, so an atomic operation is the plain one and a fence is nothing.
#pragma once

// the place of the call, not of this line: compilers evaluate these where the default is used
#define GPUSEG_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(GPUSEG_PLACE) { gpuseg_emulator::block.wait(false, {"__syncthreads", file, line}); }
inline int __syncthreads_count(int predicate, GPUSEG_PLACE) {
  return gpuseg_emulator::block.wait(predicate != 0, {"__syncthreads_count", file, line});
}
inline int __syncthreads_or(int predicate, GPUSEG_PLACE) {
  return gpuseg_emulator::block.wait(predicate != 0, {"__syncthreads_or", file, line}) != 0;
}
inline int __syncthreads_and(int predicate, GPUSEG_PLACE) {
  return gpuseg_emulator::block.wait(predicate == 0, {"__syncthreads_and", file, line}) == 0;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

inline void __syncwarp(unsigned mask = ~0u, GPUSEG_PLACE) {
  gpuseg_emulator::block.exchange(mask, -1, false, nullptr, 0, {"__syncwarp", file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, GPUSEG_PLACE) {
  return gpuseg_emulator::block.exchange(mask, -1, predicate != 0, nullptr, 0, {"__ballot_sync", file, line})
      .ballot;
}
inline int __any_sync(unsigned mask, int predicate, GPUSEG_PLACE) {
  return gpuseg_emulator::block.exchange(mask, -1, predicate != 0, nullptr, 0, {"__any_sync", file, line})
             .ballot != 0;
}
inline int __all_sync(unsigned mask, int predicate, GPUSEG_PLACE) {
  return gpuseg_emulator::block.exchange(mask, -1, predicate == 0, nullptr, 0, {"__all_sync", file, line})
             .ballot == 0;
}

namespace gpuseg_emulator {
template <class T>
T shuffle(unsigned mask, T value, int source, Call call) {
  static_assert(std::is_arithmetic<T>::value, "CUDA shuffles numbers only");
  const Lane& lane = block.exchange(mask, source, false, &value, sizeof value, call);
  std::memcpy(&value, lane.received, sizeof value);
  return value;
}
// lanes are taken `width` at a time; beyond the end of its group a lane reads itself
inline int up(int lane, int delta, int width) { return lane % width >= delta ? lane - delta : lane; }
inline int down(int lane, int delta, int width) { return lane % width + delta < width ? lane + delta : lane; }
inline int across(int lane, int pattern, int width) {
  return (lane ^ pattern) < lane / width * width + width ? lane ^ pattern : lane;
}
inline int at(int lane, int source, int width) { return lane / width * width + (source & (width - 1)); }
inline int lane() { return static_cast<int>(block.lane_index()); }
}  // namespace gpuseg_emulator

#define GPUSEG_SHUFFLE(name, source, type_of_which, which)                                               \
  template <class T>                                                                                     \
  T name(unsigned mask, T value, type_of_which which, int width = 32, GPUSEG_PLACE) {                    \
    return gpuseg_emulator::shuffle(mask, value,                                                         \
                                    gpuseg_emulator::source(gpuseg_emulator::lane(), int(which), width), \
                                    {#name, file, line});                                                \
  }
GPUSEG_SHUFFLE(__shfl_sync, at, int, lane)
GPUSEG_SHUFFLE(__shfl_up_sync, up, unsigned, delta)
GPUSEG_SHUFFLE(__shfl_down_sync, down, unsigned, delta)
GPUSEG_SHUFFLE(__shfl_xor_sync, across, int, pattern)
#undef GPUSEG_SHUFFLE
#undef GPUSEG_PLACE

#define GPUSEG_ATOMIC(name, result)             \
  template <class T, class U>                   \
  T name(T* address, U value) {                 \
    const T old = *address, operand = T(value); \
    *address = T(result);                       \
    return old;                                 \
  }
GPUSEG_ATOMIC(atomicAdd, old + operand)
GPUSEG_ATOMIC(atomicSub, old - operand)
GPUSEG_ATOMIC(atomicMin, operand < old ? operand : old)
GPUSEG_ATOMIC(atomicMax, operand > old ? operand : old)
GPUSEG_ATOMIC(atomicExch, operand)
GPUSEG_ATOMIC(atomicAnd, old& operand)
GPUSEG_ATOMIC(atomicOr, old | operand)
GPUSEG_ATOMIC(atomicXor, old ^ operand)
#undef GPUSEG_ATOMIC
template <class T, class U, class V>
T atomicCAS(T* address, U expected, V value) {
  const T old = *address;
  if (old == T(expected)) *address = T(value);
  return old;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T, class U>
void __stcs(T* address, U value) {
  *address = value;
}
template <class T, class U>
void __stcg(T* address, U value) {
  *address = value;
}

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(unsigned v) { return v ? __builtin_clz(v) : 32; }
inline int __clzll(unsigned long long v) { return v ? __builtin_clzll(v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline unsigned __brev(unsigned v) {
  unsigned r = 0;
  for (int bit = 0; bit < 32; ++bit) r |= (v >> bit & 1u) << (31 - bit);
  return r;
}

namespace gpuseg_emulator {
template <class To, class From>
To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}
}  // namespace gpuseg_emulator
inline int __float_as_int(float v) { return gpuseg_emulator::bits<int>(v); }
inline unsigned __float_as_uint(float v) { return gpuseg_emulator::bits<unsigned>(v); }
inline float __int_as_float(int v) { return gpuseg_emulator::bits<float>(v); }
inline float __uint_as_float(unsigned v) { return gpuseg_emulator::bits<float>(v); }
inline long long __double_as_longlong(double v) { return gpuseg_emulator::bits<long long>(v); }
inline double __longlong_as_double(long long v) { return gpuseg_emulator::bits<double>(v); }

// of a number and a NaN both give the number, as CUDA's do
template <class A, class B>
typename std::common_type<A, B>::type min(A a_, B b_) {
  const typename std::common_type<A, B>::type a = a_, b = b_;
  return b < a || a != a ? b : a;
}
template <class A, class B>
typename std::common_type<A, B>::type max(A a_, B b_) {
  const typename std::common_type<A, B>::type a = a_, b = b_;
  return a < b || a != a ? b : a;
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline float sinpif(float x) { return float(sin(M_PI * double(x))); }
inline float cospif(float x) { return float(cos(M_PI * double(x))); }
inline double sinpi(double x) { return sin(M_PI * x); }
inline double cospi(double x) { return cos(M_PI * x); }
inline void sincospif(float x, float* s, float* c) {
  *s = sinpif(x);
  *c = cospif(x);
}
inline int __float2int_rn(float x) { return int(rintf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline int __float2int_rd(float x) { return int(floorf(x)); }
inline int __float2int_ru(float x) { return int(ceilf(x)); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline int __mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
