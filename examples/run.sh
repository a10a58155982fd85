#!/bin/sh
# Builds the examples and runs them all: the quick start, a GPT that learns this repository's text,
# its checkpoint under the names of two families, the placements side by side, a Llama that goes on
# with a text, a study of placements, and a project that uses an installed tokennorm.
#
#   ./examples/run.sh [options of train_gpt, for every training...]
#
# The first training is of GPT-2's kind, Pre-LN with LayerNorm, so that its checkpoint has a family.
#
# The Llama is stories260K, of karpathy/llama2.c, where $TOKENNORM_MODELS/stories260K has it
# (stories260K.bin, tok512.bin), else one that is trained here.
#
# From the environment: CXX, BUILD_DIR (default build-examples), OUT_DIR (default out),
# TOKENNORM_MODELS (default ../shared/models).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build-examples}
build=$(mkdir -p "$build" && cd "$build" && pwd)
out=${OUT_DIR:-$root/out}

. "$root/cmake/prepare.sh"
install_packages g++ cmake ninja=ninja-build ccache libeigen3-dev libcli11-dev \
  nlohmann-json3-dev gnuplot=gnuplot-nox mpirun=openmpi-bin libopenmpi-dev
use_fast_tools

heading() {
  printf '\n== %s\n\n' "$1"
}

heading "Building"
cmake -S "$root" -B "$build" -DTOKENNORM_BUILD_TESTS=OFF -DTOKENNORM_BUILD_BENCHMARKS=OFF
cmake --build "$build"

heading "Quick start"
"$build/examples/quick_start"

if [ ! -x "$build/examples/02_train_gpt/train_gpt" ]; then
  echo "tokennorm: the other examples need CLI11 and nlohmann-json (libcli11-dev nlohmann-json3-dev)" >&2
  exit 1
fi

heading "A GPT, trained from scratch"
"$build/examples/02_train_gpt/train_gpt" --out "$out/gpt" "$@" --placement pre --norm layer \
  --save "$out/gpt/gpt2.safetensors" --family gpt2

heading "Its checkpoint, with GPT-2's names"
"$build/examples/04_load_checkpoint/load_checkpoint" --file "$out/gpt/gpt2.safetensors" \
  --save "$out/gpt/llms_from_scratch.safetensors" --save-family llms-from-scratch

heading "The same, with the names of LLMs-from-scratch"
"$build/examples/04_load_checkpoint/load_checkpoint" --file "$out/gpt/llms_from_scratch.safetensors"

heading "Three placements, the same seed"
"$root/examples/02_train_gpt/compare_placements.sh" "$build/examples/02_train_gpt/train_gpt" \
  "$out/placements" "$@"

stories=${TOKENNORM_MODELS:-$root/../shared/models}/stories260K
if [ -f "$stories/stories260K.bin" ] && [ -f "$stories/tok512.bin" ]; then
  heading "A Llama that tells a story"
  "$build/examples/05_run_llama/run_llama" --checkpoint "$stories/stories260K.bin" \
    --tokenizer "$stories/tok512.bin" --prompt "Once upon a time" --temperature 0 --threads 2
else
  heading "A Llama, trained from scratch"
  "$build/examples/02_train_gpt/train_gpt" "$@" --architecture llama --placement pre --norm rms \
    --context 128 --save "$out/llama/llama.bin"
  heading "It goes on with a text"
  "$build/examples/05_run_llama/run_llama" --checkpoint "$out/llama/llama.bin" \
    --tokenizer "$out/llama/tokenizer.bin" --prompt "/// The norm " --temperature 0.7 --threads 2
fi

heading "What the placement of the norms does, at small sizes"
"$build/examples/07_placement_study/placement_study" --quick --out "$out/placement_study"

train_on_ranks=$build/examples/06_train_on_ranks/train_on_ranks
if [ -x "$train_on_ranks" ] && command -v mpirun >/dev/null; then
  heading "A GPT, trained by two ranks"
  allow_mpirun
  for division in "" --reproducible --tensor-parallel; do
    # shellcheck disable=SC2086
    mpirun -n 2 "$train_on_ranks" --steps 30 $division
  done
fi

heading "A project of its own, on an installed tokennorm"
cmake --install "$build" --prefix "$build/prefix" >/dev/null
cmake -S "$root/examples/03_consumer" -B "$build/03_consumer" -Dtokennorm_ROOT="$build/prefix"
cmake --build "$build/03_consumer"
"$build/03_consumer/consumer"
