# The study as a Makefile, on a small grid: from text to a law, interrupted and repeated.
load setup

ROOT=$(cd "$BATS_TEST_DIRNAME/.." && pwd)

setup() {
    cd "$BATS_TEST_TMPDIR"
    corpus 300000 >corpus.txt
    study=(make --no-print-directory -f "$ROOT/examples/study.mk" -j2 V=300 N=32 "OBJECTIVES=masked ar" "SIZES=s1 s2 s3"
        "shape_s1=--width 8 --layers 1 --heads 1 --steps 60" "shape_s2=--width 16 --layers 1 --heads 1 --steps 120"
        "shape_s3=--width 16 --layers 2 --heads 2 --steps 240" WARMUP=5 EVAL=2048
        "TRAIN=--batch 4 --lr 0.2 --warmup 5 --log-every 20 --eval-every 20 --eval-tokens 2048 --save-every 20 --dtype f32")
}

@test "a study killed on its way and repeated ends as an uninterrupted one, and is then up to date" {
    mkdir whole cut
    cp corpus.txt whole; cp corpus.txt cut
    (cd whole && "${study[@]}" >log 2>&1) || { cat whole/log; return 1; }
    for delay in 0.3 0.5 0.4; do
        (cd cut && exec setsid "${study[@]}" >log 2>&1) &
        pid=$!
        sleep $delay
        kill -9 -- -$pid || true # the whole session: make and its jobs
        wait $pid || true
    done
    (cd cut && "${study[@]}" >log 2>&1) || { cat cut/log; return 1; }
    for o in masked ar; do
        for s in 1 2 3; do cmp whole/runs/$o-s$s.ckpt/model.safetensors cut/runs/$o-s$s.ckpt/model.safetensors; done
    done
    cmp whole/eval.tsv cut/eval.tsv
    cmp whole/law.tsv cut/law.tsv
    grep -q '<svg' cut/law.svg
    [ "$(awk -F'\t' '$1 == "loss" && $3 == "beta" { print $2 }' cut/law.tsv | sort | tr '\n' ' ')" = "masked/diffusion none/ar " ]
    run -0 bash -c 'cd cut && "$@"' x "${study[@]}" -q
    [ -z "$output" ]
    # Rows that are lost come back from the checkpoint.
    rm cut/runs/ar-s1.tsv
    (cd cut && "${study[@]}" runs/ar-s1.tsv >log 2>&1)
    diff <(cut -f1-23 whole/runs/ar-s1.tsv) <(cut -f1-23 cut/runs/ar-s1.tsv)
}

@test "RUN stands before each training command" {
    mkdir prefixed
    cp corpus.txt prefixed
    cat >prefix <<'SH'
#!/bin/sh
echo "$1" >>../prefixed.log
exec "$@"
SH
    chmod +x prefix
    (cd prefixed && "${study[@]}" RUN="$PWD/../prefix" OBJECTIVES=masked SIZES=s1 runs/masked-s1.tsv >log 2>&1) || { cat prefixed/log; return 1; }
    [ "$(cat prefixed.log)" = dlm-train ]
}

@test "the demo takes another corpus: text, JSON Lines, either compressed" {
    export DEMO_DIR=$BATS_TEST_TMPDIR/demo V=300 N=32 OBJECTIVES="uniform ar" SIZES="s1 s2 s3" WARMUP=5 EVAL=2048 EPOCHS=100
    export shape_s1="--width 8 --layers 1 --heads 1 --steps 40" shape_s2="--width 16 --layers 1 --heads 1 --steps 60" shape_s3="--width 16 --layers 2 --heads 2 --steps 80"
    awk 'NF { gsub(/["\\]/, ""); printf "{\"id\": %d, \"text\": \"%s\"}\n", NR, $0 }' corpus.txt >c.jsonl
    zstd -q c.jsonl
    for c in corpus.txt c.jsonl.zst; do
        run -0 --separate-stderr env CORPUS=$c "$ROOT/examples/demo" "$BIN"
        for part in "held-out loss of every run" "unigram entropy" "uniform/diffusion *beta" "none/ar *beta" "L = " "what the law predicts" "a few sentences from the best diffusion model (runs/uniform-s"; do
            [[ $output =~ $(sed 's/[(]/[(]/g' <<<"$part") ]] || { echo "no '$part' in:"; echo "$output"; return 1; }
        done
        [ -s demo/law.svg ]
    done
    [[ $output == *"the corpus is another one"* ]]
}
