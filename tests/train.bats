# dlm-train and dlm-eval: rows, exact resumption, what may change, and every bad input.
load setup

setup_file() {
    load setup
    cd "$BATS_FILE_TMPDIR"
    corpus 120000 >corpus.txt
    dlm-tokenize --train -V 300 --split blank -o vocab.json corpus.txt 2>/dev/null
    dlm-tokenize -t vocab.json --split blank corpus.txt 2>/dev/null | dlm-shard -q -n 32 --val 0.1 -o data
    corpus 60000 7 | dlm-tokenize --train -V 290 --split blank -o other.json 2>/dev/null
    corpus 60000 7 | dlm-tokenize -t other.json --split blank 2>/dev/null | dlm-shard -q -n 32 --val 0.1 -o other
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    data=$BATS_FILE_TMPDIR/data
    shape="--width 16 --layers 2 --heads 2 --batch 8 --warmup 4 --lr 0.2 -j 2 --dtype f32 --epochs 1000"
}

# await LINES FILE PID: until the file has so many lines; fails when the process ends before.
await() {
    until [ "$(wc -l <"$2")" -ge "$1" ]; do
        kill -0 "$3" 2>/dev/null || { echo "process $3 ended early"; return 1; }
        sleep 0.02
    done
}

# rows FILE: the rows without the clock columns tok_s and seconds.
rows() { awk -F'\t' -v OFS='\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "tok_s" || $i == "seconds") drop[i] = 1 } { for (i in drop) $i = ""; print }' "$@"; }
# column NAME FILE [KIND]: a column's values.
column_of() { awk -F'\t' -v name="$1" -v kind="${3:-}" 'NR == 1 { for (i = 1; i <= NF; i++) { if ($i == name) c = i; if ($i == "kind") k = i } next } kind == "" || $k == kind { print $c }' "$2"; }
# near A B TOLERANCE
near() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; if (!(d <= t)) { print a, b, "differ by more than", t; exit 1 } }'; }

@test "a run writes its rows and its checkpoint; the untrained loss is log(V-1)" {
    for type in "--noise masked" "--noise shift:1.5" "--noise uniform" "--objective ar"; do
        rm -rf run && dlm-train -d "$data" -o run $shape $type --steps 20 --eval-every 10 --log-every 5 >run.tsv
        [ "$(head -n 1 run.tsv)" = "$(printf 'run\tkind\tnoise\tobjective\tparams\tflops_tok\twidth\tlayers\tseq_len\tbatch_tok\tlr\tseed\tstep\ttokens\tunique_tokens\tflops\tloss\telbo\telbo_se\tkl\tis\tbpb\tgrad_norm\ttok_s\tmfu\tjoules\tseconds\tdtype\tdevice')" ]
        [ "$(column_of step run.tsv val | tr '\n' ' ')" = "0 10 20 " ]
        [ "$(column_of step run.tsv train | tr '\n' ' ')" = "5 10 15 20 " ]
        elbo=$(column_of elbo run.tsv val | head -n 1) se=$(column_of elbo_se run.tsv val | head -n 1)
        near "$elbo" 5.700444 "$(awk -v s="$se" 'BEGIN { print 4 * s + 0.006 }')"
        last=$(column_of elbo run.tsv val | tail -n 1)
        awk -v a="$last" -v b="$elbo" 'BEGIN { exit !(a < b - 0.1) }'
        for f in model.safetensors optimizer.safetensors config.json tokenizer.json state.json metrics.tsv; do [ -s run/$f ]; done
        cmp run/tokenizer.json "$BATS_FILE_TMPDIR/vocab.json"
        diff run.tsv run/metrics.tsv
        # The evaluator says the same as the last validation row.
        dlm-eval -c run -d "$data" --tokens 262144 -j 2 >eval.tsv
        near "$(column_of elbo eval.tsv)" "$last" 2e-6
        near "$(column_of bpb eval.tsv)" "$(column_of bpb run.tsv val | tail -n 1)" 2e-6
    done
}

@test "--dtype auto is bf16 where the processor multiplies it, and close to f32" {
    dlm-train -d "$data" -o a ${shape/--dtype f32/} --noise balanced --steps 30 -q >a.tsv
    dlm-train -d "$data" -o b ${shape/--dtype f32/--dtype bf16} --noise balanced --steps 30 -q >b.tsv
    dlm-train -d "$data" -o c $shape --noise balanced --steps 30 -q >c.tsv
    want=f32
    if grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo && ! dlm-train --version | grep -q plain-gemm; then want=bf16; fi # the plain kernel has no bf16 of its own
    [ "$(column_of dtype a.tsv | sort -u)" = $want ]
    [ "$(column_of dtype b.tsv | sort -u)" = bf16 ]
    near "$(column_of elbo b.tsv val | tail -n 1)" "$(column_of elbo c.tsv val | tail -n 1)" 0.05
    [ $want = f32 ] || cmp a/model.safetensors b/model.safetensors
    [ "$(dlm-eval -c b -d "$data" | column_of elbo /dev/stdin)" != "$(dlm-eval -c b -d "$data" --dtype bf16 | column_of elbo /dev/stdin)" ]
}

@test "bits per byte count the bytes of the data" {
    dlm-train -d "$data" -o run $shape --noise masked --steps 6 --eval-tokens 0 >run.tsv
    dlm-eval -c run -d "$data" -j 2 >eval.tsv
    bytes=$(dlm-shard --cat "$data" --split val | dlm-tokenize -d | wc -c)
    tokens=$(dlm-shard --cat "$data" --split val | zstd -dc | od -An -v -tu2 -w2 | wc -l)
    [ "$(column_of bytes eval.tsv)" -eq "$bytes" ]
    [ "$(column_of tokens eval.tsv)" -eq "$tokens" ]
    near "$(column_of bpb eval.tsv)" "$(awk -v e="$(column_of elbo eval.tsv)" -v t="$tokens" -v b="$bytes" 'BEGIN { print e / log(2) * t / b }')" 1e-4
}

@test "killed at any moment and continued, the same rows and the same bytes" {
    run_it() { dlm-train --continue -d "$data" -o "$1" --run r $shape --noise balanced --steps 300 --eval-every 60 --eval-tokens 1024 --log-every 7 --save-every 20 --metrics "$1.tsv" -q; }
    began=$EPOCHREALTIME
    run_it whole
    took=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
    turns=1
    [ -z "${DLM_TEST_LONG:-}" ] || turns=20
    for turn in $(seq $turns); do
        rm -rf killed*
        kills=0 rounds=0
        until [ -s killed.done ] && [ $kills -ge 1 ]; do
            if [ -s killed.done ]; then # the machine was busy when the whole run was timed: aim earlier
                rm -rf killed*
                took=$(awk -v t="$took" 'BEGIN { print t / 3 }')
            fi
            rounds=$((rounds + 1))
            ( run_it killed && echo yes >killed.done ) &
            pid=$!
            sleep "$(awk -v t="$took" -v r="$rounds" -v u="$turn" 'BEGIN { print t * (0.02 + (r * 0.37 + u * 0.113) % 0.7) }')"
            if [ ! -s killed.done ] && pkill -9 -P $pid dlm-train; then kills=$((kills + 1)); fi
            wait $pid || true
            if [ -e killed ]; then # never half a checkpoint
                for f in model.safetensors optimizer.safetensors config.json state.json metrics.tsv; do [ -s killed/$f ]; done
                dlm-eval -c killed -d "$data" --tokens 64 -j 2 >/dev/null
            fi
            [ $rounds -lt 60 ] || { echo "never finished"; return 1; }
        done
        echo "$kills kills in $rounds rounds"
        diff <(rows whole.tsv) <(rows killed.tsv)
        cmp whole/model.safetensors killed/model.safetensors
        cmp whole/optimizer.safetensors killed/optimizer.safetensors
        diff <(rows whole/metrics.tsv) <(rows killed/metrics.tsv)
        [ "$(ls -d killed*)" = "$(printf 'killed\nkilled.done\nkilled.tsv')" ]
    done
}

@test "SIGTERM ends the step, writes a checkpoint, and ends by the signal" {
    dlm-train -d "$data" -o whole --run r $shape --noise masked --steps 400 --log-every 50 -q >/dev/null
    dlm-train -d "$data" -o cut --run r $shape --noise masked --steps 400 --log-every 50 -q >cut.tsv &
    pid=$!
    await 3 cut.tsv $pid
    kill -TERM $pid
    code=0; wait $pid || code=$?
    [ $code -eq 143 ]
    dlm-train --resume cut -q >rest.tsv
    cmp whole/model.safetensors cut/model.safetensors
    diff <(rows whole/metrics.tsv) <(rows cut/metrics.tsv)
}

@test "a corrupt frame ends the run at the step that reads it, and not one before" {
    corpus 400000 | dlm-tokenize -t "$BATS_FILE_TMPDIR/vocab.json" --split blank -q | dlm-shard -q -n 32 --val 0.02 -o bad
    printf 'xxxxxxxx' | dd of=bad/train-00000.tok.zst bs=1 seek=$(($(stat -c %s bad/train-00000.tok.zst) * 6 / 10)) conv=notrunc status=none
    for micro in 600 256; do # frames are of 2048 sequences: the third begins within step 7
        rm -rf run
        run --separate-stderr dlm-train -d bad -o run --width 8 --layers 1 --heads 1 --batch 600 --micro-batch $micro --noise masked --steps 11 --warmup 2 \
            --save-every 1 --log-every 1 --eval-tokens 64 -q --metrics run.tsv
        fails_with 1 "^dlm-train: 'bad/train-00000.tok.zst' is corrupt at offset .*: a data frame fails its hash"
        [ "$(column_of step run.tsv | tr '\n' ' ')" = "0 1 2 3 4 5 6 " ]
        diff run.tsv run/metrics.tsv
    done
}

@test "SIGUSR1 asks for one line of progress" {
    dlm-train -d "$data" -o run $shape --noise masked --steps 30000 >run.tsv 2>err &
    pid=$!
    await 4 run.tsv $pid
    kill -USR1 $pid
    for i in $(seq 100); do [ -s err ] && break; sleep 0.02; done
    kill -TERM $pid; wait $pid || true
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE '^run: .*tokens, .*/s.*left, loss [0-9.]+$' err
}

@test "what may change on resuming changes nothing; the rest is refused by name" {
    dlm-train -d "$data" -o whole --run r $shape --noise balanced --steps 40 --log-every 10 -q >/dev/null
    dlm-train -d "$data" -o half --run r $shape --noise balanced --steps 20 --log-every 10 -q >/dev/null
    cp -r "$data" moved
    dlm-train --resume half -d moved --steps 40 --save-every 7 --keep 1 --progress never --metrics half.tsv -q -j 2
    cmp whole/model.safetensors half/model.safetensors
    [ "$(ls -d half.[0-9]*)" = half.35 ]
    for change in "--lr 0.3" "--batch 16" "--noise masked" "--width 32" "--seed 1" "--warmup 5" "--run x" "--objective ar" "--schedule wsd" "--beta2 0.9"; do
        name=${change%% *}
        run --separate-stderr dlm-train --resume half $change
        fails_with 2 "^dlm-train: $name differs from the run"
        run --separate-stderr dlm-train --continue -d "$data" -o half --run r $shape --noise balanced --steps 40 --log-every 10 $change
        fails_with 2 "^dlm-train: $name differs from the run"
    done
    run --separate-stderr dlm-train --resume half -d "$BATS_FILE_TMPDIR/other"
    fails_with 1 "is not the shard set that 'half' was trained on"
    run -0 --separate-stderr dlm-train --resume half
    [[ $stderr == *"is at its last step, 40, already" ]]
    dlm-train -d "$data" -o cos $shape --noise balanced --schedule cosine --steps 12 -q >/dev/null
    run --separate-stderr dlm-train --resume cos --steps 14
    fails_with 2 "^dlm-train: --steps cannot change from 12 to 14"
    dlm-train -d "$data" -o wsd $shape --noise balanced --schedule wsd --cooldown 0.5 --steps 12 -q >/dev/null
    run --separate-stderr dlm-train --resume wsd --steps 14
    fails_with 2 "^dlm-train: --steps cannot change"
}

# apart A B: the largest relative difference of loss and elbo between the rows of two files.
apart() {
    paste <(cut -f 2,13,17,18 "$1") <(cut -f 2,13,17,18 "$2") | awk -F'\t' 'NR > 1 {
        if ($1 != $5 || $2 != $6) { print "other rows"; exit 1 }
        for (i = 3; i <= 4; i++) { d = $i / $(i + 4) - 1; d = d < 0 ? -d : d; most = d > most ? d : most } }
        END { printf "%.2g", most }'
}

@test "micro-batch and threads change float rounding at most, at step 50" {
    for type in "--noise uniform" "--noise balanced" "--objective ar"; do
        rm -rf a b c d e
        options="-d $data $shape $type --steps 50 --log-every 10"
        dlm-train -o a --run r $options -q >a.tsv
        dlm-train -o b --run r $options --micro-batch 3 -q >b.tsv
        dlm-train -o c --run r $options --micro-batch 1 -j 1 -q >c.tsv
        dlm-train -o d --run r $options -j 1 -q >d.tsv
        dlm-train -o e --run r $options -q >e.tsv
        for o in b c d; do
            far=$(apart a.tsv $o.tsv)
            awk -v d="$far" 'BEGIN { exit !(d < 3e-4) }' || { echo "$type: $o is $far away"; return 1; }
        done
        cmp a/model.safetensors e/model.safetensors # the same command, the same bits
    done
    # what depended on the micro-batch would show: another seed is far away
    dlm-train -o s --run r $options -s 1 -q >s.tsv
    awk -v d="$(apart a.tsv s.tsv)" 'BEGIN { exit !(d > 3e-3) }'
}

@test "scores do not depend on --batch, the seed is part of them, and the noise type can be named" {
    dlm-train -d "$data" -o run $shape --noise balanced --steps 20 -q >/dev/null
    dlm-eval -c run -d "$data" -j 2 >a; dlm-eval -c run -d "$data" -j 2 --batch 3 >b; cmp a b
    dlm-eval -c run -d "$data" -j 2 -s 5 >c
    [ "$(column_of elbo a)" != "$(column_of elbo c)" ]
    near "$(column_of elbo a)" "$(column_of elbo c)" "$(awk -v s="$(column_of elbo_se a)" 'BEGIN { print 8 * s }')"
    [ "$(dlm-eval -c run -d "$data" -j 2 --noise masked --tokens 3200 | column_of noise /dev/stdin)" = masked ]
    [ "$(dlm-eval -c run -d "$data" --split train --tokens 33 | column_of tokens /dev/stdin)" = 64 ]
}

@test "curricula, unique tokens, epochs, schedules, AdamW, clipping, fine-tuning" {
    dlm-train -d "$data" -o a $shape --noise 'masked>uniform@0.2:0.8' --steps 20 --schedule wsd --clip 0.5 -q >a.tsv
    [ "$(column_of noise a.tsv train | sort -u)" = "masked..uniform@0.2:0.8" ]
    [ "$(column_of noise a.tsv val | sort -u)" = uniform ]
    dlm-train -d "$data" -o b $shape --noise masked --steps 20 --schedule cosine --min-lr 0.01 --optimizer adamw --lr 0.05 --weight-decay 0.1 --unique-tokens 320 -q >b.tsv
    [ "$(column_of unique_tokens b.tsv | tail -n 1)" = 320 ]
    sequences=$(awk -F'\t' '$1 == "train" { n += $3 } END { print n }' "$data/manifest.tsv")
    run --separate-stderr dlm-train -d "$data" -o c ${shape/--epochs 1000/} --noise masked --steps $((sequences / 8 + 1)) -q
    fails_with 1 "passes over .*--epochs or --unique-tokens"
    [ ! -e c ]
    dlm-train -d "$data" -o d $shape --noise uniform --init a --steps 5 --warmup 1 -q >d.tsv
    first=$(column_of elbo d.tsv val | head -n 1)
    near "$first" "$(column_of elbo a.tsv val | tail -n 1)" 1e-5
}

# setting NAME CKPT: its number in state.json.
setting() { sed -n "s/^ *\"$1\": \([^,]*\),*$/\1/p" "$2/state.json"; }
# four CKPT: the settings in which paper and release differ: independent levels, empty tokens, prompts, uniform draw.
four() { echo "$(setting p-independent "$1" | cut -c 1-6) $(setting max-empty "$1" | cut -c 1-6) $(setting prompt-density "$1") $(setting uniform-draw "$1")"; }

@test "--compat sets what paper and release differ in, an option of its own wins, and the state says so" {
    go() { local o=$1; shift; dlm-train -d "$data" -o "$o" --run r $shape --noise high-uniform --p-prompt 0.5 --steps 12 --log-every 3 --eval-tokens 640 -q "$@" >"$o.tsv"; }
    go default; go paper --compat paper; go release --compat release; go prompts --prompt-density paper; go any --uniform-draw any
    go own --p-independent 0.3 --uniform-draw unmasked --compat release
    [ "$(four default)" = "0.5 0.2000 0 0" ]
    [ "$(four paper)" = "0.5 0.2000 1 0" ]
    [ "$(four release)" = "0.2000 0.0 0 1" ]
    [ "$(four own)" = "0.2999 0.0 0 0" ]
    cmp prompts/model.safetensors paper/model.safetensors # which is all that the paper differs in from what is done unasked
    curves=$(for o in default paper release any own; do column_of loss $o.tsv train | tail -n 1; done | sort -u | wc -l)
    [ "$curves" -eq 5 ]
    for o in paper release any own; do # none of it touches the model that starts, nor its score
        [ "$(column_of elbo $o.tsv val | head -n 1)" = "$(column_of elbo default.tsv val | head -n 1)" ]
    done
    # Going on compares them, however they were said.
    go paper --continue --p-independent 0.5 --max-empty 0.2 --prompt-density paper --uniform-draw unmasked
    go release --continue --compat release
    for case in "paper release p-independent" "release paper p-independent" "default paper prompt-density" "own release p-independent"; do
        read -r o which name <<<"$case"
        run --separate-stderr dlm-train --resume $o --compat $which
        fails_with 2 "^dlm-train: --$name differs from the run"
    done
    run --separate-stderr dlm-train --resume any --uniform-draw unmasked
    fails_with 2 "^dlm-train: --uniform-draw differs"
    # A state of an earlier version lacks two of them: it did what is done unasked.
    cp -r default earlier; sed -i -Ez 's/,\s*"prompt-density": [0-9]+,\s*"uniform-draw": [0-9]+//' earlier/state.json
    [ "$(four earlier)" = "0.5 0.2000  " ]
    dlm-train --resume earlier --steps 20 -q >/dev/null
    dlm-train --resume default --steps 20 -q >/dev/null
    cmp earlier/model.safetensors default/model.safetensors
}

@test "a uniform draw of any id trains where the exact one can draw no mask, and scores by the exact one" {
    dlm-train -d "$data" -o any $shape --noise uniform --uniform-draw any --steps 200 -q >any.tsv
    awk -v a="$(column_of elbo any.tsv val | tail -n 1)" -v b="$(column_of elbo any.tsv val | head -n 1)" 'BEGIN { exit !(a < b - 0.1) }'
    near "$(dlm-eval -c any -d "$data" --tokens 262144 | column_of elbo /dev/stdin)" "$(column_of elbo any.tsv val | tail -n 1)" 2e-6
}

# header FILE: the header of a safetensors file.
header() { local n; n=$(od -An -tu8 -N8 "$1" | tr -d ' '); head -c $((n + 8)) "$1" | tail -c +9; }

@test "--state-dtype bf16: half the model's bytes, and resumed to the bit" {
    for dtype in f32 bf16; do
        dlm-train -d "$data" -o whole.$dtype --run r $shape --noise balanced --steps 40 --state-dtype $dtype -q >$dtype.tsv
    done
    diff <(rows f32.tsv) <(rows bf16.tsv) # the run itself is the same
    dlm-train -d "$data" -o half --run r $shape --noise balanced --steps 20 --state-dtype bf16 -q >/dev/null
    dlm-train --resume half --steps 40 -q >/dev/null
    diff <(rows half/metrics.tsv | grep -v "$(printf 'val\t.*\t20\t')") <(rows bf16.tsv)
    cmp half/model.safetensors whole.bf16/model.safetensors
    cmp half/optimizer.safetensors whole.bf16/optimizer.safetensors
    grep -q '"dtype": "bfloat16"' whole.bf16/config.json
    grep -q '"dtype": "float32"' whole.f32/config.json
    [ "$(setting state-dtype whole.bf16)" = 1 ]
    # The same names and shapes, in another type, and half the data.
    diff <(header whole.f32/model.safetensors | grep -oE '"[a-z0-9_.]+":\{"dtype":"F32","shape":[^]]*\]' | sed 's/F32/BF16/') \
        <(header whole.bf16/model.safetensors | grep -oE '"[a-z0-9_.]+":\{"dtype":"BF16","shape":[^]]*\]')
    run -1 grep -q '"F32"' <(header whole.bf16/model.safetensors)
    f=whole.f32/model.safetensors b=whole.bf16/model.safetensors
    [ $((2 * ($(wc -c <$b) - 8 - $(header $b | wc -c)))) -eq $(($(wc -c <$f) - 8 - $(header $f | wc -c))) ]
    header whole.bf16/optimizer.safetensors | grep -qE '"lm_head.weight.mu":\{"dtype":"F32".*"lm_head.weight.low":\{"dtype":"I16"'
    # bf16 weights score nearly the same.
    near "$(dlm-eval -c whole.bf16 -d "$data" | column_of elbo /dev/stdin)" "$(dlm-eval -c whole.f32 -d "$data" | column_of elbo /dev/stdin)" 0.01
    [ "$(dlm-eval -c whole.bf16 -d "$data" | column_of elbo /dev/stdin)" != "$(dlm-eval -c whole.f32 -d "$data" | column_of elbo /dev/stdin)" ]
    run --separate-stderr dlm-train --resume half --state-dtype f32
    fails_with 2 "^dlm-train: --state-dtype differs"
    cp whole.f32/optimizer.safetensors half/optimizer.safetensors
    run --separate-stderr dlm-train --resume half --steps 50
    fails_with 1 "optimizer.safetensors: tensor '.*\.low' is missing"
}

@test "--ema scores and saves the average of the weights, and trains as without" {
    go() { local o=$1; shift; dlm-train -d "$data" -o "$o" --run r $shape --lr 0.6 --noise balanced --steps 120 --eval-every 60 --log-every 20 -q "$@" >"$o.tsv"; }
    last() { column_of elbo "$1" val | tail -n 1; }
    go plain; go mean --ema 0.9; go tiny --ema 1e-9
    kind_of() { rows "$2" | awk -F'\t' -v kind="$1" '$2 == kind'; }
    diff <(kind_of train plain.tsv) <(kind_of train mean.tsv)
    diff <(kind_of val plain.tsv | head -n 1) <(kind_of val mean.tsv | head -n 1) # nothing to average yet
    awk -v a="$(last mean.tsv)" -v b="$(last plain.tsv)" 'BEGIN { exit !(a < b - 1e-3) }' # at a constant learning rate it helps
    near "$(last tiny.tsv)" "$(last plain.tsv)" 2e-5 # a mean of the last step alone
    [ "$(dlm-eval -c mean -d "$data" --tokens 262144 | column_of elbo /dev/stdin)" = "$(last mean.tsv)" ]
    diff <(header plain/model.safetensors) <(header mean/model.safetensors) # nothing that another reader would stumble on
    header mean/optimizer.safetensors | grep -q '"lm_head.weight.raw":{"dtype":"F32"'
    # Resumed to the bit, from weights of either type.
    for dtype in f32 bf16; do
        rm -rf half.* whole.*
        go whole.$dtype --ema 0.9 --state-dtype $dtype
        go half.$dtype --ema 0.9 --state-dtype $dtype --steps 60
        dlm-train --resume half.$dtype --steps 120 -q >/dev/null
        diff <(rows whole.$dtype/metrics.tsv) <(rows half.$dtype/metrics.tsv)
        cmp whole.$dtype/model.safetensors half.$dtype/model.safetensors
        cmp whole.$dtype/optimizer.safetensors half.$dtype/optimizer.safetensors
        diff <(rows mean.tsv) <(rows whole.$dtype.tsv)
    done
    # Fine-tuning starts from the average.
    dlm-train -d "$data" -o tuned $shape --noise balanced --init mean --steps 5 -q >tuned.tsv
    near "$(column_of elbo tuned.tsv val | head -n 1)" "$(last mean.tsv)" 1e-6
    run --separate-stderr dlm-train --resume mean --ema 0.99
    fails_with 2 "^dlm-train: --ema differs from the run"
    run --separate-stderr dlm-train --resume plain --ema 0.9
    fails_with 2 "^dlm-train: --ema differs from the run"
    cp plain/optimizer.safetensors mean/
    run --separate-stderr dlm-train --resume mean --steps 130
    fails_with 1 "optimizer.safetensors: tensor '.*\.raw' is missing"
    run --separate-stderr dlm-train -d "$data" -o x $shape --noise masked --steps 5 --ema 1
    fails_with 2 "^dlm-train: --ema"
}

@test "--memory compact: bf16 state that trains as float32 does, and resumes to the bit" {
    go() { local o=$1; shift; dlm-train -d "$data" -o "$o" --run r $shape --noise balanced --steps 60 --log-every 10 --eval-tokens 4096 --dtype bf16 -j 1 -q "$@" --metrics "$o.tsv"; }
    last() { column_of elbo "$1" val | tail -n 1; }
    for optimizer in laprop adamw; do
        lr=$([ $optimizer = adamw ] && echo 0.03 || echo 0.2)
        go full.$optimizer --optimizer $optimizer --lr $lr
        go compact.$optimizer --optimizer $optimizer --lr $lr --memory compact
        near "$(last compact.$optimizer.tsv)" "$(last full.$optimizer.tsv)" 0.02
        [ "$(last compact.$optimizer.tsv)" != "$(last full.$optimizer.tsv)" ]
    done
    # Exactly resumed, with weights of either type in the files.
    for dtype in f32 bf16; do
        [ $dtype = f32 ] && mv compact.laprop whole.f32 && mv compact.laprop.tsv whole.f32.tsv || go whole.$dtype --memory compact --state-dtype $dtype
        go half.$dtype --memory compact --state-dtype $dtype --steps 30
        dlm-train --resume half.$dtype --steps 60 -j 1 -q --metrics half.tsv
        diff <(rows whole.$dtype.tsv) <(rows half.tsv | grep -v "$(printf 'val\t.*\t30\t')")
        cmp whole.$dtype/model.safetensors half.$dtype/model.safetensors
        cmp whole.$dtype/optimizer.safetensors half.$dtype/optimizer.safetensors
    done
    diff <(rows whole.f32.tsv) <(rows whole.bf16.tsv)
    # The checkpoint is one like any other, its moments in two bytes each.
    diff <(header full.laprop/model.safetensors) <(header whole.f32/model.safetensors)
    header whole.f32/optimizer.safetensors | grep -q '"lm_head.weight.mu":{"dtype":"BF16"'
    near "$(dlm-eval -c whole.f32 -d "$data" --tokens 4096 --dtype bf16 | column_of elbo /dev/stdin)" "$(last whole.f32.tsv)" 2e-3
    dlm-train -d "$data" -o tuned $shape --noise balanced --init whole.f32 --memory compact --dtype bf16 --eval-tokens 4096 --steps 5 -q >tuned.tsv
    near "$(column_of elbo tuned.tsv val | head -n 1)" "$(last whole.f32.tsv)" 1e-6
    # Less memory, and nothing that it cannot do is passed over.
    value() { dlm-train --plan -d "$data" $shape --noise masked --steps 10 "$@" | awk -F'\t' '$1 == "memory_device" { print $2 }'; }
    [ "$(value --dtype bf16 --memory compact)" -lt "$(value --dtype bf16)" ]
    check() { local want=$1; shift; run --separate-stderr dlm-train "$@"; fails_with 2 "^dlm-train: .*$want"; }
    check "--dtype f32 does not go" -d "$data" -o x $shape --noise masked --steps 5 --memory compact --dtype f32
    check "--ema does not go" -d "$data" -o x $shape --noise masked --steps 5 --memory compact --dtype auto --ema 0.9
    check "--memory differs" --resume whole.f32 --memory full
    [ ! -e x ]
}

@test "--recompute takes less memory, and changes no bit" {
    for level in none norms mlp layer; do
        dlm-train -d "$data" -o r.$level --run r $shape --noise balanced --steps 30 --recompute $level -q >$level.tsv
        dlm-train --plan --model L8-D512 --vocab-size 4096 --seq-len 1024 --batch 64 --micro-batch 16 --noise balanced --steps 30 --warmup 0 --recompute $level | awk -F'\t' '$1 == "memory_activations" { print $2 }' >>bytes
        [ $level = none ] || cmp r.none/optimizer.safetensors r.$level/optimizer.safetensors
    done
    sort -rnu bytes | cmp - bytes
    dlm-train --resume r.none --steps 40 --recompute layer -q >/dev/null # may change
    dlm-train --resume r.layer --steps 40 --recompute auto -q >/dev/null
    cmp r.none/model.safetensors r.layer/model.safetensors
}

@test "memory that does not suffice is told with what would" {
    plan() { dlm-train --plan --model L8-D512 --vocab-size 65536 --seq-len 1024 --noise masked --steps 10 --warmup 0 --batch 64 --micro-batch 16 "$@"; }
    value() { awk -F'\t' -v q="$1" '$1 == q { print $2 }'; }
    # auto takes what fits, and no more
    plan --recompute none >none && plan --recompute layer >layer && plan --recompute mlp >mlp
    [ "$(plan --device-memory "$(value memory_device <none)" | value recompute)" = none ]
    [ "$(plan --device-memory $(($(value memory_device <none) - 1)) | value recompute)" = norms ]
    [ "$(plan --device-memory $(($(value memory_device <mlp) - 1)) | value recompute)" = layer ]
    [ "$(plan --device-memory 1M | value recompute)" = layer ]
    [ "$(plan --device-memory 1M | value micro_batch_most)" = 0 ]
    # the largest micro-batch fits, and one more does not
    most=$(plan --device-memory 4G | value micro_batch_most)
    [ "$most" -gt 1 ] && [ "$most" -lt 64 ]
    [ "$(plan --device-memory 4G --micro-batch "$most" | value memory_device)" -le 4000000000 ]
    [ "$(plan --device-memory 4G --micro-batch $((most + 1)) | value memory_device)" -gt 4000000000 ]
    # A model of 10 billion parameters trains on one device of 140 GB, and without the compact state on none.
    large() { dlm-train --plan --width 4608 --layers 34 --heads 36 --vocab-size 131072 --seq-len 2048 --noise uniform --steps 10 --warmup 0 --batch 512 --device-memory 140G "$@"; }
    [ "$(large --memory compact | value micro_batch_most)" -ge 4 ]
    [ "$(large | value micro_batch_most)" = 0 ]
    # on this machine
    run --separate-stderr dlm-train -d "$data" -o x --noise masked --width 4096 --layers 2000 --steps 5 --warmup 0
    fails_with 1 "^dlm-train: no memory for this model: training takes [0-9.]+ GB, .* GB are free; not even --micro-batch 1 would fit; --memory compact takes less"
    run --separate-stderr dlm-train -d "$data" -o x --noise masked --width 64 --layers 2 --steps 5 --warmup 0 --batch 1G --micro-batch 900M --epochs 1e9
    fails_with 1 "^dlm-train: no memory for this model: .* GB are free; --micro-batch [0-9]+ would fit"
    [ ! -e x ]
}

@test "--plan says what a run would cost and trains nothing" {
    dlm-train --plan --model L8-D512 --vocab-size 131072 --seq-len 2048 --noise masked --flops 1e16 --warmup 0 >plan.tsv
    value() { awk -F'\t' -v q="$1" '$1 == q { print $2 }' plan.tsv; }
    [ "$(value params_published)" = 25223680 ]
    p=$(value params)
    [ "$(value params_embedding)" = 134217728 ]
    near "$(value flops_tok)" "$(awk -v p="$p" 'BEGIN { printf "%d", 6 * p + 12 * 8 * 512 * 2048 }')" 1
    [ "$(value memory_total)" -gt 100000000 ]
    dlm-train --plan -d "$data" $shape --noise masked --tokens 2000 >plan.tsv
    [ "$(value steps)" = 8 ]
    [ "$(value params)" = "$(dlm-train -d "$data" -o run $shape --noise masked --steps 5 | column_of params /dev/stdin | head -n 1)" ]
}

@test "misuse is told by the option's name, with status 2" {
    check() { local want=$1; shift; run --separate-stderr dlm-train "$@"; fails_with 2 "^dlm-train: .*$want"; }
    check "-o CKPT is missing" -d "$data" $shape --noise masked --steps 5
    check "-d DIR is missing" -o x $shape --noise masked --steps 5
    check "--noise, or --objective ar" -d "$data" -o x $shape --steps 5
    check "the model is missing" -d "$data" -o x --noise masked --steps 5
    check "one of --steps, --tokens, --flops" -d "$data" -o x $shape --noise masked
    check "one of --steps" -d "$data" -o x $shape --noise masked --steps 5 --tokens 7
    check "--warmup 4 is as long" -d "$data" -o x $shape --noise masked --steps 4
    check "'masqued'" -d "$data" -o x $shape --noise masqued --steps 5
    check "shift:1,2" -d "$data" -o x $shape --noise shift:1,2 --steps 5
    check "does not apply" -d "$data" -o x $shape --noise masked --objective ar --steps 5
    check "heads" -d "$data" -o x --width 16 --layers 1 --heads 3 --noise masked --steps 5 --warmup 0
    check "--lr takes a number" -d "$data" -o x $shape --noise masked --steps 5 --lr fast
    check "--vocab-size" -d "$data" -o x $shape --noise masked --steps 5 --vocab-size 10
    check "--state-dtype is one of f32|bf16" -d "$data" -o x $shape --noise masked --steps 5 --state-dtype f16
    check "--compat is one of paper|release, not 'jax'" -d "$data" -o x $shape --noise masked --steps 5 --compat jax
    check "operand 'y'" -d "$data" -o x $shape --noise masked --steps 5 y
    [ ! -e x ]
    run --separate-stderr dlm-eval -d "$data"
    fails_with 2 "^dlm-eval: -c CKPT is missing"
}

@test "failures are one clear line, with status 1, and leave earlier results intact" {
    check() { local want=$1; shift; run --separate-stderr dlm-train "$@"; fails_with 1 "^dlm-train: .*$want"; }
    check "'nowhere'" -d nowhere -o x $shape --noise masked --steps 5
    check "corpus.txt" -d "$BATS_FILE_TMPDIR/corpus.txt" -o x $shape --noise masked --steps 5
    DLM_LIBDIR=absent check "the module dlm-cuda.so is not installed" -d "$data" -o x $shape --noise masked --steps 5 --device cuda
    check "'x' is no checkpoint" --resume x
    check "no memory for this model: .*GB are free" -d "$data" -o x --width 65536 --layers 8000 --heads 1024 --noise masked --steps 5 --warmup 0
    DLM_LIBDIR=$PWD OMPI_COMM_WORLD_SIZE=2 check "one of 2 processes" -d "$data" -o x $shape --noise masked --steps 5
    [ ! -e x ]
    dlm-train -d "$data" -o run $shape --noise masked --steps 6 -q >run.tsv
    cp -r run before
    check "'run' exists" -d "$data" -o run $shape --noise masked --steps 6
    diff -r run before
    # A full disk while the next checkpoint is written: the old one stands, nothing lies beside it.
    run --separate-stderr bash -c "trap '' XFSZ; ulimit -f 20; dlm-train --resume run --steps 12 --save-every 3 -q >/dev/null"
    fails_with 1 "^dlm-train: .*(File too large|cannot write)"
    diff -r run before
    [ "$(ls -d run*)" = "$(printf 'run\nrun.tsv')" ]
    run --separate-stderr bash -c "dlm-train -d '$data' -o full $shape --noise masked --steps 5 -q >/dev/full"
    fails_with 1 "^dlm-train: cannot write standard output: No space left"
    run --separate-stderr bash -c "set -o pipefail; dlm-train -d '$data' -o pipe $shape --noise masked --steps 30000 -q | head -n 2 >/dev/null; exit \${PIPESTATUS[0]}"
    [ "$status" -eq 141 ] && [ -z "$stderr" ]
}

@test "a diverged run ends with status 3 and keeps its last good checkpoint" {
    dlm-train -d "$data" -o run $shape --noise masked --steps 6 -q >/dev/null
    cp -r run before
    run --separate-stderr dlm-train -d "$data" -o bad $shape --noise masked --steps 60 --lr 1e36 --warmup 0 --save-every 0 --log-every 1000 --eval-every 1000
    [ "$status" -eq 3 ]
    [[ ${stderr_lines[0]} =~ ^dlm-train:\ diverged ]]
    [ ! -e bad ]
}

@test "checkpoints that are damaged or do not fit are refused, with the file and the tensor" {
    dlm-train -d "$data" -o run $shape --noise masked --steps 6 -q >/dev/null
    check() { local want=$1; run --separate-stderr dlm-eval -c bad -d "$data"; fails_with 1 "^dlm-eval: .*bad.*$want" && rm -rf bad; }
    cp -r run bad; truncate -s -1 bad/model.safetensors; check "model.safetensors"
    cp -r run bad; sed -i 's/"intermediate_size": 64/"intermediate_size": 60/' bad/config.json; check "model.safetensors.*up_proj"
    cp -r run bad; sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' bad/config.json; check "model.layers.2"
    cp -r run bad; sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 1/' bad/config.json; check "model.layers.1"
    cp -r run bad; sed -i '/hidden_size/d' bad/config.json; check "hidden_size"
    cp -r run bad; printf '{' >bad/config.json; check "config.json"
    cp -r run bad; rm bad/model.safetensors; check "model.safetensors"
    cp -r run bad; cp "$BATS_FILE_TMPDIR/other.json" bad/tokenizer.json
    run --separate-stderr dlm-eval -c bad -d "$data"
    fails_with 1 "different vocabularies"
    run --separate-stderr dlm-eval -c run -d "$BATS_FILE_TMPDIR/other"
    fails_with 1 "different vocabularies"
    rm -rf bad; cp -r run bad; sed -i 's/"step": 6/"step": "six"/' bad/state.json
    run --separate-stderr dlm-train --resume bad
    fails_with 1 "state.json is not a training state"
    rm -rf bad; cp -r run bad; rm bad/optimizer.safetensors
    run --separate-stderr dlm-train --resume bad --steps 9
    fails_with 1 "optimizer.safetensors"
}

@test "dlm-train | tee | dlm-fitlaw works, and dlm-tokenize | dlm-shard" {
    corpus 30000 3 | dlm-tokenize -t "$BATS_FILE_TMPDIR/vocab.json" --split blank 2>/dev/null | dlm-shard -q -n 16 --val 0.1 -o d2
    dlm-train -d d2 -o run $shape --noise masked --steps 30 --eval-every 5 -q | tee run.tsv | dlm-fitlaw power -x tokens -y elbo --where 'kind == "val" && step > 0' -q --bootstrap 50 >law.tsv
    [ "$(head -n 1 law.tsv | cut -f1-4)" = "$(printf 'law\tgroup\tterm\tvalue')" ]
    [ "$(awk -F'\t' '$3 == "k" { n++ } END { print n }' law.tsv)" = 1 ]
}
