// The running block: its threads and the order they run in, barriers, warp operations, shared memory.
#pragma once

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
constexpr int warpSize = 32;

#if !defined(__SANITIZE_ADDRESS__)
// the linker's names for the ends of the section that holds all __shared__ variables; null without any
extern char __start_gpuseg_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_gpuseg_shared[] __attribute__((weak, visibility("hidden")));
#endif

namespace gpuseg_emulator {

enum Order { forward = 0, reverse = 1, shuffled = 2 };
enum class State : unsigned char { ready, at_block_barrier, at_warp_operation, returned };

// the compiler mostly keeps one copy of equal literals, so that the pointers decide
inline bool equal(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }

struct Call {  // one place in the source that calls a barrier or a warp operation
  const char* name;
  const char* file;
  int line;
  bool operator==(const Call& other) const {
    return line == other.line && equal(name, other.name) && equal(file, other.file);
  }
};

struct Lane {  // what a thread brings to a warp operation, and what it takes from it
  unsigned mask;
  int source;  // the lane whose value it wants; -1: none
  bool vote;
  unsigned ballot;  // the votes of all lanes of the mask
  alignas(16) unsigned char value[16];
  alignas(16) unsigned char received[16];
};

struct Thread {
  uint3 index;
  State state;
  Fiber* fiber;
  Call call;  // where it waits
  Lane lane;
};

class Block {
 public:
  void configure(void (*kernel)(void**), void** arguments, dim3 size, size_t shared_bytes, Order order);
  void run();  // `fault` says what went wrong, if anything
  void finish();

  int wait(bool predicate, Call call);  // at the block's barrier; how many threads brought a true predicate
  Lane& exchange(unsigned mask, int source, bool vote, const void* value, size_t bytes, Call call);
  unsigned lane_index() const { return static_cast<unsigned>(current_ - threads_.data()) & 31u; }

  void arrange(std::vector<unsigned>& sequence);

  char* dynamic_shared = nullptr;
  std::string fault;

 private:
  static void live();
  void suspend(Fiber& running);
  Fiber& next();
  Fiber& unused_fiber();
  bool release();
  bool release_warps();
  bool release_block();
  void complete(Thread* warp, unsigned mask);
  void fail(const std::string& what) {
    if (fault.empty()) fault = what + ": " + whereabouts();
  }
  std::string whereabouts() const;
  void fill_shared();

  void (*kernel_)(void**) = nullptr;
  void** arguments_ = nullptr;
  size_t shared_bytes_ = 0;
  Order order_ = forward;
  unsigned seed_ = 0;

  std::vector<Thread> threads_;
  std::vector<unsigned> sequence_;   // the order that threads run in until the next release
  size_t started_ = 0, cursor_ = 0;  // how far along the sequence threads were started, were resumed
  size_t waiting_ = 0, in_warp_operation_ = 0, returned_ = 0;
  int votes_ = 0, counted_ = 0;  // true predicates at the block's barrier: so far, and of the last one
  Thread* current_ = nullptr;

  Fiber host_;
  Fiber* running_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
};

static Block block;

inline void Block::configure(void (*kernel)(void**), void** arguments, dim3 size, size_t shared_bytes,
                             Order order) {
  kernel_ = kernel;
  arguments_ = arguments;
  order_ = order;
  seed_ = 2021;
  fault.clear();
  shared_bytes_ = shared_bytes;
  // no byte more than asked for: the sanitizer guards the ends
  dynamic_shared = static_cast<char*>(std::malloc(shared_bytes));
  threads_.assign(size_t(size.x) * size.y * size.z, Thread{});
  for (unsigned i = 0; i < threads_.size(); ++i)
    threads_[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
  sequence_.resize(threads_.size());
  arrange(sequence_);
}

inline void Block::finish() {
  std::free(dynamic_shared);
  dynamic_shared = nullptr;
}

inline void Block::arrange(std::vector<unsigned>& sequence) {
  const unsigned n = static_cast<unsigned>(sequence.size());
  for (unsigned i = 0; i < n; ++i) sequence[i] = order_ == reverse ? n - 1 - i : i;
  for (unsigned i = n; order_ == shuffled && i > 1; --i) {
    // the generator of Numerical Recipes: every run has the same shuffles
    seed_ = seed_ * 1664525u + 1013904223u;
    std::swap(sequence[i - 1], sequence[(uint64_t(seed_) * i) >> 32]);
  }
}

// Bytes of 0xFF are a NaN, or -1 as an integer: reading shared memory before it is written will show.
inline void Block::fill_shared() {
  if (shared_bytes_) std::memset(dynamic_shared, 0xFF, shared_bytes_);
#if !defined(__SANITIZE_ADDRESS__)
  const size_t bytes = static_cast<size_t>(__stop_gpuseg_shared - __start_gpuseg_shared);
  if (bytes) std::memset(__start_gpuseg_shared, 0xFF, bytes);
#endif
}

inline void Block::run() {
  fill_shared();
  started_ = waiting_ = in_warp_operation_ = returned_ = 0;
  votes_ = 0;
  cursor_ = threads_.size();
  if (order_ == shuffled) arrange(sequence_);
  running_ = &host_;
  suspend(host_);
  if (fault.empty()) return;
  idle_.clear();  // some fibers stopped inside the kernel and can never be used again
  fibers_.clear();
}

// The life of a fiber: it takes thread after thread. So a kernel without barriers runs as a plain loop on one
// fiber. Only a thread that waits keeps its fiber to itself, and another goes on with the threads to come.
inline void Block::live() {
  Fiber::arrive();
  Fiber& self = *block.running_;
  for (;;) {
    while (block.started_ < block.threads_.size()) {
      Thread& thread = block.threads_[block.sequence_[block.started_++]];
      block.current_ = &thread;
      thread.fiber = &self;
      thread.state = State::ready;
      threadIdx = thread.index;
      block.kernel_(block.arguments_);
      thread.state = State::returned;
      ++block.returned_;
    }
    block.idle_.push_back(&self);
    block.suspend(self);
  }
}

inline void Block::suspend(Fiber& running) {
  Fiber& chosen = next();
  if (&chosen == &running) return;
  running_ = &chosen;
  Fiber::enter(running, chosen);
}

inline Fiber& Block::unused_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(&Block::live));
    return *fibers_.back();
  }
  Fiber& fiber = *idle_.back();
  idle_.pop_back();
  return fiber;
}

// Who runs now: first the threads not started yet, then those that a barrier let go, else the host.
inline Fiber& Block::next() {
  if (!fault.empty()) return host_;
  if (started_ < threads_.size()) return unused_fiber();
  do {
    while (cursor_ < threads_.size()) {
      Thread& thread = threads_[sequence_[cursor_++]];
      if (thread.state != State::ready) continue;
      current_ = &thread;
      threadIdx = thread.index;
      return *thread.fiber;
    }
  } while (release());
  return host_;
}

// All threads have waited or returned: let go whoever has waited for long enough.
inline bool Block::release() {
  if (!release_warps() && !release_block()) return false;
  cursor_ = 0;
  if (order_ == shuffled) arrange(sequence_);
  return true;
}

inline bool Block::release_block() {
  if (returned_ == threads_.size()) return false;
  bool together = waiting_ == threads_.size();
  for (const Thread& thread : threads_) together = together && thread.call == threads_[0].call;
  if (!together) {
    fail(in_warp_operation_ ? "a warp operation that its mask's lanes do not all reach"
                            : "a divergent barrier");
    return false;
  }
  counted_ = votes_;
  votes_ = 0;
  waiting_ = 0;
  for (Thread& thread : threads_) thread.state = State::ready;
  return true;
}

inline bool Block::release_warps() {
  if (!in_warp_operation_) return false;
  bool any = false;
  for (size_t first = 0; first < threads_.size(); first += 32) {
    Thread* warp = &threads_[first];
    const unsigned lanes = static_cast<unsigned>(threads_.size() - first < 32 ? threads_.size() - first : 32);
    for (unsigned lane = 0; lane < lanes; ++lane) {
      if (warp[lane].state != State::at_warp_operation) continue;
      const unsigned mask = warp[lane].lane.mask;
      bool here = true;
      for (unsigned other = 0; here && other < lanes; ++other)
        if (mask >> other & 1u)
          here = warp[other].state == State::at_warp_operation && warp[other].lane.mask == mask;
      if (!here) continue;
      complete(warp, lanes == 32 ? mask : mask & ((1u << lanes) - 1u));
      any = true;
    }
  }
  return any && fault.empty();
}

// All lanes of a mask are there: hand round what they brought. A lane outside the mask has brought nothing,
// and CUDA leaves open what is read from it: the reader gets bytes of 0xFF.
inline void Block::complete(Thread* warp, unsigned mask) {
  unsigned ballot = 0, first = 32;
  for (unsigned lane = 32; lane-- > 0;)
    if (mask >> lane & 1u) {
      ballot |= unsigned(warp[lane].lane.vote) << lane;
      first = lane;
    }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    if (!equal(warp[lane].call.name, warp[first].call.name))
      fail("lanes of one mask in different warp operations");
    Lane& mine = warp[lane].lane;
    mine.ballot = ballot;
    const bool brought = mine.source >= 0 && (mask >> mine.source & 1u);
    if (brought)
      std::memcpy(mine.received, warp[mine.source].lane.value, sizeof mine.received);
    else
      std::memset(mine.received, 0xFF, sizeof mine.received);
  }
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1u) {
      warp[lane].state = State::ready;
      --in_warp_operation_;
    }
}

inline int Block::wait(bool predicate, Call call) {
  Thread& self = *current_;
  self.state = State::at_block_barrier;
  self.call = call;
  votes_ += predicate;
  ++waiting_;
  suspend(*self.fiber);
  return counted_;
}

inline Lane& Block::exchange(unsigned mask, int source, bool vote, const void* value, size_t bytes,
                             Call call) {
  Thread& self = *current_;
  self.state = State::at_warp_operation;
  self.call = call;
  self.lane.mask = mask;
  self.lane.source = source;
  self.lane.vote = vote;
  if (bytes) std::memcpy(self.lane.value, value, bytes);
  ++in_warp_operation_;
  if (!(mask >> lane_index() & 1u)) fail("a thread is not in the mask that it calls with");
  suspend(*self.fiber);
  return self.lane;
}

inline std::string Block::whereabouts() const {
  struct Group {
    Call call;
    size_t threads;
  };
  std::vector<Group> groups;
  for (const Thread& thread : threads_) {
    if (thread.state != State::at_block_barrier && thread.state != State::at_warp_operation) continue;
    size_t g = 0;
    while (g < groups.size() && !(groups[g].call == thread.call)) ++g;
    if (g == groups.size()) groups.push_back({thread.call, 0});
    ++groups[g].threads;
  }
  std::string text = "in block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                     std::to_string(blockIdx.z) + "), of " + std::to_string(threads_.size()) + " threads, " +
                     std::to_string(returned_) + " have returned";
  for (const Group& group : groups)
    text += ", " + std::to_string(group.threads) + " wait in " + group.call.name + " (" + group.call.file +
            ":" + std::to_string(group.call.line) + ")";
  return text;
}

}  // namespace gpuseg_emulator
