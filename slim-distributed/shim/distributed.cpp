// libtorch's distributed engine, c10d, as plain functions: its store, its process groups and the
// reducer of DistributedDataParallel. No exception leaves this file: a function returns null, or
// the reason why it failed, to be freed by `slim_free_text`.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef USE_C10D_NCCL
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <torch/csrc/utils/tensor_flatten.h>

#include <cstring>
#include <limits>
#include <map>

using at::Tensor;
using GroupPtr = c10::intrusive_ptr<c10d::ProcessGroup>;

namespace {

struct SlimStore {
  c10::intrusive_ptr<c10d::Store> store;
};

struct SlimGroup {
  GroupPtr group;
};

struct SlimReducer {
  std::shared_ptr<c10d::Reducer> reducer;
  std::shared_ptr<c10d::Logger> logger; // behind the reducer, so that it is destroyed first
  std::vector<Tensor> parameters;
  // The nodes that carry the reducer's hooks. A parameter whose memory was replaced has another.
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators;
};

template <class Body>
char* guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("an exception of an unknown kind");
  }
}

// Without their history: they share memory, so collectives in place write through.
std::vector<Tensor> detached(Tensor* const* tensors, size_t count) {
  std::vector<Tensor> all;
  for (size_t i = 0; i < count; i++) {
    all.push_back(tensors[i]->detach());
  }
  return all;
}

void all_reduce(const GroupPtr& group, const Tensor& tensor, c10d::ReduceOp op) {
  std::vector<Tensor> one{tensor};
  c10d::AllreduceOptions options;
  options.reduceOp = std::move(op);
  group->allreduce(one, options)->wait();
}

// The sum over all processes. Its gradient is summed over them, too, and so is that one's.
struct Sum : torch::autograd::Function<Sum> {
  static Tensor forward(torch::autograd::AutogradContext* context, Tensor tensor, GroupPtr group) {
    context->saved_data["group"] = c10::IValue::make_capsule(group);
    auto total = tensor.contiguous().clone();
    all_reduce(group, total, c10d::ReduceOp::SUM);
    return total;
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    auto group = c10::static_intrusive_pointer_cast<c10d::ProcessGroup>(
        context->saved_data["group"].toCapsule());
    return {apply(gradients[0], group), Tensor()};
  }
};

} // namespace

extern "C" {

void slim_free_text(char* text) { free(text); }

char* slim_store_new(
    const char* host, int port, bool is_server, int64_t timeout_ms, SlimStore** out) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = is_server;
    options.multiTenant = is_server;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new SlimStore{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

void slim_store_free(SlimStore* store) { delete store; }

char* slim_store_set(SlimStore* store, const char* key, const char* value) {
  return guarded([&] { store->store->set(key, std::string(value)); });
}

// Null in `*out` while the store has no such key.
char* slim_store_get(SlimStore* store, const char* key, char** out) {
  return guarded([&] {
    *out = nullptr;
    if (store->store->check({key})) {
      auto value = store->store->get_to_str(key);
      *out = strdup(value.c_str());
    }
  });
}

// `device` is the index of the GPU for NCCL, or -1.
char* slim_group_new(
    SlimStore* store, const char* prefix, int rank, int world_size, int64_t timeout_ms, int device,
    SlimGroup** out) {
  return guarded([&] {
    auto keys = c10::make_intrusive<c10d::PrefixStore>(prefix, store->store);
    auto timeout = std::chrono::milliseconds(timeout_ms);
    auto group = c10::make_intrusive<c10d::ProcessGroup>(keys, rank, world_size);
    auto options = c10d::ProcessGroupGloo::Options::create_default(timeout);
    group->setBackend(
        at::kCPU, c10d::ProcessGroup::GLOO,
        c10::make_intrusive<c10d::ProcessGroupGloo>(keys, rank, world_size, options));
    group->setDefaultBackend(c10d::ProcessGroup::GLOO);
    if (device >= 0) {
#ifdef USE_C10D_NCCL
      c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
      auto nccl = c10d::ProcessGroupNCCL::Options::create();
      nccl->timeout = timeout;
      group->setBackend(
          at::kCUDA, c10d::ProcessGroup::NCCL,
          c10::make_intrusive<c10d::ProcessGroupNCCL>(keys, rank, world_size, nccl));
      group->setDefaultBackend(c10d::ProcessGroup::NCCL);
#else
      TORCH_CHECK(false, "slim-distributed was built without its feature `nccl`");
#endif
    }
    group->setGroupName("slim");
    *out = new SlimGroup{group};
  });
}

void slim_group_free(SlimGroup* group) { delete group; }

char* slim_barrier(SlimGroup* group) {
  return guarded([&] { group->group->barrier()->wait(); });
}

char* slim_broadcast(SlimGroup* group, Tensor* const* tensors, size_t count, int root) {
  return guarded([&] {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    for (auto& tensor : detached(tensors, count)) {
      std::vector<Tensor> one{tensor.contiguous()};
      group->group->broadcast(one, options)->wait();
      if (!one[0].is_same(tensor)) {
        tensor.copy_(one[0]);
      }
    }
  });
}

// In place. One buffer for each kind and device of tensors, so that there are few messages.
char* slim_all_reduce(
    SlimGroup* group, Tensor* const* tensors, size_t count, int op, double scale) {
  return guarded([&] {
    const c10d::ReduceOp::RedOpType ops[] = {
        c10d::ReduceOp::SUM, c10d::ReduceOp::MIN, c10d::ReduceOp::MAX};
    std::map<std::pair<at::ScalarType, c10::DeviceType>, std::vector<Tensor>> kinds;
    for (auto& tensor : detached(tensors, count)) {
      kinds[{tensor.scalar_type(), tensor.device().type()}].push_back(tensor);
    }
    for (auto& [kind, all] : kinds) {
      auto flat = torch::utils::flatten_dense_tensors(all);
      if (scale != 1) {
        flat.mul_(scale); // before the sum, which may be too large for half precision
      }
      all_reduce(group->group, flat, ops[op]);
      auto parts = torch::utils::unflatten_dense_tensors(flat, all);
      for (size_t i = 0; i < all.size(); i++) {
        all[i].copy_(parts[i]);
      }
    }
  });
}

// Into `count` tensors, one of each process.
char* slim_all_gather(SlimGroup* group, Tensor* tensor, Tensor* const* out, size_t count) {
  return guarded([&] {
    std::vector<std::vector<Tensor>> all{detached(out, count)};
    std::vector<Tensor> own{tensor->detach().contiguous()};
    group->group->allgather(all, own)->wait();
  });
}

char* slim_sum(SlimGroup* group, Tensor* tensor, Tensor** out) {
  return guarded([&] { *out = new Tensor(Sum::apply(*tensor, group->group)); });
}

char* slim_reducer_new(
    SlimGroup* group, Tensor* const* parameters, size_t count, int64_t bucket_bytes,
    bool find_unused, SlimReducer** out) {
  return guarded([&] {
    std::vector<Tensor> all;
    for (size_t i = 0; i < count; i++) {
      all.push_back(*parameters[i]);
    }
    c10d::verify_params_across_processes(group->group, all, {});
    // As DistributedDataParallel has it: one bucket in the first step, after which buckets follow
    // the order in which gradients came. With unused parameters, no order is learned.
    std::vector<size_t> limits{
        find_unused ? static_cast<size_t>(bucket_bytes) : std::numeric_limits<size_t>::max()};
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(all, limits));
    std::reverse(buckets.begin(), buckets.end());
    auto reducer = std::make_shared<c10d::Reducer>(
        all, buckets, group->group, std::vector<bool>(count), bucket_bytes, find_unused,
        /*gradient_as_bucket_view=*/false, std::unordered_map<size_t, std::string>(),
        c10d::kDefaultFirstBucketBytes, /*skip_all_reduce_unused_params=*/false,
        /*use_python_reducer=*/false, std::vector<int64_t>());
    auto logger = std::make_shared<c10d::Logger>(reducer);
    reducer->set_logger(logger);
    logger->set_construction_data_and_log("slim", {}, -1, false, false, false);
    std::vector<std::shared_ptr<torch::autograd::Node>> accumulators;
    for (auto& parameter : all) {
      accumulators.push_back(torch::autograd::impl::grad_accumulator(parameter));
    }
    *out = new SlimReducer{reducer, logger, std::move(all), std::move(accumulators)};
  });
}

void slim_reducer_free(SlimReducer* reducer) {
  free(guarded([&] { reducer->reducer->remove_autograd_hooks(); }));
  free(guarded([&] { delete reducer; }));
}

// The first parameter whose gradients no longer come to the reducer; how many there are, if all do.
char* slim_reducer_lost(SlimReducer* reducer, size_t* out) {
  return guarded([&] {
    auto& all = reducer->parameters;
    for (*out = 0; *out < all.size(); ++*out) {
      auto accumulator = torch::autograd::impl::try_get_grad_accumulator(all[*out]);
      if (accumulator != reducer->accumulators[*out]) {
        return;
      }
    }
  });
}

char* slim_reducer_before_forward(SlimReducer* reducer) {
  return guarded([&] {
    reducer->logger->set_runtime_stats_and_log();
    reducer->reducer->prepare_for_forward();
    reducer->reducer->rebuild_buckets();
  });
}

// `output` is searched for the parameters that it depends on; null where all of them are used.
char* slim_reducer_before_backward(SlimReducer* reducer, Tensor* output) {
  return guarded([&] {
    std::vector<Tensor> outputs;
    if (output) {
      outputs.push_back(*output);
    }
    reducer->reducer->prepare_for_backward(outputs);
  });
}

// Nanoseconds of the computation of backward, of its communication and of the overlap of both; the
// number of buckets.
char* slim_reducer_times(SlimReducer* reducer, int64_t* out) {
  return guarded([&] {
    auto data = reducer->logger->get_ddp_logging_data();
    out[0] = data.ints_map["avg_backward_compute_time"];
    out[1] = data.ints_map["avg_backward_comm_time"];
    out[2] = data.ints_map["avg_backward_compute_comm_overlap_time"];
    out[3] = static_cast<int64_t>(reducer->logger->get_bucket_sizes().size());
  });
}

} // extern "C"
