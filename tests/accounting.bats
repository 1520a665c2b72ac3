# What a run says it cost: parameters, FLOPs, memory, energy, share of the peak.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    corpus 60000 >text
    "$BIN"/dlm-tokenize --train -V 300 --split blank -q -o v.json text
    "$BIN"/dlm-tokenize -t v.json --split blank -q text | "$BIN"/dlm-shard -n 32 --val 0.1 -q -o data
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    data=$BATS_FILE_TMPDIR/data
    shape="--width 32 --layers 2 --heads 2 --batch 8 --warmup 5 --lr 0.3 --dtype f32 -j 1 --noise balanced -q --run r"
    export DLM_POWERCAP=$BATS_TEST_TMPDIR/powercap
}

# column NAME [KIND]: of the table on standard input.
column() {
    awk -F'\t' -v name="$1" -v kind="${2:-}" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } kind == "" || $at["kind"] == kind { print $at[name] }'
}

value() { awk -F'\t' -v q="$1" '$1 == q { print $2 }' plan.tsv; }

@test "parameters and FLOPs of a published shape, by every count" {
    dlm-train --plan --model L8-D512 --vocab-size 131072 --seq-len 2048 --noise masked --steps 1000 --batch 64 --warmup 0 >plan.tsv
    # by hand: a layer has 4d² + 8d² of matrices, 2 norms of d, q and k norms of d, sink 2d, biases 4d + d; one last norm
    d=512 L=8 V=131072 N=2048
    P=$((L * (12 * d * d + 2 * d + 2 * d + 2 * d + 5 * d) + d))
    [ "$(value params)" -eq $P ]
    [ "$(value params_published)" -eq 25223680 ]
    [ "$(value params_embed)" -eq $((V * d)) ] && [ "$(value params_head)" -eq $((V * d)) ]
    [ "$(value params_total)" -eq $((P + 2 * V * d)) ]
    D=$((1000 * 64 * N))
    awk -v p=$P -v m="$(value flops_tok)" -v m6="$(value flops_tok_6p)" -v h="$(value flops_tok_head)" -v f="$(value flops)" -v f6="$(value flops_6p)" \
        -v fh="$(value flops_head)" -v D=$D 'function near(a, b) { return a / b < 1 + 1e-8 && a / b > 1 - 1e-8 }
        BEGIN { exit !(near(m6, 6 * p) && near(m, 6 * p + 12 * 8 * 512 * 2048) && near(h, 6 * 512 * 131072) && near(f, m * D) && near(f6, m6 * D) && near(fh, h * D)) }'
    [ "$(awk -F'\t' '/^memory_/ && $1 !~ /_(total|device|free)$/ { s += $2 } END { printf "%.0f", s }' plan.tsv)" -eq "$(value memory_total)" ]
}

@test "rows count tokens consumed and unique, by the plan's FLOPs" {
    dlm-train --plan -d "$data" $shape --steps 40 --unique-tokens 3200 >plan.tsv
    dlm-train -d "$data" -o ck $shape --steps 40 --unique-tokens 3200 --log-every 10 >m.tsv
    [ "$(column tokens train <m.tsv | tail -n 1)" -eq $((40 * 8 * 32)) ]
    [ "$(column unique_tokens train <m.tsv | tail -n 1)" -eq 3200 ]
    [ "$(value unique_tokens)" -eq 3200 ]
    [ "$(column unique_tokens train <m.tsv | head -n 1)" -eq $((10 * 8 * 32)) ]
    [ "$(column flops train <m.tsv | tail -n 1)" = "$(value flops)" ]
    [ "$(column params train <m.tsv | tail -n 1)" = "$(value params)" ]
}

@test "mfu is the rate times the FLOPs over the stated peak, and NA without one" {
    dlm-train --plan -d "$data" $shape --steps 30 >plan.tsv
    dlm-train -d "$data" -o ck $shape --steps 30 --peak-flops 1e12 >m.tsv
    paste <(column mfu train <m.tsv) <(column tok_s train <m.tsv) | awk -v f="$(value flops_tok)" -v h="$(value flops_tok_head)" '
        { want = $2 * (f + h) / 1e12; if ($1 / want > 1 + 1e-6 || $1 / want < 1 - 1e-6) bad = 1 } END { exit bad || !NR }'
    dlm-train --resume ck --steps 40 --peak-flops 2e12 -q >m.tsv # the peak may change
    [ "$(column mfu train <m.tsv)" != NA ]
    dlm-train -d "$data" -o none $shape --steps 10 >m.tsv
    [ "$(column mfu <m.tsv | sort -u)" = NA ]
    [ "$(column joules <m.tsv | sort -u)" = NA ] # no counters there
}

# A package that spends a joule every few hundredths of a second, until the test ends.
burn() {
    mkdir -p powercap/intel-rapl:0
    echo package-0 >powercap/intel-rapl:0/name
    echo 262143328850 >powercap/intel-rapl:0/max_energy_range_uj
    echo 0 >powercap/intel-rapl:0/energy_uj
    (for i in $(seq 3000); do
        echo $((i * 1000000)) >powercap/intel-rapl:0/next && mv powercap/intel-rapl:0/next powercap/intel-rapl:0/energy_uj
        sleep 0.02
    done) >/dev/null 2>&1 3>&- &
    burner=$!
}

teardown() { [ -z "${burner:-}" ] || kill "$burner" 2>/dev/null || true; }

@test "joules rise along the run, go on when it does, and end with the counters" {
    burn
    dlm-train -d "$data" -o ck $shape --epochs 100 --steps 300 --log-every 100 --metrics m.tsv
    column joules train <m.tsv | awk '{ if ($1 == "NA" || $1 < last) bad = 1; last = $1 } END { exit bad || !(last > 0) }'
    grep -q '"joules": [0-9]' ck/state.json
    before=$(column joules train <m.tsv | tail -n 1)
    dlm-train --resume ck --steps 600 -q -j 1 --metrics m.tsv
    awk -v a="$before" -v b="$(column joules train <m.tsv | tail -n 1)" 'BEGIN { exit !(b > a) }'
    kill "$burner"; wait "$burner" || true
    rm -r powercap
    dlm-train --resume ck --steps 610 -q -j 1 --metrics m.tsv
    [ "$(column joules train <m.tsv | tail -n 1)" = NA ] # a part would pass for the whole
}

# peak_of SHAPE…: the most that such a run has in memory, in KiB.
peak_of() {
    rm -rf ck
    dlm-train -d "$data" -o ck "$@" --batch 8 --micro-batch 8 --noise balanced --steps 2 --warmup 0 --dtype f32 -j 1 -q --metrics m.tsv --eval-tokens 4096 --device cpu &
    local pid=$! peak=0 now
    while kill -0 $pid 2>/dev/null; do
        now=$(awk '/VmHWM/ { print $2 }' /proc/$pid/status 2>/dev/null || true)
        [ -z "$now" ] || peak=$now
        sleep 0.02
    done
    wait $pid
    echo "$peak"
}

@test "the plan's memory is what a run takes" {
    case $BIN in *-san*) skip "sanitizers take memory of their own" ;; esac
    dlm-train --plan -d "$data" --width 512 --layers 6 --batch 8 --micro-batch 8 --noise balanced --steps 2 --warmup 0 --dtype f32 -j 1 >plan.tsv
    base=$(peak_of --width 8 --layers 1) # the program itself
    awk -v want="$(value memory_total)" -v got=$((($(peak_of --width 512 --layers 6) - base) * 1024)) 'BEGIN { r = got / want; printf "peak %.0f MB, plan %.0f MB, ratio %.3f\n", got / 1e6, want / 1e6, r; exit !(r > 0.97 && r < 1.03) }'
}
