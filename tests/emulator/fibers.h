// A fiber: a stack of its own, left and entered by hand. A thread that waits at a barrier is one that was
// left.
#pragma once
#include <sys/mman.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// ucontext makes two system calls per switch, which would be most of a kernel's run time; so the switch is
// written out where it was tried. It saves the registers that the System V ABI lets a callee own.
#if defined(__x86_64__) && !defined(GPUSEG_UCONTEXT)
#define GPUSEG_FAST_SWITCH 1
extern "C" void gpuseg_switch_stack(void** save, void* load);
asm(R"(
.text
.local gpuseg_switch_stack
.type gpuseg_switch_stack, @function
gpuseg_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size gpuseg_switch_stack, . - gpuseg_switch_stack
)");
#else
#include <ucontext.h>
#endif

namespace gpuseg_emulator {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t stack_bytes = 256 << 10;  // instrumented frames are larger
#else
constexpr size_t stack_bytes = 64 << 10;
#endif

class Fiber {
 public:
  Fiber() = default;  // the stack that the launch came in on
  explicit Fiber(void (*entry)()) {
    make_stack();
    prepare(entry);
  }
  Fiber(const Fiber&) = delete;
  ~Fiber() {
    if (!mapping_) return;
#if defined(__SANITIZE_ADDRESS__)
    // a kernel left in the middle leaves its guard zones behind
    __asan_unpoison_memory_region(stack_, stack_size_);
#endif
    munmap(mapping_, mapping_bytes_);
  }

  // Leave the running fiber and enter `next`; returns when something enters `running` again.
  static void enter(Fiber& running, Fiber& next) {
    left_ = &running;
    entered_ = &next;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&running.fake_stack_, next.stack_, next.stack_size_);
#endif
#if defined(GPUSEG_FAST_SWITCH)
    gpuseg_switch_stack(&running.stack_pointer_, next.stack_pointer_);
#else
    swapcontext(&running.context_, &next.context_);
#endif
    arrive();
  }

  // To be called first in a new fiber.
  static void arrive() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(entered_->fake_stack_, &left_->stack_, &left_->stack_size_);
#endif
  }

 private:
  void make_stack() {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    mapping_bytes_ = stack_bytes + 2 * page;  // a guard page below; a page above for the offset of the top
    void* memory = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("gpuseg emulator: no memory for a stack");
      std::abort();
    }
    mapping_ = static_cast<char*>(memory);
    mprotect(mapping_, page, PROT_NONE);
    // stacks that all begin at the same place in a page would crowd the same lines of the first-level cache
    static unsigned stacks = 0;
    stack_ = mapping_ + page;
    stack_size_ = stack_bytes + (stacks++ * 320u) % page / 64u * 64u;
  }

#if defined(GPUSEG_FAST_SWITCH)
  void prepare(void (*entry)()) {
    void** top = reinterpret_cast<void**>(const_cast<char*>(static_cast<const char*>(stack_)) + stack_size_);
    *--top = nullptr;                         // where entry would return to; it never does
    *--top = reinterpret_cast<void*>(entry);  // where `ret` goes
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    stack_pointer_ = top;
  }
  void* stack_pointer_ = nullptr;
#else
  void prepare(void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = const_cast<void*>(stack_);
    context_.uc_stack.ss_size = stack_size_;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
  }
  ucontext_t context_;
#endif

  char* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  const void* stack_ = nullptr;
  size_t stack_size_ = 0;
  void* fake_stack_ = nullptr;
  static inline Fiber *left_ = nullptr, *entered_ = nullptr;
};

}  // namespace gpuseg_emulator
