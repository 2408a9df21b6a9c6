// CUDA C++ on the CPU: what a kernel of gpuseg sees when g++ compiles it instead of NVRTC.
//
//   vectors.h      dim3, float2, int4, ... and their make_ functions
//   fibers.h       a stack that can be left and entered again: what a CUDA thread becomes
//   block.h        the threads of a block, their barriers, warp operations and shared memory
//   intrinsics.h   __syncthreads, shuffles, atomics, the mathematics that C++ lacks
//   launch.h       the grid, the arguments, and the two functions that Python calls
//
// One block runs at a time and in it one thread at a time, so nothing here needs a lock and every run repeats
// bit for bit. A thread runs until it meets a barrier; the order in which threads and blocks run is a choice
// (forward, reverse, shuffled), and a kernel that lacks a barrier gives different numbers in different
// orders.
#pragma once
#include <cfloat>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "vectors.h"
#include "fibers.h"
#include "block.h"
#include "intrinsics.h"
#include "launch.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))

// A static is shared memory, since one block runs at a time. In a section of its own it can be filled before
// each block; under the address sanitizer it must stay an ordinary static, which has guard zones around it.
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
#define __shared__ static __attribute__((section("gpuseg_shared")))
#endif
#define SHARED_MEMORY(type, name) type* name = reinterpret_cast<type*>(gpuseg_emulator::block.dynamic_shared)
