# dlm-sample at the shell: what it writes, what does not change it, what it refuses.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    "$BIN"/tests/sample_files balanced diffusion balanced
    "$BIN"/tests/sample_files masked diffusion masked
    "$BIN"/tests/sample_files mixed diffusion mix:0.5
    "$BIN"/tests/sample_files ar ar masked
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

# differ A B, lacks PATTERN FILE: as commands of their own, since a `!` in the middle of a test cannot fail it.
differ() {
    ! cmp -s "$1" "$2"
}

lacks() {
    ! grep -qE "$1" "$2"
}

sample() {
    dlm-sample -j 1 --steps 8 "$@"
}

@test "the same seed gives the same bytes, another seed others" {
    for order in ancestral adaptive; do
        sample -c mixed --sampler $order -n 5 --format jsonl >one
        sample -c mixed --sampler $order -n 5 --format jsonl >two
        sample -c mixed --sampler $order -n 5 --format jsonl -s 1 >three
        cmp one two
        differ one three
    done
    dlm-sample -j 1 -c ar -n 5 >one
    dlm-sample -j 1 -c ar -n 5 -s 1 >three
    differ one three
}

@test "no text depends on --batch or --count" {
    sample -c balanced -n 25 --format jsonl >all
    [ "$(wc -l <all)" -eq 25 ]
    for b in 1 4 1000; do
        sample -c balanced -n 25 --batch $b --format jsonl | cmp - all
    done
    sample -c balanced -n 3 --format jsonl | cmp - <(head -n 3 all)
    dlm-sample -c ar -n 15 --format jsonl -j 1 >all
    dlm-sample -c ar -n 15 --batch 4 --format jsonl -j 1 | cmp - all
}

@test "prompts are kept, from --prompt and from JSON Lines" {
    for c in balanced masked mixed; do
        sample -c $c -n 3 --prompt 'the th' --format jsonl >out
        [ "$(grep -c '"text":"the th' out)" -eq 3 ]
        [ "$(grep -c '"prompt":"the th"' out)" -eq 3 ]
        [ "$(grep -c '"ids":\[261,36,260,' out)" -eq 3 ]
    done
    dlm-sample -j 1 -c ar -n 2 --prompt 'the th' >out
    [ "$(grep -ac '^the th' out)" -ge 2 ]
    printf '%s\n' '{"q":"one"}' '{"q":"","other":[1]}' '{"q":"three"}' >p.jsonl
    sample -c balanced -n 2 --jsonl q --format jsonl p.jsonl >out
    [ "$(wc -l <out)" -eq 6 ]
    [ "$(sed -n 's/.*"prompt":"\([a-z]*\)".*/\1/p' out | tr '\n' ' ')" = "one one   three three " ]
    sample -c balanced -n 2 --jsonl q --format jsonl - <p.jsonl | cmp - out
    sample -c balanced -n 2 --jsonl q --format jsonl <p.jsonl | cmp - out
    sample -c balanced -l 3 --prompt abc | grep -qx abc
}

@test "the mask never stands in a finished text" {
    for args in '-c balanced' '-c masked' '-c mixed' '-c balanced --sampler adaptive' '-c mixed --sampler adaptive' '-c masked --sampler adaptive --temperature 1'; do
        dlm-sample -j 1 $args --steps 3 -n 30 --format jsonl >out
        [ "$(wc -l <out)" -eq 30 ]
        lacks '[[,]3[],]' out
        lacks '[[,]26[4-9][],]' out
    done
}

@test "--length, --schedule, --temperature, --top-k and --top-p do what they say" {
    sample -c masked -l 5 --format jsonl >out
    [ "$(grep -o '"ids":\[[^]]*' out | tr ',' '\n' | wc -l)" -le 5 ]
    sample -c balanced --format jsonl >linear
    sample -c balanced --schedule linear --format jsonl | cmp - linear
    sample -c balanced --schedule cosine --format jsonl >cosine
    differ cosine linear
    dlm-sample -j 1 -c ar -n 2 --temperature 0 --format jsonl | sed 's/,"seed.*//' >out
    [ "$(sort -u out | wc -l)" -eq 1 ] # the likeliest text, whatever the seed
    dlm-sample -j 1 -c ar -n 2 --top-k 1 --format jsonl | sed 's/,"seed.*//' | cmp - out
    dlm-sample -j 1 -c ar -n 2 --top-p 0.000001 --format jsonl | sed 's/,"seed.*//' | cmp - out
    dlm-sample -j 1 -c ar -n 2 --top-p 0.9 --format jsonl | sed 's/,"seed.*//' >cut
    differ cut out
}

@test "--format tokens is a token stream of as many documents" {
    sample -c balanced -n 4 --format tokens >s.tok.zst
    sample -c balanced -n 4 --format jsonl >s.jsonl
    zstd -dc s.tok.zst | od -An -v -tu2 | tr -s ' \n' '\n' | sed '/^$/d' >got
    sed 's/.*"ids":\[\([^]]*\)\].*/\1,1/' s.jsonl | tr ',' '\n' >want
    cmp got want
    sample -c balanced -n 4 --format tokens -o t.tok.zst
    cmp s.tok.zst t.tok.zst
    run --separate-stderr script -qec "dlm-sample -j 1 -c balanced --format tokens" /dev/null
    [ "$status" -ne 0 ]
    [[ $output == *terminal* ]]
}

@test "--stats counts steps, calls and tokens" {
    run -0 --separate-stderr sample -c masked -n 2 --prompt abcd --stats
    [ "${stderr_lines[0]}" = "$(printf 'sampler\ttexts\tlength\tsteps\tmodel_calls\ttokens\tseconds\ttok_s\tdtype\tdevice\tblock\tentropy\tdistinct_1\tdistinct_2\tdistinct_3\telbo\telbo_se\tjudge_elbo\tjudge_elbo_se')" ]
    [[ ${stderr_lines[1]} == "ancestral"$'\t'"2"$'\t'"24"$'\t'"8"$'\t'[1-8]$'\t'"40"$'\t'* ]]
    run -0 --separate-stderr dlm-sample -j 1 -c masked --sampler adaptive --steps 500 --stats
    calls=$(cut -f 5 <<<"${stderr_lines[1]}")
    [ "$calls" -le 25 ] # 24 positions, one at a time; what does not change is not computed again
    run -0 --separate-stderr dlm-sample -j 1 -c ar --stats
    [[ ${stderr_lines[1]} == autoregressive$'\t'* ]]
}

@test "block by block: prompts are kept, no text depends on another, and steps are shared" {
    for order in ancestral adaptive; do
        sample -c mixed --sampler $order --block 5 -n 7 --prompt 'the th' --format jsonl >all
        [ "$(grep -c '"text":"the th' all)" -eq 7 ]
        sample -c mixed --sampler $order --block 5 -n 7 --batch 2 --prompt 'the th' --format jsonl | cmp - all
        sample -c mixed --sampler $order --block 5 -n 7 -s 1 --prompt 'the th' --format jsonl >other
        [ $order = adaptive ] || differ all other
    done
    sample -c masked --sampler block --block 7 --format jsonl >one
    sample -c masked --sampler adaptive --block 7 --format jsonl | cmp - one
    sample -c balanced --sampler block >one # of 32: a single block here
    sample -c balanced --sampler adaptive --block 32 | cmp - one
    # 24 positions in blocks of 6: each has a quarter of the steps, and each but the first computes its prefix once
    run -0 --separate-stderr dlm-sample -j 1 -c balanced --block 6 --steps 8 --stats -s 3
    steps=$(cut -f 4 <<<"${stderr_lines[1]}") calls=$(cut -f 5 <<<"${stderr_lines[1]}")
    [ "$(cut -f 11 <<<"${stderr_lines[1]}")" = 6 ]
    [ $((steps % 2)) -eq 0 ] && [ "$steps" -le 8 ] && [ "$calls" -le $((steps + steps / 2 - 1)) ]
}

@test "gaps are filled, and nothing else changes" {
    sample -c balanced --infill --prompt 'the <|mask|> th<|mask|><|mask|>e' -n 6 --format jsonl >out
    [ "$(wc -l <out)" -eq 6 ]
    [ "$(grep -c '"text":"the .* th.*e"' out)" -eq 6 ]
    [ "$(grep -c '"prompt":"the <|mask|> th<|mask|><|mask|>e"' out)" -eq 6 ]
    lacks '<\|mask\|>.*"prompt"' out
    # a mark of three tokens is three marks
    sample -c balanced --infill --prompt 'the <|mask|>.' --gap 3 --format jsonl | sed 's/"prompt":.*"ids"/"ids"/' >one
    sample -c balanced --infill --prompt 'the <|mask|><|mask|><|mask|>.' --format jsonl | sed 's/"prompt":.*"ids"/"ids"/' | cmp - one
    # texts of several lengths, one by one or together
    printf '{"q":"a<|mask|>b"}\n{"q":"<|mask|> the the th<|mask|>"}\n{"q":"the"}\n' >gaps
    sample -c masked --infill --jsonl q gaps --format jsonl >all
    [ "$(wc -l <all)" -eq 3 ]
    sample -c masked --infill --jsonl q gaps --format jsonl --batch 1 | cmp - all
    grep -q '"text":"the","prompt":"the"' all
    run --separate-stderr sample -c masked --infill --prompt 'x<|mask|>' --gap 30
    fails_with 1 'the prompt has 31 tokens'
}

@test "a text is corrected, and keeps its length" {
    printf 'the the the' >text
    sample -c balanced --revise text >out
    [ "$(wc -l <out)" -eq 1 ]
    sample -c balanced --revise - <text | cmp - out
    printf '{"q":"the the the"}\n' | sample -c balanced --revise - --jsonl q | cmp - out
    dlm-sample -j 1 -c balanced --revise text --steps 1 --format jsonl >one
    [ "$(grep -o '"ids":[^]]*' one | tr ',' '\n' | wc -l)" -eq "$(sample -c balanced --revise text --format jsonl | grep -o '"ids":[^]]*' | tr ',' '\n' | wc -l)" ]
    run --separate-stderr sample -c masked --revise text
    fails_with 2 "masked noise, under which no id that stands is wrong"
    run --separate-stderr sample -c balanced --revise absent
    fails_with 1 "cannot open 'absent'"
    head -c 500 /dev/zero | tr '\0' x >long
    run --separate-stderr sample -c balanced --revise long
    fails_with 1 'long: the prompt has 500 tokens, more than the length of a sample, 24'
}

@test "--watch draws on the terminal and changes nothing" {
    command -v script >/dev/null || skip "there is no script(1) to make a terminal"
    sample -c balanced -n 2 --format jsonl >plain
    TERM=xterm script -qec "stty rows 20 cols 30; $BIN/dlm-sample -j 1 --steps 8 -c balanced -n 2 --format jsonl --watch >watched" /dev/null </dev/null >seen
    cmp plain watched
    grep -q 'text 0' seen
    grep -q $'\033\[J' seen
}

# stat NAME: a figure of the row in $stderr.
stat() {
    awk -F'\t' -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } END { print $at[name] }' <<<"$stderr"
}

@test "--stats tells variety and likelihood, and a judge judges" {
    run -0 --separate-stderr sample -c balanced -n 4 --stats
    [ "$(stat judge_elbo)" = NA ]
    elbo=$(stat elbo)
    awk -v e="$elbo" -v s="$(stat elbo_se)" -v h="$(stat entropy)" -v d="$(stat distinct_1)" 'BEGIN { exit !(e > 0 && s > 0 && h > 0 && h <= log(24) && d > 0 && d <= 1) }'
    run -0 --separate-stderr sample -c balanced -n 4 --stats --judge-checkpoint balanced # itself: the same draws
    [ "$(stat judge_elbo)" = "$elbo" ] && [ "$(stat elbo)" = "$elbo" ]
    run -0 --separate-stderr sample -c balanced -n 4 --stats --judge-checkpoint ar
    awk -v e="$(stat judge_elbo)" 'BEGIN { exit !(e > 0) }'
    [ "$(stat elbo)" = "$elbo" ]
    run -0 --separate-stderr sample -c balanced -n 4 --stats --levels 2
    [ "$(stat elbo)" != "$elbo" ]
    run -0 --separate-stderr sample -c balanced -n 1 --stats # one text has no standard error
    [ "$(stat elbo_se)" = NA ]
    run --separate-stderr sample -c balanced --judge-checkpoint ar; fails_with 2 'judge-checkpoint goes with --stats'
    run --separate-stderr sample -c balanced --levels 3; fails_with 2 'levels goes with --stats'
    run --separate-stderr sample -c balanced --stats --judge-checkpoint absent; fails_with 1 "'absent'"
}

@test "a model that knows three sentences by heart gives them back from every sampler, and repairs copies" {
    [[ $(dlm-train --version) != *sanitized* ]] || skip "3000 training steps take half a minute and more under sanitizers; other tests run each sampler"
    for i in $(seq 200); do
        printf 'a fox ran north\nbig dogs sleep.\nmy hat is green\n' # a sequence each, with its end id
    done >lines
    dlm-tokenize --train -V 260 --split line -o heart.json lines -q
    dlm-tokenize -t heart.json --split line lines -q | dlm-shard -n 16 --val 0 -o heart -q
    learn=(-d heart --width 64 --layers 2 --heads 2 --batch 16 --warmup 40 --unique-tokens 9600 -j 1 -q --metrics /dev/null)
    dlm-train "${learn[@]}" -o heart.d --noise balanced --max-empty 0 --schedule wsd --steps 3000 --lr 1
    dlm-train "${learn[@]}" -o heart.ar --objective ar --steps 400 --lr 0.5
    known() { # known COUNT: so many of a hundred texts are sentences, and all three are among them, but where only one may be
        sort -u lines | grep -xFcf - texts >n
        [ "$(cat n)" -ge "$1" ] || { echo "$(cat n) of $(wc -l <texts)"; head -n 5 texts; return 1; }
    }
    dlm-sample -j 1 -c heart.d -n 100 --steps 64 >texts
    known 90
    [ "$(grep -xFf lines texts | sort -u | wc -l)" -eq 3 ]
    dlm-sample -j 1 -c heart.d -n 100 --steps 64 --block 8 --ahead 8 >texts
    known 90
    dlm-sample -j 1 -c heart.d -n 100 --steps 64 --sampler adaptive >texts
    known 90
    dlm-sample -j 1 -c heart.d -n 100 --steps 64 --sampler block --block 4 --ahead 12 >texts
    known 90
    dlm-sample -j 1 -c heart.ar -n 100 >texts
    known 90
    for prompt in 'a f' 'big' 'my hat'; do
        for c in heart.d heart.ar; do
            [ "$(dlm-sample -j 1 -c $c --prompt "$prompt")" = "$(grep -m 1 "^$prompt" lines)" ]
        done
    done
    [ "$(dlm-sample -j 1 -c heart.d --infill --prompt 'my <|mask|><|mask|><|mask|> is gr<|mask|>en')" = 'my hat is green' ]
    for copy in 'a fix ran north' 'big dogs slexp.' 'my hat it green'; do
        printf %s "$copy" | dlm-sample -j 1 -c heart.d --revise - --steps 16
    done >texts
    sort -u lines | cmp - <(sort texts)
}

@test "misuse is named" {
    while IFS='|' read -r args want; do
        run --separate-stderr dlm-sample $args
        fails_with 2 "^dlm-sample: .*$want"
    done <<'END'
-n 3|-c CKPT
-c balanced -l 25|--length 25 .*'balanced', 24
-c balanced -l 0|--length
-c balanced -n 0|--count
-c balanced --steps 0|--steps
-c balanced --steps 2.5|--steps
-c balanced --temperature -1|--temperature
-c balanced --temperature x|--temperature
-c balanced --top-p 0|--top-p
-c balanced --top-p 1.5|--top-p
-c balanced --top-k 0|--top-k
-c balanced --sampler best|--sampler
-c balanced --block 0|--block
-c balanced --infill|--infill needs --prompt or --jsonl
-c balanced --gap 3 --prompt x|--gap goes with --infill
-c balanced --ahead 3|--ahead goes with --block
-c balanced --infill --prompt x --length 5|--length does not apply to --infill
-c balanced --infill --prompt x --block 5|blocks do not apply to --infill
-c balanced --revise x --sampler block|blocks do not apply to --revise
-c balanced --revise x --sampler ancestral|--revise takes adaptive steps
-c balanced --revise x --prompt y|--revise goes with neither
-c balanced --revise x y|operand 'y'.*--revise
-c balanced --watch|--watch needs a terminal
-c balanced --sampler block --schedule cosine|--schedule
-c ar --block 4|--block does not apply
-c ar --revise x|--revise does not apply
-c ar --infill --prompt x|--infill does not apply
-c balanced --format xml|--format
-c balanced --prompt a --jsonl q|--prompt and --jsonl
-c balanced file|operand 'file'
-c balanced --sampler adaptive --schedule cosine|--schedule
-c ar --sampler ancestral|--sampler does not apply
-c ar --steps 9|--steps does not apply
-c ar --schedule cosine|--schedule does not apply
-c balanced --device gpu|--device
-c balanced --unknown|--unknown
END
}

@test "bad input: one line that says what and where, and no output left" {
    run --separate-stderr dlm-sample -c absent
    fails_with 1 "^dlm-sample: 'absent' "
    DLM_LIBDIR=absent run --separate-stderr dlm-sample -c balanced --device cuda
    fails_with 1 "^dlm-sample: --device cuda: the module dlm-cuda.so is not installed"
    run --separate-stderr sample -c balanced --prompt "$(printf '%025d' 0)" -o left
    fails_with 1 "^dlm-sample: the prompt has 25 tokens, more than .* 24"
    printf '{"q":"a"}\n{"q":\n' >bad.jsonl
    run --separate-stderr sample -c balanced --jsonl q -o left bad.jsonl
    fails_with 1 "^dlm-sample: bad.jsonl:2: not JSON"
    printf '{"q":"a"}\n{"r":"b"}\n' >bad.jsonl
    run --separate-stderr sample -c balanced --jsonl q -o left bad.jsonl
    fails_with 1 "^dlm-sample: bad.jsonl:2: .*'q'"
    run --separate-stderr sample -c balanced --jsonl q -o left nowhere.jsonl
    fails_with 1 "^dlm-sample: cannot open 'nowhere.jsonl': No such file"
    run --separate-stderr sample -c balanced --jsonl q -o left /dev/null
    fails_with 1 "^dlm-sample: there are no prompts"
    run --separate-stderr sample -c balanced --jsonl q -o left .
    fails_with 1 "^dlm-sample: cannot read '.': Is a directory"

    cp -r balanced broken
    rm broken/tokenizer.json
    run --separate-stderr sample -c broken -o left
    fails_with 1 "^dlm-sample: .*tokenizer.json"
    cp balanced/tokenizer.json broken/
    truncate -s -4 broken/model.safetensors
    run --separate-stderr sample -c broken -o left
    fails_with 1 "^dlm-sample: .*broken/model.safetensors"
    # a tensor under another name: one is missing, one too many
    sed 's/model\.norm\.weight/model.morn.weight/' balanced/model.safetensors >broken/model.safetensors
    run --separate-stderr sample -c broken -o left
    fails_with 1 "^dlm-sample: .*broken/model.safetensors.*model\.(norm|morn)\.weight"
    rm broken/config.json
    run --separate-stderr sample -c broken -o left
    fails_with 1 "^dlm-sample: 'broken' "
    run --separate-stderr sample -c balanced -o absent/out
    fails_with 1 "^dlm-sample: .*absent/out"
    [ ! -e left ] && [ -z "$(ls | grep left)" ]
}

@test "a full disk and a closed pipe are no success" {
    for format in text jsonl tokens; do
        run --separate-stderr bash -c "dlm-sample -j 1 --steps 2 -c balanced --format $format >/dev/full"
        fails_with 1 "^dlm-sample: cannot write standard output"
    done
    run --separate-stderr sample -c balanced -o /dev/full
    fails_with 1 "^dlm-sample: .*/dev/full"
    # enough to overfill a pipe whose reader is gone: quiet death by SIGPIPE
    run --separate-stderr bash -c 'dlm-sample -j 1 --steps 1 -c balanced -n 3000 --format jsonl | head -n 1 >/dev/null; echo "${PIPESTATUS[0]}"'
    [ "$output" = 141 ] && [ -z "$stderr" ]
}

@test "a signal removes what was not finished" {
    dlm-sample -j 1 -c balanced -n 1000000 -o left &
    pid=$!
    for i in $(seq 100); do
        ls | grep -q left && break
        sleep 0.05
    done
    ls | grep -q left
    status=0
    kill -TERM $pid
    wait $pid || status=$?
    [ "$status" -eq 143 ]
    [ -z "$(ls | grep left)" ]
}
