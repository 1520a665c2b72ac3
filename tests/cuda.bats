# The commands on a GPU that is emulated (tests/emulate/cuda.h): the numbers of the CPU, the same bits in any order of threads, and what is said where there
# is no GPU that serves.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    corpus 30000 >text
    "$BIN"/dlm-tokenize --train -V 300 --split blank -q -o v.json text
    "$BIN"/dlm-tokenize -t v.json --split blank -q text | "$BIN"/dlm-shard -n 24 --val 0.1 -q -o data
    "$BIN"/dlm-tokenize -t v.json --split blank -q text | "$BIN"/dlm-shard -n 24 --val 0 -q -o data-all # without evaluations
    export OMP_NUM_THREADS=1
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    [ -e "$BIN/emulated/dlm-cuda.so" ] || skip "built without the emulation"
    export DLM_LIBDIR=$BIN/emulated
    data=$BATS_FILE_TMPDIR/data
    shape="-d $data --width 24 --layers 2 --heads 2 --batch 4 --warmup 2 --lr 0.3 --log-every 1 --eval-every 4 --eval-tokens 96 --run r -q"
}

# near A B TOLERANCE: loss and elbo of the rows of two files.
near() {
    paste <(cut -f 2,13,17,18 "$1") <(cut -f 2,13,17,18 "$2") | awk -F'\t' -v tol="$3" 'NR > 1 {
        if ($1 != $5 || $2 != $6) { print "rows differ: " $0; bad = 1 }
        for (i = 3; i <= 4; i++) { d = $i / $(i + 4) - 1; if (d > tol || d < -tol) { print "off by " d ": " $0; bad = 1 } } rows++ }
        END { exit bad || rows < 5 }'
}

@test "training on the GPU has the losses of the CPU, for every kind of model and both types" {
    for kind in "--noise masked" "--noise uniform --optimizer adamw --clip 0.5" "--objective ar"; do
        for type in f32:1e-5 bf16:0.05; do
            rm -rf c g
            dlm-train $shape $kind --steps 4 --dtype ${type%:*} -o c --device cpu >c.tsv
            dlm-train $shape $kind --steps 4 --dtype ${type%:*} -o g --device cuda >g.tsv
            near c.tsv g.tsv "${type#*:}" || { echo "$kind, $type"; false; }
            [ "$(sed 1d g.tsv | cut -f 29 | sort -u)" = cuda ]
        done
    done
}

@test "the order in which threads and blocks run changes no bit" {
    for seed in 1 2; do
        DLM_EMULATE_SEED=$seed dlm-train $shape --noise balanced --steps 3 --dtype bf16 -o $seed --device cuda >/dev/null
    done
    cmp 1/model.safetensors 2/model.safetensors
    cmp 1/optimizer.safetensors 2/optimizer.safetensors
}

@test "a run goes on from one device to the other, scores and texts are those of the CPU" {
    dlm-train $shape --noise balanced --steps 4 --dtype f32 -o whole --device cpu >whole.tsv
    dlm-train $shape --noise balanced --steps 3 --dtype f32 -o part --device cpu >/dev/null
    dlm-train --resume part --steps 4 --device cuda -q --metrics part.tsv
    paste <(grep -w train whole.tsv | cut -f 13,17) <(grep -w train part.tsv | cut -f 13,17) |
        awk '{ d = $2 / $4 - 1; if ($1 != $3 || d > 1e-5 || d < -1e-5) { print; bad = 1 } } END { exit bad || NR < 4 }'
    for device in cpu cuda; do
        dlm-eval -c whole -d "$data" --tokens 96 --levels 1 --device $device >$device.eval
        dlm-sample -c whole -n 2 -l 16 --steps 4 --device $device --dtype f32 >$device.text
        dlm-sample -c whole -n 2 -l 16 --steps 4 --sampler adaptive --top-k 20 --device $device --dtype f32 >>$device.text
    done
    paste cpu.eval cuda.eval | awk -F'\t' 'NR == 2 { n = NF / 2; for (i = 1; i <= n; i++) { d = $(i + n) != 0 ? $i / $(i + n) - 1 : $i; if ($i != $(i + n) && !(d < 1e-5 && d > -1e-5)) { print; exit 1 } } }'
    cmp cpu.text cuda.text
}

@test "texts cut to the likeliest ids are those of the CPU, of every sampler" {
    dlm-train $shape --noise balanced --steps 3 --dtype f32 -o d --device cpu >/dev/null
    dlm-train $shape --objective ar --steps 3 --dtype f32 -o ar --device cpu >/dev/null
    for device in cpu cuda; do
        sample() { dlm-sample -n 2 -l 12 --format jsonl --seed 5 --device $device --dtype f32 "$@"; }
        {
            sample -c d --steps 4 --top-k 20
            sample -c d --steps 4 --top-p 0.3
            sample -c d --steps 3 --temperature 0
            sample -c d --steps 4 --sampler adaptive --temperature 1 --top-k 40 --top-p 0.5
            sample -c d --steps 4 --sampler adaptive --temperature 0.6 --top-p 0.7
            sample -c d --steps 6 --sampler block --block 4 --temperature 1.5 --top-k 9
            sample -c ar --temperature 0.8 --top-k 30 --top-p 0.6
        } >$device.text
    done
    [ "$(wc -l <cpu.text)" -eq 14 ] && [ "$(sort -u cpu.text | wc -l)" -gt 10 ]
    cmp cpu.text cuda.text
}

@test "auto says why it takes the CPU when it was asked for by name, cuda fails with one line" {
    fails() { local want=$1; shift; run --separate-stderr env "$@" dlm-train --plan --width 16 --layers 1 --heads 2 --vocab-size 99 --seq-len 8 --noise masked --steps 9 --warmup 1 --device cuda; fails_with 1 "^dlm-train: --device cuda: $want"; }
    fails "there is no GPU" DLM_EMULATE_DEVICES=0
    fails "no NVIDIA driver is installed" DLM_EMULATE_DRIVER=0
    fails "the NVIDIA driver is too old: it serves CUDA 11.8, and this build needs 13.0" DLM_EMULATE_DRIVER=11080
    fails "GPU 0, emulated on the host, has compute capability 7.5: 8.0 or later is needed" DLM_EMULATE_CAPABILITY=75
    run --separate-stderr dlm-train $shape --noise masked --steps 3 -o x --device cuda:4
    fails_with 1 "^dlm-train: --device cuda:4: there is no GPU 4: there are 1, from 0 on"
    DLM_EMULATE_DEVICES=0 dlm-train ${shape/ -q/} --noise masked --steps 3 -o x --device auto >/dev/null 2>err
    [ "$(grep -c "^dlm-train: computing on the CPU: there is no GPU" err)" -eq 1 ]
    DLM_EMULATE_DEVICES=0 dlm-train ${shape/ -q/} --noise masked --steps 3 -o y >/dev/null 2>err
    ! grep "computing on the CPU" err
}

@test "joules are those of the GPU's own counter" {
    DLM_EMULATE_JOULES=5 dlm-train $shape --noise masked --steps 4 --dtype f32 -o x --device cuda | awk -F'\t' '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $2 == "train" { print $at["step"], $at["joules"] }' >joules
    diff joules - <<<$'1 5\n2 10\n3 15\n4 20'
    dlm-train $shape --noise masked --steps 3 --dtype f32 -o y --device cuda | tail -n 1 | grep -q -P '\tNA\t[^\t]+\tf32\tcuda$'
}

@test "a GPU with too little memory: what was needed is said, and nothing is left behind" {
    DLM_EMULATE_MEMORY=100000000 run --separate-stderr dlm-train $shape --width 512 --heads 8 --noise masked --steps 3 -o x --device cuda
    fails_with 1 "^dlm-train: no memory for .*GB"
    [ ! -e x ]
}

# value NAME: of --plan's rows; reported NAME FILE: of the emulation's report.
value() { awk -F'\t' -v n="$1" '$1 == n { print $2 }'; }
reported() { awk -v n="$1" '{ for (i = 1; i < NF; i += 2) if ($i == n) print $(i + 1) }' "$2"; }
OPENED=33554432 # bytes that an opened device has taken: room for matrix products

@test "a run takes the memory that --plan tells, all of it before its first step, and no less" {
    local shape="$shape --width 48 --batch 3 --micro-batch 2 --noise masked --warmup 1 --steps 2 --eval-tokens 24 --device cuda"
    for kind in "--dtype f32 --ema 0.9" "--dtype bf16 --recompute mlp" "--memory compact"; do
        rm -rf x report
        DLM_EMULATE_MEMORY=4000000000 dlm-train --plan $shape $kind >plan
        device=$(value memory_device <plan) free=$(value memory_free <plan)
        [ "$(value memory_scratch <plan)" -ge 8192 ]
        [ "$(value memory_group <plan)" -eq 0 ]
        just=$(awk "BEGIN { printf \"%d\", 4e9 - ($free - $device) / 0.99 + 1 }") # where as much is free as it takes
        DLM_EMULATE_REPORT=report DLM_EMULATE_MEMORY=$just dlm-train $shape $kind -o x >/dev/null
        awk -v most="$(reported most report)" -v device="$device" -v opened=$OPENED 'BEGIN { r = (most - opened) / device; exit !(r > 0.97 && r < 1.03) }'
        [ "$(reported allocations report)" -eq 3 ] # for products, the arena, scratch
        [ "$(reported before report)" -le 2 ]      # the arena is cleared in between
        DLM_EMULATE_MEMORY=$((just - device * 3 / 100)) run --separate-stderr dlm-train $shape $kind -o y
        fails_with 1 "^dlm-train: no memory for this model: training takes .*GB.*"
        [ ! -e y ]
    done
    [ "$(dlm-train --plan $shape --processes 3 | value memory_group)" -eq $(((2 * 3 * 8 << 20) + 8192)) ] # what goes to three and comes from them, 8 MiB each at a time
    [ "$(dlm-train --plan $shape --device cpu | value memory_scratch)" -eq 0 ]
}

@test "graphs change no byte: micro-batches of two sizes, evaluation in between, recomputation, going on" {
    local shape="$shape --width 8 --batch 3 --micro-batch 2 --eval-every 2 --eval-tokens 24 --device cuda" kind
    dlm-tokenize -t "$BATS_FILE_TMPDIR/v.json" --split blank -q "$BATS_FILE_TMPDIR/text" | dlm-shard -n 24 --val 0 -q -o data # which evaluates nothing
    for kind in "--noise balanced --dtype f32 --ema 0.5" "-d data --objective ar --dtype bf16 --recompute mlp"; do
        rm -rf 0 1 report0 report1
        for graphs in 0 1; do
            DLM_EMULATE_SEED=$graphs DLM_EMULATE_REPORT=report$graphs DLM_CUDA_GRAPHS=$graphs dlm-train $shape $kind --steps 4 -o $graphs | cut -f 2,13,17,18 >$graphs.tsv
        done
        cmp 0/model.safetensors 1/model.safetensors
        cmp 0/optimizer.safetensors 1/optimizer.safetensors
        cmp 0.tsv 1.tsv
        [ "$(reported replayed report0)" -eq 0 ]
        [ "$(reported replayed report1)" -gt $(($(reported pieces report0) / 3)) ]
        [ "$(reported pieces report1)" -eq $(($(reported pieces report0) - $(reported replayed report1))) ]
        [ "$(reported made report1)" -le 8 ] # of two layers: forward and backward of two sizes of pass, forward of evaluation; packing
        [ "$(reported allocations report1)" -eq 3 ]
    done
    dlm-train $shape $kind --steps 4 --save-every 2 --keep 2 -o whole >/dev/null
    dlm-train --resume whole.2 --device cuda -q >/dev/null
    mv whole.2 part
    cmp 1/model.safetensors part/model.safetensors
    cmp 1/optimizer.safetensors part/optimizer.safetensors
    DLM_EMULATE_GRAPHS=end DLM_EMULATE_REPORT=report dlm-train $shape $kind --steps 4 -o x 2>err >/dev/null
    [ ! -s err ] # no graphs to be had: nothing is said
    cmp 1/model.safetensors x/model.safetensors
    [ "$(reported launched report)" -eq 0 ]
    DLM_EMULATE_GRAPHS=launch run --separate-stderr dlm-train $shape $kind --steps 4 -o y --metrics rows
    fails_with 1 "^dlm-train: cuda: replaying: out of memory"
    [ ! -e y ]
}

# launch N ARGUMENT…: dlm-train in N processes, each on an emulated GPU of its own.
launch() {
    local n=$1
    shift
    mpirun --oversubscribe --bind-to none -n "$n" dlm-train "$@" --device cuda
}

# several: what the next tests need, or skip.
several() {
    command -v mpirun >/dev/null || skip "there is no mpirun"
    [ -e "$BIN/lib/dlm/dlm-mpi.so" ] || skip "built without MPI"
    case $BIN in *-san*) skip "MPI's own leaks would be told as ours" ;; esac
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_base_warn_component_unused=0
    mkdir lib
    ln -s "$BIN/emulated/dlm-cuda.so" "$BIN/lib/dlm/dlm-mpi.so" lib
    export DLM_LIBDIR=$PWD/lib DLM_EMULATE_DEVICES=3 OMP_NUM_THREADS=1
}

@test "three processes on three GPUs speak by NCCL and have the losses of one, in any order of streams" {
    several
    local shape="$shape --eval-every 0 --eval-tokens 24 --steps 5" seed=0
    # two micro-batches a rank; ranks with one more pass than others; a rank without sequences, and bf16 gradients
    for kind in 1e-5:"--noise balanced --batch 12 --micro-batch 2 --ema 0.9 --dtype f32" 5e-3:"-d $data-all --objective ar --batch 7 --micro-batch 2 --optimizer adamw --clip 0.5 --dtype bf16" \
        5e-3:"-d $data-all --noise masked --batch 2 --micro-batch 1 --memory compact"; do
        rm -rf one three
        dlm-train $shape ${kind#*:} -o one --device cuda >one.tsv
        DLM_EMULATE_SEED=$((++seed)) launch 3 $shape ${kind#*:} -o three >three.tsv
        near one.tsv three.tsv "${kind%%:*}" || { echo "$kind"; false; }
    done
    DLM_EMULATE_SEED=7 launch 3 $shape ${kind#*:} -o again >/dev/null
    cmp three/model.safetensors again/model.safetensors
    cmp three/optimizer.safetensors again/optimizer.safetensors
    DLM_EMULATE_NCCL=fails run launch 2 $shape --noise masked --steps 3 -o x
    [ "$status" -ne 0 ] && [[ $output == *"dlm-train: rank 0 of 2: NCCL, making a group: unhandled system error"* ]] && [ ! -e x ]
}

@test "a run on three GPUs goes on on one, and then on two" {
    several
    local shape="$shape -d $data-all --noise masked --batch 5 --micro-batch 2 --ema 0.9 --dtype f32"
    dlm-train $shape --steps 5 -o one --device cuda >one.tsv
    launch 3 $shape --steps 3 -o go --metrics go.tsv
    launch 1 --resume go --steps 4 -q --metrics go.tsv
    launch 2 --resume go --steps 5 -q --metrics go.tsv
    near one.tsv go.tsv 1e-5
}

@test "several GPUs: graphs change no byte, and each takes the memory that --plan tells" {
    several
    local shape="$shape --width 8 --batch 4 --micro-batch 1 --noise masked --dtype bf16 --steps 3 --eval-tokens 24"
    device=$(dlm-train --plan $shape --processes 2 --device cuda | value memory_device)
    for graphs in 0 1; do
        DLM_CUDA_GRAPHS=$graphs DLM_EMULATE_SEED=$graphs DLM_EMULATE_REPORT=$PWD/report$graphs launch 2 $shape -o $graphs >/dev/null
        [ "$(reported most report$graphs | awk -v device="$device" -v opened=$OPENED '{ r = ($1 - opened) / device; n += r > 0.97 && r < 1.03 } END { print n }')" -eq 2 ]
        [ "$(reported replayed report$graphs | awk '$1 { n++ } END { print n + 0 }')" -eq $((2 * graphs)) ]
    done
    cmp 0/model.safetensors 1/model.safetensors
    cmp 0/optimizer.safetensors 1/optimizer.safetensors
}

@test "a GPU's process that is killed while others wait for it ends the job, and the checkpoint is whole" {
    several
    timeout -s KILL 60 mpirun --oversubscribe --bind-to none -n 3 dlm-train $shape --width 8 --heads 1 --batch 3 --micro-batch 1 --noise masked --eval-every 0 --save-every 2 \
        --steps 100000 --epochs 1e9 -o ck --metrics m.tsv --device cuda >/dev/null 2>err 3>&- &
    for i in $(seq 300); do [ -e ck/state.json ] && break; sleep 0.1; done
    [ -e ck/state.json ]
    kill -9 "$(pgrep -n -P "$(pgrep -P $!)")"
    status=0
    wait $! || status=$?
    [ "$status" -ne 0 ] && [ -s err ]
    [ $(($(grep -o '"step": [0-9]*' ck/state.json | grep -o '[0-9]*') % 2)) -eq 0 ]
    dlm-eval -c ck -d "$data" --tokens 48 --device cpu >/dev/null
}
