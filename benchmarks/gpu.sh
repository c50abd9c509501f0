#!/bin/sh
# What a GPU does with the trainings, in one call that ends by itself: tests of each kind that `make test-gpu` has, times of training steps,
# then as many epochs of AdaBin's ResNet-20 on CIFAR-10 as fit into what is left. All of it lands in the folder <out>; a second call with
# the same folder measures only what is missing, and continues the training.
# usage: benchmarks/gpu.sh <out> [<root of CIFAR-10, default data> [<seconds, default 540> [<epochs, default 400>]]]
# PYTHON names the Python, with the packages of `pip install '.[train,dev]'`; the engine need not be built.
# ONEBIT_TEST_DEVICE=cpu tries the script itself where there is no GPU.
set -u
OUT=${1:?usage: benchmarks/gpu.sh OUT [ROOT [SECONDS [EPOCHS]]]}
ROOT=${2:-data} SECONDS_ALL=${3:-540} EPOCHS=${4:-400}
PYTHON=${PYTHON:-python3} DEVICE=${ONEBIT_TEST_DEVICE:-cuda}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit
[ -d "$ROOT" ] && ROOT=$(cd "$ROOT" && pwd)
case $PYTHON in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
cd "$(dirname "$0")/.." || exit
END=$(($(date +%s) + SECONDS_ALL))
export PYTHONPATH="$PWD/src" PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-/tmp/onebit-inductor}"
left() { echo $((END - $(date +%s))); }

step() {  # step <name> <seconds at most> <command...>: its output in <out>/<name>.txt, once
  name=$1 limit=$2
  shift 2
  [ -e "$OUT/$name.done" ] && return
  room=$(($(left) - 15))
  [ "$room" -lt "$limit" ] && limit=$room
  if [ "$limit" -lt 10 ]; then
    echo "$name: no time left; call again with more seconds, or with the same folder"
    return
  fi
  timeout -k 10 "$limit" "$@" >"$OUT/$name.txt" 2>&1
  code=$?
  [ $code -eq 0 ] && touch "$OUT/$name.done"
  echo "$name: exit code $code, $(left) s left"
  tail -n 15 "$OUT/$name.txt"
}

"$PYTHON" - >"$OUT/machine.txt" 2>&1 <<'END_OF_PYTHON' || { cat "$OUT/machine.txt"; exit 2; }
import os
import torch, onebit
if os.environ.get("ONEBIT_TEST_DEVICE") != "cpu":
    assert torch.cuda.is_available(), "PyTorch finds no GPU"
    print(torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0))
print("PyTorch", torch.__version__)
END_OF_PYTHON
cat "$OUT/machine.txt"
step tests 120 "$PYTHON" -m pytest -q -x -p no:cacheprovider -m gpu tests/test_gpu.py \
  -k "replayed or (losses and (float or adabin)) or (nothing and true and adabin)"
step resnet20 200 "$PYTHON" -m onebit bench train --device "$DEVICE" --model resnet20 --methods xnor,rbnn,adabin,rebnn
step resnet18 150 "$PYTHON" -m onebit bench train --device "$DEVICE" --model imagenet_resnet18 --size 224 --classes 1000 \
  --batch 256 --methods adabin,rebnn --rounds 10
if [ ! -d "$ROOT/cifar-10-batches-py" ]; then
  echo "adabin: $ROOT has no cifar-10-batches-py; name the folder that holds it"
elif [ "$(left)" -gt 45 ]; then
  # SIGTERM ends a training after its step, with a checkpoint.
  timeout -s TERM -k 30 $(($(left) - 35)) "$PYTHON" -m onebit train cifar10-resnet20-adabin --root "$ROOT" --epochs "$EPOCHS" \
    --accelerator "$DEVICE" --compile true --eval_every 10 --checkpoint_steps 200 --resume --out "$OUT/adabin" >>"$OUT/adabin.txt" 2>&1
  echo "adabin: exit code $? (124: the time was up, it continues with the next call), $(left) s left"
  tail -n 3 "$OUT/adabin.txt"
fi
