#!/bin/sh
# Runs slim's compiled tests with the libtorch of this machine; see `--help`.
set -u

usage() {
    cat <<'END'
Usage: run.sh [--device cuda|cuda:N|cpu] [--libtorch DIR] [--threads N] [TEST...]
       run.sh [--device …] [--libtorch DIR] --bench compare|scaling [ARG...]

Runs slim's tests, or those of the programs that are named (tests.txt has all names), and prints what became of each. Ends with 1 if any has
failed. What they print is in the folder `logs` beside this script. The first run unpacks the programs.

  --device    where to compute [default: cuda]
  --libtorch  the folder of libtorch 2.11.0, or of the Python package `torch`
              [default: LIBTORCH, or else that of `python3 -c 'import torch'`]
  --threads   tests that run side by side [default: 4]
  --bench     a bench instead of tests, with the arguments behind it; compare takes PyTorch and Torch-Pruning from its Python
END
}

fail() {
    echo "error: $*" >&2
    exit 2
}

device=cuda
libtorch=${LIBTORCH:-}
threads=4
bench=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --bench)
        [ $# -ge 2 ] || fail "$1 needs a value"
        bench=$2
        shift 2
        break
        ;;
    --device | --libtorch | --threads)
        [ $# -ge 2 ] || fail "$1 needs a value"
        case $1 in
        --device) device=$2 ;;
        --libtorch) libtorch=$2 ;;
        --threads) threads=$2 ;;
        esac
        shift 2
        ;;
    -*) fail "there is no $1: see run.sh --help" ;;
    *) break ;;
    esac
done

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || fail "cannot tell where this script is"
if [ -z "$libtorch" ]; then
    libtorch=$(python3 -c 'import torch; print(torch.__path__[0])' 2>/dev/null) ||
        fail "no libtorch: name it with --libtorch or LIBTORCH, or install torch 2.11.0 in the python3 of this shell"
fi
named=$libtorch
libtorch=$(CDPATH='' cd -- "$named" 2>/dev/null && pwd) || fail "there is no folder $named"
[ -e "$libtorch/lib/libtorch_cpu.so" ] || fail "$libtorch is no libtorch: it has no lib/libtorch_cpu.so"
case $device in
cuda*) [ -e "$libtorch/lib/libtorch_cuda.so" ] || fail "--device $device: the libtorch in $libtorch has no CUDA" ;;
esac
case $bench in
"" | compare | scaling) ;;
*) fail "no bench is called $bench; there are compare and scaling" ;;
esac
[ -z "$bench" ] || names=none
[ -n "$bench" ] || names=${*:-$(cut -d ' ' -f 1 "$here/tests.txt")}
[ -n "$bench" ] || for name in $names; do
    grep -q "^$name " "$here/tests.txt" || fail "no test is called $name; there are: $(cut -d ' ' -f 1 "$here/tests.txt" | tr '\n' ' ')"
done
logs=$here/logs
mkdir -p "$logs" || fail "cannot write to $logs: copy the bundle to where you may write"

for packed in "$here"/tests/*.gz "$here"/bin/*.gz; do
    if [ -e "$packed" ]; then
        gunzip -f "$packed" || fail "cannot unpack $packed: copy the bundle to where you may write, with 150 MB free"
    fi
done

# Where cargo would have the programs look.
export LD_LIBRARY_PATH="$libtorch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export INSTA_WORKSPACE_ROOT="$here/workspace"
for program in "$here"/bin/*; do
    export "CARGO_BIN_EXE_$(basename "$program")=$program"
done
# Snapshots are compared, and never written.
export INSTA_UPDATE=no
export SLIM_DEVICE="$device"
# Floats are compared to the precision of f32, which TF32 does not have.
export NVIDIA_TF32_OVERRIDE=0
if [ -n "$bench" ]; then
    exec "$here/bin/$bench" "$@"
fi
# Tests run side by side already.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

echo "libtorch in $libtorch, on $device"
failed=0
for name in $names; do
    folder=$here/workspace/$(sed -n "s/^$name //p" "$here/tests.txt")
    begun=$(date +%s)
    (cd "$folder" && CARGO_MANIFEST_DIR=$folder exec "$here/tests/$name" --test-threads "$threads") >"$logs/$name.log" 2>&1
    code=$?
    result=$(sed -n 's/^test result: [A-Za-z]*\. \([0-9]* passed; [0-9]* failed\).*/\1/p' "$logs/$name.log")
    if [ $code -eq 0 ]; then
        verdict=ok
    else
        verdict=FAILED
        failed=$((failed + 1))
    fi
    printf '%-6s %-28s %-24s %4d s\n' "$verdict" "$name" "${result:-ended with code $code}" $(($(date +%s) - begun))
    if [ $code -ne 0 ]; then
        grep -E '^(error: |test .* FAILED$)' "$logs/$name.log" | sed 's/^/       /'
    fi
done
[ $failed -eq 0 ] || echo "$failed failed: what they said is in $logs"
[ $failed -eq 0 ]
