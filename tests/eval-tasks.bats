# dlm-eval on texts: --score, --task, profiles of held-out data, converters of public formats. (The bound itself: tests/unit/score.c; agreement of texts:
# tests/unit/overlap.c; judges: tests/unit/judge.c.)
load setup

CONVERT=$BATS_TEST_DIRNAME/../examples/convert
HEADER=$(printf 'checkpoint\ttask\tmetric\tvalue\tse\tn\tlevels\tseed')

setup_file() {
    load setup
    cd "$BATS_FILE_TMPDIR"
    for m in "balanced diffusion balanced" "uniform diffusion uniform" "causal ar masked"; do "$BIN"/tests/sample_files $m; done
    # Six sentences as long as a sequence, over and over: what a model of them should know by heart.
    printf '%s\n' 'red fox runs' 'old dog naps' 'big cat eats' 'sly owl sees' 'wet hen sits' 'shy elk hops' >sentences
    for i in {1..60}; do cat sentences; done >corpus.txt
    dlm-tokenize --train -V 260 --split line -q -o vocab.json corpus.txt
    dlm-tokenize -t vocab.json --split line -q corpus.txt | dlm-shard -q -n 13 --val 0.2 -o data 2>/dev/null
    dlm-tokenize -t vocab.json --split line -q corpus.txt | dlm-shard -q -n 13 --val 0 -o all
    shape="--width 32 --layers 2 --heads 2 --batch 64 --warmup 20 --lr 0.4 -j 2 --dtype f32 --epochs 1000 -q"
    dlm-train -d all -o learned $shape --noise balanced --max-empty 0 --p-prompt 0.5 --schedule cosine --steps 1500 >/dev/null
    dlm-train -d all -o learned-ar $shape --objective ar --steps 300 >/dev/null
    while read -r a b c; do
        printf '{"prefix": "%s ", "answer": "%s", "suffix": " %s"}\n{"prefix": "", "answer": "%s", "suffix": " %s %s"}\n' $a $b $c $a $b $c >>gaps.jsonl
        printf '{"prompt": "%s", "answer": " %s %s"}\n' $a $b $c >>ends.jsonl
        printf '{"context": "%s", "choices": [" %s %s", " fox naps", " hen eats"], "answer": 0}\n' $a $b $c | grep -v 'fox naps.*fox\b\|hen eats.*hen\b' >>choices.jsonl
    done <sentences
    cat >texts.jsonl <<'END'
{"text": "the thing"}
{"context": "the the ", "completion": "then the"}
{"prompt": "abc", "answer": "d", "n": 1.50e0}
{"prefix": "the", "answer": " then", "suffix": " the"}
{"ids": [104, 105, 106], "clean": 1}
{"text": "a text behind a context", "context": ""}
END
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

# value TABLE TASK METRIC: from the table of --task.
value() { awk -F '\t' -v t="$2" -v m="$3" '$2 == t && $3 == m { print $4 }' "$1"; }
at_least() { awk -v a="$1" -v b="$2" 'BEGIN { if (!(a >= b)) { print a, "is less than", b; exit 1 } }'; }
near() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; if (!(d <= t)) { print a, b, "differ by more than", t; exit 1 } }'; }
# numbers FILE KEY: of every line.
numbers() { jq -r ".$2" "$1"; }

@test "what a model knows by heart it fills in, writes on, and prefers" {
    dlm-eval -c learned --task gaps.jsonl --task ends.jsonl --task choices.jsonl --levels 32 --max-tokens 20 --details details -j 2 >out
    [ "$(head -n 1 out)" = "$HEADER" ]
    at_least "$(value out gaps exact_match)" 0.7
    at_least "$(value out gaps token_accuracy)" 0.85
    for m in exact_match f1 rouge1 rouge2 rougeL; do at_least "$(value out ends $m)" 0.8; done
    for m in accuracy accuracy_per_token accuracy_per_byte; do at_least "$(value out choices $m)" 0.9; done
    near "$(value out choices chance)" 0.333333333 1e-8
    # The parts of the table are the means of the items' own.
    near "$(value out ends f1)" "$(jq -s 'map(select(.task == "ends").f1) | add / length' details)" 1e-8
    near "$(value out gaps token_accuracy)" "$(jq -s 'map(select(.task == "gaps").token_accuracy) | add / length' details)" 1e-8
    [ "$(jq -s 'map(select(.task == "gaps")) | length' details)" -eq 12 ]
    dlm-eval -c learned-ar --task ends.jsonl --task choices.jsonl --max-tokens 20 >out
    at_least "$(value out ends exact_match)" 0.8
    at_least "$(value out choices accuracy)" 0.9
    [ "$(awk -F '\t' '$2 == "choices" { print $7 }' out | sort -u)" = 1 ]
    # A model that has learned nothing knows nothing.
    dlm-eval -c balanced --task gaps.jsonl --task ends.jsonl --max-tokens 12 >out
    at_least 0.1 "$(value out gaps exact_match)"
    at_least 0.1 "$(value out ends exact_match)"
}

@test "a scored line is the line itself with its fields added" {
    dlm-eval -c balanced --score --levels 8 texts.jsonl >out
    [ "$(wc -l <out)" -eq 6 ]
    [[ $(sed -n 3p out) == '{"prompt": "abc", "answer": "d", "n": 1.50e0, "elbo": '*', "elbo_se": '*', "tokens": 1, "bytes": 1, "levels": 8}' ]]
    [ "$(numbers out tokens | tr '\n' ' ')" = "6 4 1 3 2 22 " ]
    [ "$(numbers out bytes | tr '\n' ' ')" = "9 8 1 5 2 23 " ]
    dlm-eval -c balanced --score --levels 8 <texts.jsonl | cmp - out
    dlm-eval -c balanced --score --levels 8 out | jq -c . | cmp - <(jq -c . out)
    dlm-eval -c causal --score texts.jsonl >out
    [ "$(numbers out elbo_se | sort -u)" = 0 ] && [ "$(numbers out levels | sort -u)" = 1 ]
    dlm-eval -c balanced --score --levels 1 texts.jsonl | head -n 1 | grep -q '"elbo_se": null'
}

@test "a score has the same bits for any --batch and order, and is the same within rounding on any number of threads" {
    for m in balanced uniform causal; do
        dlm-eval -c $m --score -j 1 texts.jsonl >want
        for n in 1 3 64; do dlm-eval -c $m --score -j 1 --batch $n texts.jsonl | cmp - want; done
        tac texts.jsonl | dlm-eval -c $m --score -j 1 | tac | cmp - want
        sed -n 4p texts.jsonl | dlm-eval -c $m --score -j 1 | cmp - <(sed -n 4p want)
        dlm-eval -c $m --score -j 3 texts.jsonl >other
        paste <(numbers want elbo) <(numbers other elbo) |
            awk '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= 1e-6 * $1)) { print; bad = 1 } } END { exit bad || NR != 6 }'
    done
    dlm-eval -c balanced --score -s 1 texts.jsonl >other
    [ "$(numbers want elbo | head -n 1)" != "$(numbers other elbo | head -n 1)" ]
    # So have the figures of a task, standard errors included.
    for t in gaps ends choices; do
        dlm-eval -c balanced --task $t.jsonl --levels 4 --max-tokens 6 -j 1 >want
        mkdir -p turned && tac $t.jsonl >turned/$t.jsonl
        dlm-eval -c balanced --task turned/$t.jsonl --levels 4 --max-tokens 6 -j 1 --batch 2 | cmp - want
    done
    # And the texts that come from a prior of drawn ids.
    for t in gaps ends; do
        dlm-eval -c uniform --task $t.jsonl --max-tokens 6 --steps 2 -j 1 --details /dev/stdout -o /dev/null | jq .output >want
        dlm-eval -c uniform --task turned/$t.jsonl --max-tokens 6 --steps 2 -j 1 --details /dev/stdout -o /dev/null | jq .output | tac | cmp - want
        [ "$(sort -u want | wc -l)" -gt 3 ]
    done
}

@test "profiles: by level they add up to the ELBO, by position they average to it" {
    dlm-eval -c learned -d data --levels 16 >whole
    elbo=$(tail -n 1 whole | cut -f 6) se=$(tail -n 1 whole | cut -f 7)
    dlm-eval -c learned -d data --levels 16 --by position >position
    [ "$(head -n 1 position)" = "$(printf 'checkpoint\tnoise\tsplit\tby\tlo\thi\ttokens\telbo\telbo_se\tlevels\tseed')" ]
    [ "$(wc -l <position)" -eq 14 ]
    near "$(awk -F '\t' 'NR > 1 { s += $8 } END { print s / 13 }' position)" "$elbo" "$(awk -v e="$elbo" 'BEGIN { print 1e-5 * e }')"
    dlm-eval -c learned -d data --levels 16 --by position --bins 5 >five
    [ "$(cut -f 5,6 five | tail -n +2 | tr '\t\n' '  ')" = "0 3 3 6 6 8 8 11 11 13 " ]
    near "$(awk -F '\t' 'NR > 1 { s += $8 * ($6 - $5) } END { print s / 13 }' five)" "$elbo" "$(awk -v e="$elbo" 'BEGIN { print 1e-5 * e }')"
    dlm-eval -c learned -d data --levels 64 --by level >level
    [ "$(wc -l <level)" -eq 19 ]
    [ "$(awk -F '\t' 'NR > 1 { s += $7 } END { print s }' level)" -eq $(($(tail -n 1 whole | cut -f 4) * 64)) ]
    near "$(awk -F '\t' 'NR > 1 { s += $8 * ($6 - $5) } END { print s }' level)" "$elbo" \
        "$(awk -F '\t' -v se="$se" 'NR > 1 { v += $9 * $9 * ($6 - $5) ^ 2 } END { print 5 * sqrt(v + se * se) }' level)"
    dlm-eval -c learned -d data --by level --bins 4 --tokens 13 >one
    [ "$(tail -n +2 one | cut -f 5 | tr '\n' ' ')" = "-9 -4.5 0 4.5 " ] && [ "$(tail -n 1 one | cut -f 9)" = NA ]
    dlm-eval -c learned-ar -d data --by position >position
    near "$(awk -F '\t' 'NR > 1 { s += $8 } END { print s / 13 }' position)" "$(dlm-eval -c learned-ar -d data | tail -n 1 | cut -f 6)" 1e-5
    run --separate-stderr dlm-eval -c learned-ar -d data --by level
    fails_with 2 "^dlm-eval: 'learned-ar' is autoregressive: --by level does not apply"
    run --separate-stderr dlm-eval -c learned -d data --by position --bins 14
    fails_with 2 "^dlm-eval: --bins 14 is more than the 13 positions"
}

@test "--target-se takes the levels it needs, and says what they cost" {
    run --separate-stderr dlm-eval -c balanced --score --target-se 2 texts.jsonl
    [ "$status" -eq 0 ]
    echo "$output" | jq -es 'map(.elbo_se <= 2 and .levels >= 16) | all'
    [[ $stderr == "dlm-eval: 6 texts took "*" levels each, "*" model calls of one sequence in all" ]]
    run --separate-stderr dlm-eval -c balanced --score --target-se 1e-9 --levels 32 texts.jsonl
    [ "$status" -eq 0 ] && [ "$(echo "$output" | jq .levels | sort -u)" = 32 ]
    [[ ${stderr_lines[1]} == "dlm-eval: 6 of them are not down to a standard error of 1e-09 at 32 levels" ]]
    run --separate-stderr dlm-eval -c balanced --task choices.jsonl --target-se 4
    [ "$status" -eq 0 ] && [[ $stderr == *" model calls of one sequence in all"* ]]
    run --separate-stderr dlm-eval -c causal --score --target-se 1 texts.jsonl
    fails_with 2 "^dlm-eval: 'causal' is autoregressive: --target-se does not apply"
}

@test "--compat release, --length, --noise" {
    dlm-eval -c balanced --score --compat release --levels 16 texts.jsonl >release
    [ "$(numbers release tokens | tr '\n' ' ')" = "7 5 2 4 2 23 " ] # the end id is scored; given ids are as they are
    dlm-eval -c balanced --score --length 23 texts.jsonl >short
    [ "$(numbers short elbo | head -n 1)" != "$(dlm-eval -c balanced --score texts.jsonl | head -n 1 | jq .elbo)" ]
    dlm-eval -c balanced --score --length 23 --grid cosine texts.jsonl >cosine
    paste <(numbers short elbo) <(numbers short elbo_se) <(numbers cosine elbo) <(numbers cosine elbo_se) |
        awk '{ d = $1 - $3; if (d == 0 || d * d > 25 * ($2 * $2 + $4 * $4)) { print; bad = 1 } } END { exit bad }'
    dlm-eval -c balanced --score --noise masked texts.jsonl >masked
    [ "$(numbers masked elbo | head -n 1)" != "$(numbers short elbo | head -n 1)" ]
    run --separate-stderr dlm-eval -c balanced --score --length 25 texts.jsonl
    fails_with 2 "^dlm-eval: --length 25 is more than the context of 'balanced', 24"
    run --separate-stderr dlm-eval -c causal --score --compat release texts.jsonl
    fails_with 2 "^dlm-eval: 'causal' is autoregressive: --compat does not apply"
}

@test "a bad text is an error with file and line, or is counted and answered with nothing" {
    bad() { # PATTERN LINE
        printf '\n%s\n' "$2" >in
        run --separate-stderr dlm-eval -c balanced --score --levels 2 in
        fails_with 1 "^dlm-eval: in:2:$1" || { echo "line: $2"; return 1; }
    }
    bad '[0-9]*: not JSON: ' '{"text"'
    bad ' not a JSON object' '["text"]'
    bad " the object has none of the fields 'completion', 'text', 'answer' and 'ids'" '{"context": "a"}'
    bad " the field 'text' is no string" '{"text": 7}'
    bad " the field 'context' is no string" '{"context": [], "text": "a"}'
    bad ' there are no tokens to score' '{"text": ""}'
    bad ' there are no tokens to score' '{"context": "a", "completion": ""}'
    bad " the item has 30 tokens, more than the model's context of 24" '{"context": "abcdefghijklmno", "completion": "abcdefghijklmno"}'
    bad " 'ids' is not an array" '{"ids": 7}'
    bad " 'ids'.1. is not a token id" '{"ids": [7, "a"]}'
    bad " 'ids'.0. is 264, and the vocabulary has ids 0 to 263" '{"ids": [264]}'
    bad " 'ids'.0. is the mask, 3" '{"ids": [3]}'
    bad " 'clean' is 3, and 'ids' has length 2" '{"ids": [7, 8], "clean": 3}'
    bad ' there are no tokens to score' '{"ids": [7, 8], "clean": 2}'
    printf '%s\n' '{"text": "a"}' '{"text": 7, "id": "x"}' '{"text' '{"text": "b"}' '{"elbo": 1}' >in
    run --separate-stderr dlm-eval -c balanced --score --levels 2 --skip-bad in
    [ "$status" -eq 0 ] && [ "${#lines[@]}" -eq 3 ]
    [[ ${lines[1]} == '{"text": 7, "id": "x", "elbo": null, "elbo_se": null, "tokens": null, "bytes": null, "levels": null, "error": "in:2: the field '* ]]
    [[ $stderr == "dlm-eval: 3 of 5 items skipped; the first: in:2: the field 'text' is no string" ]]
    run --separate-stderr dlm-eval -c balanced --score --levels 2 -q --skip-bad in
    [ "$status" -eq 0 ] && [ -z "$stderr" ]
}

@test "a bad item is an error with file and line, or is counted" {
    bad() { # PATTERN LINE [OPTION...]
        local pattern=$1
        printf '\n%s\n' "$2" >in
        shift 2
        run --separate-stderr dlm-eval -c balanced --task in --levels 2 --max-tokens 2 "$@"
        [ "$status" -eq 1 ] && [ "${#stderr_lines[@]}" -eq 1 ] && [[ $stderr =~ ^dlm-eval:\ in:2:$pattern ]] || { printf '%s\n' "$stderr"; return 1; }
    }
    bad '[0-9]*: not JSON: ' '{"choices"'
    bad " the object has none of the fields 'choices', 'prefix', 'suffix' and 'prompt'" '{"answer": "a"}'
    bad " 'choices' is not an array of texts" '{"choices": [], "answer": 0}'
    bad " 'answer' is 2, and there are choices 0 to 1" '{"choices": ["a", "b"], "answer": 2}'
    bad " 'answer' is -1, and there are choices 0 to 1" '{"choices": ["a", "b"], "answer": -1}'
    bad " 'answer' is not the index of a choice" '{"choices": ["a", "b"], "answer": "a"}'
    bad " 'answer' is not the index of a choice" '{"choices": ["a", "b"]}'
    bad ' a choice is no string' '{"choices": ["a", 7], "answer": 0}'
    bad ' there are no tokens to score' '{"choices": ["a", ""], "answer": 0}'
    bad " the item has 25 tokens, more than" '{"context": "abcdefghijklmnopqrstuvwx", "choices": ["a", "b"], "answer": 0}'
    bad " the object has no field 'answer'" '{"prefix": "a", "suffix": "b"}'
    bad " the object has no field 'answer', and there is neither" '{"prompt": "a"}'
    bad " the prompt has 24 tokens, which leaves no room" '{"prompt": "abcdefghijklmnopqrstuvwx", "answer": "a"}'
    bad " the pattern '.' is none, at byte 1" '{"prompt": "a", "answer": "a", "extract": "("}'
    bad " 'answer' is neither a text nor an array of texts" '{"prompt": "a", "answer": 7}'
    bad " 'stop' is neither" '{"prompt": "a", "answer": "b", "stop": 7}'
    { echo '{"prompt": "a", "answer": "b"}'; echo '{"choices": ["a"], "answer": 0}'; } >in
    run --separate-stderr dlm-eval -c balanced --task in --max-tokens 2
    [ "$status" -eq 1 ] && [[ $stderr == *"in:2: the item is of the kind 'choice', and those before it 'generate'" ]]
    { cat choices.jsonl; echo '{"choices": ["a", "b"], "answer": 2}'; echo '{'; } >in
    run --separate-stderr dlm-eval -c balanced --task in --levels 2 --skip-bad
    [ "$status" -eq 0 ] && [[ $stderr == "dlm-eval: in: 2 of "*" items skipped; the first: in:"*": 'answer' is 2, and there are choices 0 to 1" ]]
    [ "$(echo "$output" | sed 1d | cut -f 6 | sort -u)" = "$(wc -l <choices.jsonl)" ]
    echo '{"choices": 7}' >in
    run --separate-stderr dlm-eval -c balanced --task in --skip-bad
    [ "$status" -eq 1 ] && [[ $stderr == "dlm-eval: 'in' has no item that can be used; the first is bad: in:1: "* ]]
    : >in
    run --separate-stderr dlm-eval -c balanced --task in
    [ "$status" -eq 1 ] && [[ $stderr == "dlm-eval: 'in' has no items" ]]
    run --separate-stderr dlm-eval -c balanced --task nowhere
    [ "$status" -eq 1 ] && [[ $stderr == "dlm-eval: cannot open 'nowhere': No such file"* ]]
}

@test "--limit takes the first items, and --details says what became of each" {
    dlm-eval -c balanced --task choices.jsonl --levels 4 --limit 2 --details details >out
    [ "$(sed 1d out | cut -f 6 | sort -u)" = 2 ] && [ "$(wc -l <details)" -eq 2 ]
    head -n 2 choices.jsonl >two.jsonl
    dlm-eval -c balanced --task two.jsonl --levels 4 | cut -f 3- | cmp - <(cut -f 3- out)
    jq -es 'map(.task == "choices" and (.elbo | length) == 3 and (.elbo_se | length) == 3 and .tokens[1] == 9 and .bytes[1] == 9
        and .picked == (.elbo | index(min)) and .accuracy == (if .picked == .answer then 1 else 0 end)) | all' details
    [ "$(jq -c .line details | tr '\n' ' ')" = "1 2 " ]
    # A choice's score is that of the same text by itself.
    jq -c '{context, completion: .choices[1]}' two.jsonl | dlm-eval -c balanced --score --levels 4 | jq .elbo >want
    jq '.elbo[1]' details | cmp - want
    # Choices that stand before what is scored, and choices in a gap.
    echo '{"context": "the ", "choices": ["a", "b"], "completion": " c", "answer": 1}' >in
    dlm-eval -c balanced --task in --levels 4 --details details >/dev/null
    printf '%s\n' '{"context": "the a", "completion": " c"}' '{"context": "the b", "completion": " c"}' | dlm-eval -c balanced --score --levels 4 | jq -cs 'map(.elbo)' >want
    jq -c .elbo details | cmp - want
    echo '{"context": "the ", "choices": ["a", "b"], "suffix": " c", "answer": 1}' >in
    dlm-eval -c balanced --task in --levels 4 --details details >/dev/null
    printf '%s\n' '{"prefix": "the ", "answer": "a", "suffix": " c"}' '{"prefix": "the ", "answer": "b", "suffix": " c"}' | dlm-eval -c balanced --score --levels 4 | jq -cs 'map(.elbo)' >want
    jq -c .elbo details | cmp - want
    rm details
    run --separate-stderr dlm-eval -c balanced --task nowhere --details details
    [ "$status" -eq 1 ] && [ ! -e details ]
}

@test "examples before an item: as many as asked, the same for the same seed, never the item itself" {
    printf '%s\n' '{"context": "a", "choices": ["x", "y"], "answer": 1}' '{"context": "b", "choices": ["x", "y"], "answer": 0}' \
        '{"context": "c", "choices": ["x", "y"], "answer": 0, "completion": "z"}' >shots
    head -n 1 shots >in
    dlm-eval -c balanced --task in --levels 4 --shots shots --n-shots 2 --details details >/dev/null
    for text in 'bx\n\ncxz\n\na' 'cxz\n\nbx\n\na'; do
        printf '{"context": "%s", "completion": "%s"}\n' "$text" x "$text" y | dlm-eval -c balanced --score --levels 4 | jq -cs 'map(.elbo)'
    done >want
    grep -qxF "$(jq -c .elbo details)" want
    dlm-eval -c balanced --task in --levels 4 --shots shots --n-shots 2 --details again >/dev/null
    cmp again details
    for s in 1 2 3 4 5 6 7 8; do # one of the other two, now this one, now that: the same levels of other texts
        dlm-eval -c causal --task in --shots shots --n-shots 1 -s $s --details /dev/stdout -o /dev/null | jq -c .elbo
    done | sort -u >seen
    [ "$(wc -l <seen)" -eq 2 ]
    run --separate-stderr dlm-eval -c balanced --task in --shots shots --n-shots 3
    [ "$status" -eq 1 ] && [[ $stderr == "dlm-eval: in:1: there are 2 examples other than the item, fewer than the 3 that are wanted" ]]
    run --separate-stderr dlm-eval -c balanced --task in --shots shots --n-shots 4
    fails_with 1 "^dlm-eval: 'shots' has 3 items, fewer than the 4 examples"
    echo '{"prompt": "a"}' >shots
    run --separate-stderr dlm-eval -c balanced --task in --shots shots --n-shots 1
    fails_with 1 "^dlm-eval: shots:1: the item has no answer in words"
}

@test "generated texts: stop, extract, several answers, the end id" {
    dlm-eval -c learned --task ends.jsonl --max-tokens 30 --details details >/dev/null
    [ "$(jq -r .output details | head -n 1)" = " fox runs" ] # ended by itself
    printf '%s\n' '{"prompt": "red", "answer": ["never", "ox"], "extract": "f(o.)", "stop": [" runs", "q"]}' >in
    dlm-eval -c learned --task in --details details >out
    [ "$(jq -c '[.output, .found, .exact_match == 1]' details)" = '[" fox","ox",true]' ]
    printf '%s\n' '{"prompt": "red", "answer": "", "extract": "z"}' >in
    dlm-eval -c learned --task in --details details >out
    [ "$(jq -c '[.found, .exact_match == 1]' details)" = '[null,true]' ]
    dlm-eval -c learned --task ends.jsonl --max-tokens 1 --block 1 --steps 1 --details details >/dev/null
    [ "$(jq ".output | length" details | sort -n | tail -n 1)" -le 1 ]
    # Without an answer the texts are all that is wanted.
    echo '{"prompt": "red", "id": 7}' >in
    dlm-eval -c learned --task in --details details >out
    [ "$(wc -l <out)" -eq 1 ] && [ "$(jq -c .output details)" = '" fox runs"' ]
}

@test "a judge decides what is right, within its time" {
    jq -c '{prompt, want: .answer}' ends.jsonl >asked.jsonl
    dlm-eval -c learned --task asked.jsonl --judge 'jq -e ".completion == .want"' --details details >out
    at_least "$(value out asked judge)" 0.8
    [ "$(jq -r .judge details | sort -u | head -n 1)" = right ]
    dlm-eval -c learned --task ends.jsonl --judge 'exit 3' >out
    [ "$(value out ends judge)" = 0 ] && at_least "$(value out ends exact_match)" 0.8
    run --separate-stderr dlm-eval -c learned --task asked.jsonl --limit 2 --judge 'sleep 1000' --judge-time 0.05 --details details
    [ "$status" -eq 0 ] && [[ $stderr == "dlm-eval: asked: the judge was stopped after 0.05 s for 2 items" ]]
    [ "$(jq -r .judge details | sort -u)" = timeout ]
    run --separate-stderr dlm-eval -c learned --task asked.jsonl --judge no-such-judge
    [ "$status" -eq 1 ] && [[ $stderr == *"the judge 'no-such-judge' cannot be run"* ]]
    # Stopped while it waits for one.
    dlm-eval -c learned --task asked.jsonl --judge 'touch begun; sleep 1000' --judge-time 1000 >/dev/null 2>&1 &
    pid=$!
    for i in {1..600}; do [ -e begun ] && break; sleep 0.1; done
    kill -TERM $pid
    code=0; wait $pid || code=$?
    [ $code -eq 143 ]
}

@test "each answer is there before the next text is" {
    coproc E { dlm-eval -c balanced --score --levels 2; }
    for i in 1 2 3; do
        echo '{"text": "abc"}' >&"${E[1]}"
        read -r -t 60 line <&"${E[0]}"
        [[ $line == *'"tokens": 3, '* ]]
    done
    pid=$E_PID
    kill -TERM $pid
    code=0; wait $pid || code=$?
    [ $code -eq 143 ]
}

@test "what does not belong together is misuse, told by name" {
    check() { local want=$1; shift; run --separate-stderr dlm-eval "$@"; fails_with 2 "^dlm-eval: .*$want"; }
    check "--task and --score exclude each other" -c balanced --task x --score
    check "--score and --loss exclude each other" -c balanced --score --loss x
    check "--data does not apply to --task" -c balanced --task x -d data
    check "operand 'x': files are read with" -c balanced --task y x
    check "--by does not apply to --score" -c balanced --score --by level
    check "--bins goes with --by" -c balanced -d data --bins 3
    check "--limit does not apply to --score" -c balanced --score --limit 3
    check "--judge does not apply to --score" -c balanced --score --judge true
    check "--judge-time goes with --judge" -c balanced --task x --judge-time 3
    check "--shots and --n-shots go together" -c balanced --task x --n-shots 3
    check "--shots and --n-shots go together" -c balanced --task x --shots y
    check "--target-se does not apply to --data" -c balanced -d data --target-se 1
    check "--skip-bad does not apply to --loss" -c balanced --loss --skip-bad
    check "--target-se and --compat exclude" -c balanced --score --target-se 1 --compat release
    check "--compat" -c balanced --score --compat paper
    check "--grid and --compat exclude" -c balanced --score --grid cosine --compat release
    check "--grid does not apply to --data" -c balanced -d data --grid cosine
    check "--grid does not apply" -c causal --score --grid cosine texts.jsonl
}

@test "converters: each public format, and what dlm-eval makes of it" {
    convert() { "$CONVERT" "$@"; }
    is() { [ "$(cat)" = "$1" ]; }
    printf '%s\n' '{"id":"M1","question":{"stem":"Why?","choices":[{"text":"sun","label":"A"},{"text":"moon","label":"B"}]},"answerKey":"B"}' \
        '{"id":"M2","question":"Why?","choices":{"text":["x","y","z"],"label":["1","2","3"]},"answerKey":"3"}' | convert arc >arc.jsonl
    is '{"id":"M1","context":"Question: Why?\nAnswer:","choices":[" sun"," moon"],"answer":1}
{"id":"M2","context":"Question: Why?\nAnswer:","choices":[" x"," y"," z"],"answer":2}' <arc.jsonl
    printf '%s\n' '{"id":"7","question":{"stem":"Sun","choices":[{"text":"heats","label":"A"},{"text":"cools","label":"B"}]},"answerKey":"A"}' \
        '{"id":"8","question_stem":"Moon","choices":{"text":["x","y"],"label":["A","B"]},"answerKey":"B"}' | convert openbookqa >openbookqa.jsonl
    is '{"id":"7","context":"Sun","choices":[" heats"," cools"],"answer":0}
{"id":"8","context":"Moon","choices":[" x"," y"],"answer":1}' <openbookqa.jsonl
    echo '{"qID":"w1","sentence":"It fits as _ is big.","option1":"the cup","option2":"a box","answer":"2"}' | convert winogrande >winogrande.jsonl
    is '{"id":"w1","context":"It fits as ","choices":["the cup","a box"],"completion":" is big.","answer":1}' <winogrande.jsonl
    printf '%s\n' '{"goal":"g","sol1":"a","sol2":"b"}' 1 '{"goal":"h","sol1":"c","sol2":"d"}' 0 '{"goal":"i","sol1":"e","sol2":"f","label":1}' | convert piqa >piqa.jsonl
    is '{"context":"Question: g\nAnswer:","choices":[" a"," b"],"answer":1}
{"context":"Question: h\nAnswer:","choices":[" c"," d"],"answer":0}
{"context":"Question: i\nAnswer:","choices":[" e"," f"],"answer":1}' <piqa.jsonl
    printf '%s\n' '{"question":"is it","title":"T","answer":true,"passage":"It."}' '{"question":"is it","passage":"No.","idx":4,"label":false}' | convert boolq >boolq.jsonl
    is '{"context":"It.\nQuestion: is it?\nAnswer:","choices":[" no"," yes"],"answer":1}
{"id":4,"context":"No.\nQuestion: is it?\nAnswer:","choices":[" no"," yes"],"answer":0}' <boolq.jsonl
    printf '%s\n' '{"question":"3+4?","answer":"<<3+4=7>>7\n#### 7"}' '{"question":"K?","answer":"so\n#### 1,000"}' | convert gsm8k >gsm8k.jsonl
    is '{"prompt":"Question: 3+4?\nAnswer:","answer":["7"],"solution":" <<3+4=7>>7\n#### 7","extract":"####\\s*(-?[0-9.,]*[0-9])","stop":["\n\nQuestion:"]}
{"prompt":"Question: K?\nAnswer:","answer":["1,000","1000"],"solution":" so\n#### 1,000","extract":"####\\s*(-?[0-9.,]*[0-9])","stop":["\n\nQuestion:"]}' <gsm8k.jsonl
    printf '%s\n' '{"text":"He said\nshe left ."}' '{"text":"see the dog"}' | convert lambada >lambada.jsonl
    is '{"prefix":"He said\nshe left","answer":" .","suffix":""}
{"prefix":"see the","answer":" dog","suffix":""}' <lambada.jsonl
    echo '{"task_id":"H/0","prompt":"def f():","entry_point":"f","canonical_solution":" return 1\n","test":"def check(f):\n    assert f() == 1\n"}' | convert humaneval >humaneval.jsonl
    is '{"id":"H/0","prompt":"def f():","solution":" return 1\n","test":"def check(f):\n    assert f() == 1\n","entry_point":"f","stop":["\nclass ","\ndef ","\n#","\nif ","\nprint("]}' <humaneval.jsonl
    for t in openbookqa winogrande lambada humaneval; do
        dlm-eval -c balanced --task $t.jsonl --levels 2 --max-tokens 3 --judge false >out
        [ "$(awk -F '\t' 'NR > 1 { print $2 }' out | sort -u)" = $t ]
    done
    run --separate-stderr "$CONVERT" nothing
    [ "$status" -eq 2 ]
    run --separate-stderr "$CONVERT" arc <<<'{"id":"M1","question":{"stem":"Why?","choices":[{"text":"sun","label":"A"}]},"answerKey":"D"}'
    [ "$status" -ne 0 ] && [[ $stderr == *"no choice is labelled D"* ]]
}

@test "the judge of generated Python runs the item's tests" {
    command -v python3 >/dev/null || skip "python3 is not installed"
    judge=$BATS_TEST_DIRNAME/../examples/judge-python
    item() { jq -cn --arg c "$1" '{prompt: "def f():\n", completion: $c, test: "def check(f):\n    assert f() == 1\n", entry_point: "f"}'; }
    item '    return 1' | "$judge"
    run "$judge" < <(item '    return 2'); [ "$status" -ne 0 ]
    run "$judge" < <(item 'return ('); [ "$status" -ne 0 ]
}

@test "an external harness drives --score" {
    jq -c '{q: .context, options: .choices, right: .answer}' choices.jsonl >questions
    sed -i 's/"q":"\([a-z]*\)"/"q":"\1"/' questions
    run --separate-stderr "$BATS_TEST_DIRNAME/../examples/harness" balanced questions --levels 2
    [ "$status" -eq 0 ] && [[ $output == "$(wc -l <questions) questions, "*" right" ]]
}

@test "and one in Python, as a coprocess" {
    command -v python3 >/dev/null || skip "python3 is not installed"
    printf '%s\n' '["the the ", "then the"]' '["", "the thing"]' >pairs
    python3 "$BATS_TEST_DIRNAME/../examples/harness.py" balanced --levels 8 <pairs >out
    jq -c '{context: .[0], completion: .[1]}' pairs | dlm-eval -c balanced --score --levels 8 | jq .elbo | sed 's/^/-/' | cmp - out
    run python3 "$BATS_TEST_DIRNAME/../examples/harness.py" balanced --levels 8 <<<'["a", ""]'
    [ "$status" -ne 0 ] && [[ $output == *"there are no tokens to score"* ]]
}

@test "standard errors are those of a mean over items" {
    for i in {1..60}; do echo '{"choices": ["a", "a'$i'"], "answer": '$((i % 4 == 0))'}'; done >many.jsonl # a shorter text is likelier
    dlm-eval -c balanced --task many.jsonl --levels 4 | awk -F '\t' '$3 == "accuracy" {
        want = sqrt($4 * (1 - $4) / $6); if (!($4 > .6 && $5 > .85 * want && $5 < 1.15 * want)) { print; exit 1 } seen = 1 } END { exit !seen }'
}
