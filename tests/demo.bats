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
    export DEMO_DIR=$BATS_TEST_TMPDIR/demo V=300 N=32 OBJECTIVES="uniform ar" SIZES="s1 s2 s3" WARMUP=5 EVAL=2048 EPOCHS=100 ITEMS=40 CHOICES=20
    export shape_s1="--width 8 --layers 1 --heads 1 --steps 40" shape_s2="--width 16 --layers 1 --heads 1 --steps 60" shape_s3="--width 16 --layers 2 --heads 2 --steps 80"
    awk 'NF { gsub(/["\\]/, ""); printf "{\"id\": %d, \"text\": \"%s\"}\n", NR, $0 }' corpus.txt >c.jsonl
    zstd -q c.jsonl
    for c in corpus.txt c.jsonl.zst; do
        run -0 --separate-stderr env CORPUS=$c "$ROOT/examples/demo" "$BIN"
        for part in "held-out loss of every run" "unigram entropy" "uniform/diffusion *beta" "none/ar *beta" "L = " "what the law predicts" "a few sentences from the best diffusion model (runs/uniform-s" \
            $'step\tmasks\ttext' $'\n32\t0\t' "chance *cloze *exact_match *[0-9]" "unigram *choice *accuracy_per_token *0[.]" "uniform-s3 *cloze *exact_match *[01][.][0-9]* *0[.][0-9]* *[1-9][0-9]*" \
            "ar-s3 *choice *accuracy_per_token *0[.][0-9]* *0[.][0-9]* *20"; do
            [[ $output =~ $(sed 's/[(]/[(]/g' <<<"$part") ]] || { echo "no '$part' in:"; echo "$output"; return 1; }
        done
        [ -s demo/law.svg ]
    done
    [[ $output == *"the corpus is another one"* ]]
}

@test "words are left out of definitions, and every choice is offered once" {
    printf '%s\1' 'Wasium \\Wa"si*um\\, n. [NL. So called from a' '   former family.] (Chem.)' '   A rare element once supposed to exist.' >entry
    { for i in $(seq 30); do cat entry; echo; done; printf 'no head, just some plain words\n\303\251 is not of a to z\n'; } | sed 's/\\\\/\\/g' >documents
    LC_ALL=C awk -v items=25 -v bytes=200 -f "$ROOT/examples/cloze.awk" documents >cloze.jsonl
    [ "$(wc -l <cloze.jsonl)" -eq 25 ]
    sed 's/.*"answer":"\([^"]*\)".*/\1/' cloze.jsonl | sort -u >answers
    # words of the definition, not of what is in front of it
    [ "$(grep -cxE ' (rare|element|once|supposed|to|exist)' answers)" -eq "$(wc -l <answers)" ] && [ "$(wc -l <answers)" -ge 5 ]
    # the parts make up the text, and are JSON
    sed 's/{"prefix":"//; s/","answer":"//; s/","suffix":"//; s/"}$//; s/\\n/\x01/g; s/\\\(.\)/\1/g' cloze.jsonl | sort -u | cmp - <(head -n 1 documents)
    LC_ALL=C awk -v items=25 -v bytes=200 -v choices=4 -f "$ROOT/examples/cloze.awk" documents >choice.jsonl
    [ "$(wc -l <choice.jsonl)" -eq 25 ]
    sed 's/.*"choices":\[\([^]]*\)\].*/\1/' choice.jsonl | awk -F, '{ for (i = 1; i <= 4; i++) for (j = 1; j < i; j++) if ($i == $j) exit 1 } NF != 4 { exit 1 }'
    [ "$(grep -o '"answer":[0-9]' choice.jsonl | sort | uniq -c | awk '{ print $1 }' | tr '\n' ' ')" = "6 7 6 6 " ]
    paste -d'\n' <(sed 's/.*"answer":"\([^"]*\)".*/\1/' cloze.jsonl) <(sed 's/.*"choices":\["\(.*\)"\],"answer":\(.\).*/\2,\1/' choice.jsonl) |
        awk -F, 'NR % 2 { want = $0; next } { gsub(/"/, ""); if ($($1 + 2) != want) exit 1 }'
    # the most frequent word of the training text, and none of a hundred others, is right as often as it is an answer
    printf 'so to be it to the to an\n' | LC_ALL=C awk -v OFS='\t' -f "$ROOT/examples/guess.awk" - cloze.jsonl choice.jsonl >guesses
    n=$(grep -c '"answer":" to"' cloze.jsonl)
    [ "$(awk -F'\t' '$1 == "unigram" && $2 == "cloze" { print $4 * 25 }' guesses)" = "$n" ]
    [ "$(awk -F'\t' '$1 == "chance" && $2 == "choice" { print $4, $5, $6 }' guesses)" = "0.25 0 25" ]
}
