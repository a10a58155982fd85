#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input to load_checkpoint: one line on stderr, nothing on stdout, exit code 2.
#
#   load_checkpoint_bad_input.sh PROGRAM TRAIN_GPT
set -u
program=$1
train_gpt=$2
. "$(dirname "$0")/expect_refusal.sh"
yes 'enough text to learn from' | head -n 200 >"$scratch/text"
gpt="$scratch/gpt.safetensors"
"$train_gpt" --corpus "$scratch/text" --layers 1 --channels 8 --heads 2 --context 8 --steps 1 \
  --save "$gpt" >/dev/null 2>&1 || exit 1

# edited NAME SED_SCRIPT: the checkpoint with another header of the same length.
edited() {
  LC_ALL=C sed "$2" "$gpt" >"$scratch/$1"
  cmp -s "$gpt" "$scratch/$1" && echo "$1: nothing was edited" && exit 1
  [ "$(wc -c <"$gpt")" -eq "$(wc -c <"$scratch/$1")" ] || exit 1
}

# llama NAME: only norms, which are those of several families.
llama() {
  key=model.layers.0
  header='{'
  for norm in "$key.input_layernorm" "$key.post_attention_layernorm" model.norm; do
    begin=$((${#header} > 1 ? begin + 8 : 0))
    [ "${#header}" -gt 1 ] && header="$header,"
    header="$header\"$norm.weight\":{\"dtype\":\"F32\",\"shape\":[2],"
    header="$header\"data_offsets\":[$begin,$((begin + 8))]}"
  done
  header="$header}"
  printf "\\$(printf '%o' $((${#header} % 256)))\\$(printf '%o' $((${#header} / 256)))" >"$1"
  printf '\0\0\0\0\0\0%s' "$header" >>"$1"
  printf '\0\0\200\077\0\0\0\100\0\0\200\077\0\0\0\100\0\0\200\077\0\0\0\100' >>"$1" # 1, 2, …
}

expect_refusal file
expect_refusal missing --file "$scratch/missing"
expect_refusal text --file "$scratch/text"
expect_refusal "$scratch" --file "$scratch"
expect_refusal family --file "$gpt" --family nonsense
expect_refusal 'no norm under the names of bert' --file "$gpt" --family bert
expect_refusal 'no norm under the names of llms_from_scratch' --file "$gpt" \
  --family llms-from-scratch
expect_refusal 'missing: cannot be opened' --file "$gpt" --config "$scratch/missing"
expect_refusal JSON --file "$gpt" --config "$scratch/text"
expect_refusal excludes --file "$gpt" --config "$scratch/text" --family gpt2
expect_refusal save-family --file "$gpt" --save "$scratch/x" --save-family bert
expect_refusal below_a_file --file "$gpt" --save "$scratch/text/below_a_file"
expect_refusal nonsense --file "$gpt" --nonsense

edited heads 's/"heads":"2"/"heads":"3"/'
expect_refusal '3 heads do not divide 8 channels' --file "$scratch/heads"
edited no_number 's/"heads":"2"/"heads":"x"/'
expect_refusal 'heads is not a list of numbers' --file "$scratch/no_number"
edited no_map 's/"h.0.attn.c_proj.weight"/"h.0.attn.c_prox.weight"/'
expect_refusal h.0.attn.c_proj.weight --file "$scratch/no_map"
edited transposed 's/"shape":\[8,32\]/"shape":[32,8]/'
expect_refusal 'h.0.mlp.c_fc.weight is \[32, 8\]; expected \[8, 32\]' --file "$scratch/transposed"
edited no_norm 's/"ln_f.weight"/"ln_x.weight"/'
expect_refusal 'none of the families' --file "$scratch/no_norm"
expect_refusal 'ln_f: the scale is missing' --file "$scratch/no_norm" --family gpt2

llama "$scratch/llama"
expect_refusal 'name the family, or take it from the model.s config.json' --file "$scratch/llama"
expect_refusal 'only a model that train_gpt saved' --file "$scratch/llama" --family gemma \
  --save "$scratch/x"

report_refusals
