// The passes and the interpreter of libtorch's TorchScript, as plain functions. No exception leaves
// this file: a function that fails returns null and puts the reason into `*error`, to be freed by
// `slim_serve_free_text`.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/codegen/onednn/interface.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/freeze_module.h>
#include <torch/csrc/jit/passes/frozen_graph_optimizations.h>
#include <torch/csrc/jit/passes/frozen_ops_to_mkldnn.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/remove_mutation.h>
#include <torch/csrc/jit/runtime/interpreter.h>
#include <torch/csrc/jit/runtime/profiling_record.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstring>
#include <sstream>
#include <unordered_set>

using namespace torch::jit;

namespace {

using GraphPtr = std::shared_ptr<Graph>;

// A network whose weights are constants of its graphs, before anything is known of its input.
struct Network {
  GraphPtr traced;
  GraphPtr frozen; // the same, with batch norms folded
  std::string fixed_states;
};

// Immutable, so several threads may run it at once.
struct Program {
  Code code;
};

template <class T, class Body>
T* guarded(char** error, Body body) noexcept {
  try {
    return body();
  } catch (const c10::Error& e) {
    *error = strdup(e.what_without_backtrace());
  } catch (const std::exception& e) {
    *error = strdup(e.what());
  } catch (...) {
    *error = strdup("an exception of an unknown kind");
  }
  return nullptr;
}

Stack run_all(const Code& code, const at::Tensor& input) {
  at::NoGradGuard no_grad;
  // A thread learns the number of threads of `set_num_threads` at its first call of ATen, and
  // oneDNN's kernels make none.
  at::internal::lazy_init_num_threads();
  Stack stack{input.detach().contiguous()};
  InterpreterState(code).run(stack);
  return stack;
}

at::Tensor run(const Code& code, const at::Tensor& input) {
  return run_all(code, input).back().toTensor();
}

template <class Do>
void for_each_node(Block* block, Do apply) {
  for (Node* node : block->nodes()) {
    for (Block* inner : node->blocks()) {
      for_each_node(inner, apply);
    }
    apply(node);
  }
}

bool depends_on_input(Value* value, const Graph& graph, std::unordered_set<Value*>& seen) {
  if (value->node() == graph.param_node()) {
    return true;
  }
  for (Value* input : value->node()->inputs()) {
    if (seen.insert(input).second && depends_on_input(input, graph, seen)) {
      return true;
    }
  }
  return false;
}

// The first recurrent layer whose states do not follow the input, so that their batch is fixed.
// libtorch does not check their size, and would write beyond their memory.
std::string with_fixed_states(Graph& graph) {
  std::string found;
  for_each_node(graph.block(), [&](Node* node) {
    std::string kind = node->kind().toQualString();
    bool recurrent = kind == "aten::lstm" || kind == "aten::gru" || kind == "aten::rnn_tanh" ||
        kind == "aten::rnn_relu";
    std::unordered_set<Value*> seen;
    if (recurrent && found.empty() && !depends_on_input(node->input(1), graph, seen)) {
      found = kind;
    }
  });
  return found;
}

// The tensors of all constants, also of lists of tensors, such as the states of an LSTM.
std::vector<at::Tensor> constants(Graph& graph) {
  std::vector<at::Tensor> found;
  for_each_node(graph.block(), [&](Node* node) {
    auto value = node->kind() == prim::Constant ? toIValue(node->output()) : std::nullopt;
    if (value) {
      value->visit([&](const c10::IValue& part) {
        if (part.isTensor()) {
          found.push_back(part.toTensor());
        }
        return false;
      });
    }
  });
  return found;
}

bool same(Graph& one, Graph& other) {
  auto own = constants(one);
  auto others = constants(other);
  return one.toString(false) == other.toString(false) && own.size() == others.size() &&
      std::equal(own.begin(), own.end(), others.begin(), [](auto& a, auto& b) {
        return a.dtype() == b.dtype() && at::equal(a, b);
      });
}

// oneDNN Graph takes no pooling without strides, which are then the sides of the kernel.
void write_out_strides(Graph& graph) {
  for_each_node(graph.block(), [](Node* node) {
    if (node->kind() == aten::avg_pool2d || node->kind() == aten::max_pool2d) {
      auto strides = toIValue(node->input(2));
      if (strides && strides->isIntList() && strides->toIntVector().empty()) {
        node->replaceInput(2, node->input(1));
      }
    }
  });
}

// The nodes that average every channel over the whole image, and keep both dimensions.
std::vector<Node*> global_pools(Graph& graph) {
  std::vector<Node*> found;
  for_each_node(graph.block(), [&](Node* node) {
    if (node->kind() == aten::adaptive_avg_pool2d) {
      auto sides = toIValue(node->input(1));
      if (sides && sides->isIntList() && sides->toIntVector() == std::vector<int64_t>{1, 1}) {
        found.push_back(node);
      }
    }
  });
  return found;
}

// oneDNN Graph takes a pooling over sides that are written out, but not an adaptive one. In a
// squeeze-and-excitation block, that one would end the partition: the image would be reordered for
// it, and reordered again for the convolution behind the block.
void write_out_sides(Graph& graph, const at::Tensor& input) {
  GraphPtr sizes = graph.copy();
  auto pools = global_pools(*sizes);
  if (pools.empty()) {
    return;
  }
  while (!sizes->outputs().empty()) {
    sizes->eraseOutput(0);
  }
  for (Node* pool : pools) {
    sizes->registerOutput(pool->input(0));
  }
  EliminateDeadCode(sizes);
  auto images = run_all(Code(sizes, "sizes"), input);
  auto own = global_pools(graph);
  for (size_t i = 0; i < own.size(); i++) {
    auto image = images[i].toTensor().sizes();
    if (image.size() != 4) {
      continue;
    }
    Node* pool = own[i];
    WithInsertPoint here(pool);
    Value* sides = graph.insertConstant(std::vector<int64_t>{image[2], image[3]});
    Value* pads = graph.insertConstant(std::vector<int64_t>{0, 0});
    Value* no = graph.insertConstant(false);
    Value* none = graph.insertConstant(c10::IValue());
    Value* average = graph.insert(
        aten::avg_pool2d, {pool->input(0), sides, sides, pads, no, no, none});
    average->setType(pool->output()->type());
    pool->output()->replaceAllUsesWith(average);
    pool->destroy();
  }
}

GraphPtr channels_last(Graph& frozen) {
  GraphPtr graph = frozen.copy();
  for_each_node(graph->block(), [](Node* node) {
    if (node->kind() == aten::_convolution || node->kind() == aten::conv2d) {
      auto weight = toIValue(node->input(1));
      if (weight && weight->isTensor() && weight->toTensor().dim() == 4) {
        WithInsertPoint here(node);
        node->replaceInput(1, node->owningGraph()->insertConstant(
            weight->toTensor().contiguous(at::MemoryFormat::ChannelsLast)));
      }
    }
  });
  EliminateDeadCode(graph);
  return graph;
}

GraphPtr packed(Graph& frozen) {
  GraphPtr graph = frozen.copy();
  ConvertFrozenOpsToMKLDNN(graph);
  return graph;
}

// The fuser needs the shape of every value: it gets them from one run on the input. It is called
// here and not by the executor, so its switch, which is one for the process, stays as it is.
GraphPtr fused(Graph& frozen, const at::Tensor& input) {
  GraphPtr original = frozen.copy();
  write_out_sides(*original, input);
  auto profile = ProfilingRecord::instrumentGraph(original);
  run(Code(profile->graph(), "profile"), input);
  GraphPtr graph = profile->graph()->copy();
  ProfilingRecord::removeProfileCounter(graph->block());
  fuser::onednn::fuseGraph(graph);
  EliminateDeadCode(graph);
  return graph;
}

} // namespace

extern "C" {

Network* slim_serve_load(const char* bytes, size_t count, char** error) {
  return guarded<Network>(error, [&] {
    std::istringstream file(std::string(bytes, count));
    Module module = load(file);
    module.eval();
    freeze_module_inplace(&module);
    GraphPtr graph = module.get_method("forward").graph()->copy();
    Inline(*graph);
    TORCH_CHECK(graph->inputs().size() == 2, "it has ", graph->inputs().size() - 1,
        " inputs; a runner takes one tensor");
    TORCH_CHECK(graph->inputs()[0]->uses().empty(), "it changes its own attributes");
    graph->eraseInput(0);
    TORCH_CHECK(graph->outputs().size() == 1 &&
        graph->outputs()[0]->type()->isSubtypeOf(*TensorType::get()),
        "its output is no tensor; a runner returns one tensor");
    RemoveTensorMutation(graph);
    GraphPtr frozen = graph->copy();
    OptimizeFrozenGraph(frozen, /*optimize_numerics=*/true);
    write_out_strides(*frozen);
    return new Network{graph, frozen, with_fixed_states(*graph)};
  });
}

const char* slim_serve_fixed_states(const Network* network) {
  return network->fixed_states.empty() ? nullptr : network->fixed_states.c_str();
}

bool slim_serve_same(const Network* one, const Network* other) {
  try {
    return same(*one->traced, *other->traced);
  } catch (...) {
    return false;
  }
}

Program* slim_serve_compile(
    const Network* network, int form, const at::Tensor* input, char** error) {
  return guarded<Program>(error, [&] {
    Graph& frozen = *network->frozen;
    GraphPtr graph = form == 0 ? network->traced
        : form == 1          ? network->frozen
        : form == 2          ? channels_last(frozen)
        : form == 3          ? packed(frozen)
                             : fused(frozen, input->detach().contiguous());
    return new Program{Code(graph, "forward")};
  });
}

at::Tensor* slim_serve_run(const Program* program, const at::Tensor* input, char** error) {
  return guarded<at::Tensor>(
      error, [&] { return new at::Tensor(run(program->code, *input)); });
}

void slim_serve_free_network(Network* network) { delete network; }
void slim_serve_free_program(Program* program) { delete program; }
void slim_serve_free_text(char* text) { free(text); }

} // extern "C"
