// A launch: the grid's blocks one after the other, and what Python calls.
#pragma once

namespace gpuseg_emulator {

struct Kernel {
  std::string description;  // name, largest block (0: not said), one code per parameter; see arguments.py
  void (*run)(void** arguments);
};

// "f4" a float, "u1" an unsigned char, "b1" a bool, "V8" a structure of 8 bytes; "*f4", "*cf4": pointers
template <class T>
std::string code() {
  if constexpr (std::is_pointer<T>::value) {
    using Pointed = std::remove_pointer_t<T>;
    const std::string mark = std::is_const<Pointed>::value ? "*c" : "*";
    if constexpr (std::is_void<Pointed>::value)
      return mark + "V1";
    else
      return mark + code<std::remove_cv_t<Pointed>>();
  } else {
    const char kind = std::is_same<T, bool>::value       ? 'b'
                      : std::is_floating_point<T>::value ? 'f'
                      : !std::is_integral<T>::value      ? 'V'
                      : std::is_signed<T>::value         ? 'i'
                                                         : 'u';
    return kind + std::to_string(sizeof(T));
  }
}

template <auto function>
struct Signature;
template <class... Parameters, void (*function)(Parameters...)>
struct Signature<function> {
  static std::string parameters() {
    return (std::string() + ... + (" " + code<std::remove_cv_t<Parameters>>()));
  }
  static void run(void** arguments) { run(arguments, std::index_sequence_for<Parameters...>{}); }

 private:
  template <size_t... i>
  static void run([[maybe_unused]] void** arguments, std::index_sequence<i...>) {
    function(*static_cast<std::remove_reference_t<Parameters>*>(arguments[i])...);
  }
};

template <auto function>
Kernel kernel(const char* name, int largest_block) {
  return {std::string(name) + "\t" + std::to_string(largest_block) + "\t" +
              Signature<function>::parameters() + "\n",
          &Signature<function>::run};
}

inline void launch(const Kernel& kernel, const unsigned* grid, const unsigned* size, size_t shared_bytes,
                   Order order, void** arguments) {
  gridDim = dim3(grid[0], grid[1], grid[2]);
  blockDim = dim3(size[0], size[1], size[2]);
  block.configure(kernel.run, arguments, blockDim, shared_bytes, order);
  std::vector<unsigned> blocks(size_t(grid[0]) * grid[1] * grid[2]);
  block.arrange(blocks);
  for (const unsigned i : blocks) {
    blockIdx = {i % grid[0], i / grid[0] % grid[1], i / grid[0] / grid[1]};
    block.run();
    if (!block.fault.empty()) break;
  }
  block.finish();
}

}  // namespace gpuseg_emulator

// The list of the module's kernels, which Python writes below the source.
#define GPUSEG_KERNELS(...)                                                                       \
  static const std::vector<gpuseg_emulator::Kernel>& gpuseg_kernels() {                           \
    static const std::vector<gpuseg_emulator::Kernel> list = {__VA_ARGS__};                       \
    return list;                                                                                  \
  }                                                                                               \
  extern "C" __attribute__((visibility("default"))) const char* gpuseg_describe() {               \
    static std::string text;                                                                      \
    text.clear();                                                                                 \
    for (const auto& kernel : gpuseg_kernels()) text += kernel.description;                       \
    return text.c_str();                                                                          \
  }                                                                                               \
  extern "C" __attribute__((visibility("default"))) const char* gpuseg_launch(                    \
      int kernel, const unsigned* grid, const unsigned* block, size_t shared_bytes, int order,    \
      void** arguments) {                                                                         \
    gpuseg_emulator::launch(gpuseg_kernels()[kernel], grid, block, shared_bytes,                  \
                            gpuseg_emulator::Order(order), arguments);                            \
    return gpuseg_emulator::block.fault.empty() ? nullptr : gpuseg_emulator::block.fault.c_str(); \
  }
