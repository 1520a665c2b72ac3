# Training in several processes: the numbers of one, and what happens when a process does not come home.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    corpus 60000 >text
    "$BIN"/dlm-tokenize --train -V 300 --split blank -q -o v.json text
    "$BIN"/dlm-tokenize -t v.json --split blank -q text | "$BIN"/dlm-shard -n 32 --val 0.1 -q -o data
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    command -v mpirun >/dev/null || skip "there is no mpirun"
    [ -e "$BIN/lib/dlm/dlm-mpi.so" ] || skip "built without MPI"
    case $BIN in *-san*) skip "MPI's own leaks would be told as ours" ;; esac
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_base_warn_component_unused=0
    data=$BATS_FILE_TMPDIR/data
    shape="--width 32 --layers 2 --heads 2 --batch 11 --micro-batch 3 --warmup 5 --lr 0.3 --dtype f32 -j 1 --log-every 10 -q"
}

# many N ARGUMENT…: dlm-train in N processes.
many() { local n=$1; shift; mpirun --oversubscribe --bind-to none -n "$n" dlm-train "$@"; }

# launch OPTION…: a long run of two ranks in the background; $job is the launcher's process.
launch() {
    mpirun --oversubscribe --bind-to none -n 2 dlm-train -d "$data" -o ck --run r $shape --noise masked --steps 1000000 --epochs 1e9 --metrics m.tsv "$@" \
        >/dev/null 2>err 3>&- &
    job=$!
}

teardown() {
    [ -z "${job:-}" ] || kill -9 $(pgrep -P "$job") "$job" 2>/dev/null || true
}

# near A B TOLERANCE: loss and elbo of the rows of two files.
near() {
    paste <(cut -f 2,13,17,18 "$1") <(cut -f 2,13,17,18 "$2") | awk -F'\t' -v tol="$3" 'NR > 1 {
        if ($1 != $5 || $2 != $6) { print "rows differ: " $0; bad = 1 }
        for (i = 3; i <= 4; i++) { d = $i / $(i + 4) - 1; if (d > tol || d < -tol) { print "off by " d ": " $0; bad = 1 } } rows++ }
        END { exit bad || rows < 4 }'
}

@test "two and three processes train as one does" {
    for noise in "--noise balanced" "--objective ar"; do
        rm -rf one two three
        dlm-train -d "$data" -o one --run r $shape $noise --steps 50 --eval-every 25 >one.tsv
        many 2 -d "$data" -o two --run r $shape $noise --steps 50 --eval-every 25 >two.tsv
        near one.tsv two.tsv 2e-4
        many 3 -d "$data" -o three --run r $shape $noise --steps 50 --eval-every 25 --metrics three.tsv
        near one.tsv three.tsv 2e-4
        [ "$(wc -l <two.tsv)" -eq "$(wc -l <one.tsv)" ] # rank 0 writes, and nobody else
    done
}

@test "fewer sequences than processes: the others take part" {
    few="$shape --noise masked --batch 2 --steps 40 --clip 0.5"
    dlm-train -d "$data" -o one --run r $few >one.tsv
    many 3 -d "$data" -o three --run r $few >three.tsv
    near one.tsv three.tsv 2e-4
}

# scores FILE: the validation figures of its rows, digit by digit.
scores() { awk -F'\t' '$2 == "val" { print $17, $18, $19, $20, $21, $22 }' "$1"; }

@test "the same weights have the same validation row in any number of processes" {
    dlm-train -d "$data" -o one --run r $shape --noise balanced --steps 30 --ema 0.5 --metrics one.tsv
    for tokens in 64 10000; do # two sequences, fewer than processes, and all
        dlm-train -d "$data" -o a.$tokens --run r $shape --noise balanced --init one --steps 6 --eval-tokens $tokens --metrics a.tsv
        for n in 2 3; do
            many $n -d "$data" -o a.$tokens.$n --run r $shape --noise balanced --init one --steps 6 --eval-tokens $tokens --metrics b.tsv
            [ "$(scores a.tsv | head -n 1)" = "$(scores b.tsv | head -n 1)" ]
        done
    done
    scores a.tsv | awk '{ if ($1 == "NA" || $3 == "NA" || $6 == "NA") bad = 1 } END { exit bad || NR != 2 }'
}

# header FILE: the header of a safetensors file.
header() { local n; n=$(od -An -tu8 -N8 "$1" | tr -d ' '); head -c $((n + 8)) "$1" | tail -c +9; }

@test "a checkpoint is whole, whoever held its parts, and resumed to the bit" {
    local -A options=([f32]="--ema 0.9" [bf16]="--ema 0.9 --state-dtype bf16" [compact]="--memory compact --dtype bf16 --state-dtype bf16")
    local -A apart=([f32]=2e-4 [bf16]=2e-4 [compact]=5e-3) # gradients that are rounded to bf16 as others are summed to them
    for kind in f32 bf16 compact; do
        go="--run r $shape --noise balanced --eval-every 15 ${options[$kind]}"
        dlm-train -d "$data" -o one.$kind $go --steps 30 --metrics one.tsv
        many 3 -d "$data" -o whole.$kind $go --steps 30 --metrics whole.tsv
        many 3 -d "$data" -o half.$kind $go --steps 15 --metrics half.tsv
        many 3 --resume half.$kind --steps 30 -q -j 1 --metrics half.tsv
        for f in model optimizer; do
            cmp whole.$kind/$f.safetensors half.$kind/$f.safetensors
            diff <(header one.$kind/$f.safetensors) <(header whole.$kind/$f.safetensors)
        done
        [ "$(scores whole.tsv)" = "$(scores half.tsv)" ]
        near one.tsv whole.tsv ${apart[$kind]}
        # Every process had its own range alone: what one goes on from is what three go on from.
        cp -r whole.$kind lone
        dlm-train --resume lone --steps 31 -q -j 1 --metrics lone.tsv
        many 3 --resume whole.$kind --steps 31 -q -j 1 --metrics whole.tsv
        near lone.tsv whole.tsv $([ $kind = compact ] && echo 2e-3 || echo 1e-6)
        rm -r lone
    done
}

@test "moments are shared out, and the plan says so" {
    plan() { dlm-train --plan --model L8-D512 --vocab-size 4096 --seq-len 256 --noise masked --steps 10 --warmup 0 "$@" | awk -F'\t' '{ v[$1] = $2 } END { print v["memory_optimizer"], v["memory_weights"], v["memory_total"] }'; }
    read -r o1 w1 t1 <<<"$(plan)"
    read -r o4 w4 t4 <<<"$(plan --processes 4)"
    [ "$o1" -ge $((2 * w1)) ] && [ "$w4" -eq "$w1" ]
    [ $((4 * o4 - o1)) -ge 0 ] && [ $((4 * o4 - o1)) -lt $((o1 / 64)) ] && # rank 0 has up to a stripe more, of 256
        [ "$t4" -lt $((t1 - o1 / 2)) ]
    run --separate-stderr dlm-train -d "$data" -o ck $shape --noise masked --steps 10 --processes 2
    [ "$status" -eq 2 ]
}

@test "a run goes on in another number of processes" {
    dlm-train -d "$data" -o one --run r $shape --noise masked --steps 40 >one.tsv
    many 2 -d "$data" -o go --run r $shape --noise masked --steps 20 --metrics go.tsv
    dlm-train --resume go --steps 30 -q -j 1 --metrics go.tsv
    many 3 --resume go --steps 40 -q -j 1 --metrics go.tsv
    near <(grep -v "$(printf 'val\t')" one.tsv) <(grep -v "$(printf 'val\t')" go.tsv) 2e-4
}

@test "a rank that is killed ends the job with an error, and the checkpoint is whole" {
    launch --save-every 20
    for i in $(seq 200); do [ -e ck/state.json ] && break; sleep 0.1; done
    [ -e ck/state.json ]
    pkill -9 -n -P "$job" # the younger rank
    status=0
    wait "$job" || status=$?
    [ "$status" -ne 0 ]
    [ -s err ]
    step=$(grep -o '"step": [0-9]*' ck/state.json | grep -o '[0-9]*')
    [ $((step % 20)) -eq 0 ] && [ "$step" -ge 20 ]
    dlm-eval -c ck -d "$data" --tokens 100 >/dev/null
}

@test "a signal to one rank stops all at the same step, with a checkpoint" {
    launch --save-every 0
    for i in $(seq 200); do [ -e m.tsv ] && [ "$(wc -l <m.tsv)" -ge 3 ] && break; sleep 0.1; done
    pkill -TERM -n -P "$job" # rank 1, which does not write
    status=0
    wait "$job" || status=$?
    [ "$status" -ne 0 ]
    [ "$(grep -o '"step": [0-9]*' ck/state.json | grep -o '[0-9]*')" -ge 10 ]
}

@test "without the module a launch with several processes is told, not run as so many strangers" {
    status=0
    DLM_LIBDIR=$BATS_TEST_TMPDIR many 2 -d "$data" -o ck $shape --noise masked --steps 10 2>err || status=$?
    [ "$status" -ne 0 ] && [ ! -e ck ]
    grep -q "dlm-train: launched as one of 2 processes, but the module dlm-mpi.so cannot be loaded" err
    OMPI_COMM_WORLD_SIZE=4 run --separate-stderr dlm-train -d "$data" -o ck $shape --noise masked --steps 10 # started by nobody
    [ "$status" -eq 1 ]
}
