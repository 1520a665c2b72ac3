# dlm-tokenize: every operation, every refusal.

setup() {
    load setup
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
}

setup_file() {
    load setup
    export SHARED=$BATS_FILE_TMPDIR
    corpus 60000 > "$SHARED/text"
    dlm-tokenize --train -V 600 -o "$SHARED/v.json" "$SHARED/text"
    dlm-tokenize -t "$SHARED/v.json" -o "$SHARED/text.tok.zst" --split blank "$SHARED/text"
}

# bytes N: any bytes from a fixed generator
bytes() { awk -v n="$1" 'BEGIN { srand(7); for (i = 0; i < n; i++) printf "%c", int(rand() * 256) }'; }

# ids_of FILE: the ids of a stream's frames, as zstd and od show them
ids_of() { zstd -dc "$1" | od -An -v -tu2 -w2 | tr -d ' '; }

@test "training writes a tokenizer.json with special tokens, bytes and merges in that order" {
    dlm-tokenize --show-vocab -t "$SHARED/v.json" > shown
    [ "$(head -1 shown)" = $'id\tbytes\tkind' ]
    [ "$(wc -l < shown)" -eq 601 ]
    [ "$(sed -n 2,5p shown)" = $'0\t<|begin_of_text|>\tspecial\n1\t<|end_of_text|>\tspecial\n2\t<|pad|>\tspecial\n3\t<|mask|>\tspecial' ]
    [ "$(awk -F'\t' '$3 == "byte"' shown | wc -l)" -eq 256 ]
    [ "$(awk -F'\t' 'NR > 261 && $3 != "merge"' shown | wc -l)" -eq 0 ]
    awk -F'\t' 'NF != 3 { exit 1 }' shown
    grep -q $'^[0-9]*\t\\\\x0a\tbyte$' shown
    grep -q $'^[0-9]*\t\\\\\\\\\tbyte$' shown
}

@test "the same text trains the same vocabulary, whatever the threads, compression and pipes" {
    dlm-tokenize --train -V 600 -j 1 < "$SHARED/text" > one.json
    dlm-tokenize --train -V 600 -j 5 -o five.json "$SHARED/text"
    zstd -q "$SHARED/text" -o text.zst
    dlm-tokenize --train -V 600 text.zst > packed.json
    cmp one.json "$SHARED/v.json"
    cmp five.json "$SHARED/v.json"
    cmp packed.json "$SHARED/v.json"
}

@test "a smaller vocabulary is a prefix of a larger one" {
    dlm-tokenize --train -V 400 "$SHARED/text" > small.json
    dlm-tokenize --show-vocab -t small.json > small
    dlm-tokenize --show-vocab -t "$SHARED/v.json" | head -401 | cmp - small
}

@test "a text that runs out of pairs gives the smaller vocabulary and says so" {
    echo 'ab ab' > short
    run --separate-stderr dlm-tokenize --train -V 5000 -o short.json short
    [ "$status" -eq 0 ]
    [[ $stderr == *"no more pairs"*"not 5000" ]]
    dlm-tokenize --show-vocab -t short.json | tail -1 | grep -q merge
    run --separate-stderr dlm-tokenize -q --train -V 5000 -o short.json short
    [ -z "$stderr" ]
}

@test "--min-frequency leaves rare pairs alone" {
    dlm-tokenize -q --train -V 600 --min-frequency 1000 "$SHARED/text" > rare.json
    [ "$(dlm-tokenize --show-vocab -t rare.json | wc -l)" -lt 400 ]
    echo 'ab ab' | dlm-tokenize -q --train -V 300 --min-frequency 3 > none.json
    [ "$(dlm-tokenize --show-vocab -t none.json | wc -l)" -eq 261 ]
}

@test "--special names the first ids, and reading finds their roles" {
    dlm-tokenize --train -V 300 --special '<a>,<b>,<c>,<d>,<e>' "$SHARED/text" > s.json
    dlm-tokenize --show-vocab -t s.json | sed -n 6p | grep -q $'^4\t<e>\tspecial'
    run --separate-stderr bash -c 'printf "a\nb\n" | dlm-tokenize -t s.json --split line | dlm-tokenize -d --split line'
    [ "$output" = $'a\nb' ]
    [ -z "$stderr" ]
}

@test "text goes there and back: whole files, lines, blank lines, NUL" {
    for split in file blank; do
        dlm-tokenize -t "$SHARED/v.json" --split $split < "$SHARED/text" | dlm-tokenize -d | cmp - "$SHARED/text"
    done
    dlm-tokenize -t "$SHARED/v.json" --split line < "$SHARED/text" | dlm-tokenize -d --split line | cmp - "$SHARED/text"
    tr '\n' '\0' < "$SHARED/text" > nul
    dlm-tokenize -t "$SHARED/v.json" --split nul nul | dlm-tokenize -d --split nul | cmp - nul
}

@test "any bytes go there and back" {
    bytes 300000 > random
    [ "$(od -An -v -tu1 -w1 random | sort -u | wc -l)" -eq 256 ]
    dlm-tokenize -t "$SHARED/v.json" random | dlm-tokenize -d -o back
    cmp random back
    dlm-tokenize -t "$SHARED/v.json" --split blank random | dlm-tokenize -d | cmp - random
    for pattern in gpt2 o200k '\w+' 'x*'; do
        dlm-tokenize --train -V 500 --pattern "$pattern" random "$SHARED/text" > p.json
        dlm-tokenize -t p.json random | dlm-tokenize -d | cmp - random
    done
}

@test "the number of threads changes no byte of a stream" {
    cat "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" > more
    for split in file blank line; do
        dlm-tokenize -t "$SHARED/v.json" --split $split -j 1 more > one
        dlm-tokenize -t "$SHARED/v.json" --split $split -j 4 more > four
        cmp one four
    done
}

@test "JSON Lines: the number of threads changes neither a byte nor the error" {
    awk '{ gsub(/"/, "\\\""); printf "{\"n\":%d,\"t\":\"%s\\u00e9\\n\",\"more\":[{\"t\":1}]}\n", NR, $0 }' "$SHARED/text" > lines
    for ((i = 0; i < 12; i++)); do cat lines; done > more
    awk '{ print $0 "\303\251" }' "$SHARED/text" > text
    for ((i = 0; i < 12; i++)); do cat text; done > plain
    for j in 1 2 5; do
        dlm-tokenize -j $j -t "$SHARED/v.json" --jsonl t -o out.$j more
        cmp out.1 out.$j
        dlm-tokenize -j $j --train -V 400 --jsonl t -o v.$j more
        cmp v.1 v.$j
    done
    dlm-tokenize -d out.1 | cmp - plain
    n=$(($(wc -l < more) + 1))
    for bad in '{"n":1}' '{"t":"x"' '{"t":1}' '[]'; do
        (cat more; printf '%s\n' "$bad"; cat more; printf '{"t":"\377"}\n') > wrong
        for j in 1 2 5; do
            run --separate-stderr dlm-tokenize -j $j -t "$SHARED/v.json" --strict --jsonl t -o out wrong nowhere
            fails_with 1 "^dlm-tokenize: 'wrong' line $n[ :,]"
        done
    done
}

@test "of several errors the first in the text is told, whatever the number of threads" {
    # A vocabulary that lacks the byte of a capital Q; in the middle of much text that can be encoded.
    python3 - "$SHARED/v.json" > lacks.json <<-'END' || skip "no python3"
	import json, sys
	v = json.load(open(sys.argv[1]))
	v["model"]["merges"] = [m for m in v["model"]["merges"] if "Q" not in "".join(m)]
	v["model"]["vocab"] = {t: i for t, i in v["model"]["vocab"].items() if "Q" not in t or t.startswith("<|")}
	json.dump(v, sys.stdout)
	END
    tr -d Q < "$SHARED/text" > good
    for ((i = 0; i < 30; i++)); do cat good; done > much
    (cat much; echo "Q"; cat much; printf '\377') > first
    (cat much; printf 'x\377'; cat much) > second
    n=$(($(stat -c %s much) + 1))
    for j in 1 2 3 8; do
        for split in file line; do
            run --separate-stderr dlm-tokenize -q -j $j --strict --split $split -t lacks.json -o out good first second nowhere
            fails_with 1 "^dlm-tokenize: 'first': .*no token for the byte 0x51"
            run --separate-stderr dlm-tokenize -q -j $j --strict --split $split -t lacks.json -o out good second first nowhere
            fails_with 1 "^dlm-tokenize: 'second' is not UTF-8 at byte $n"
            run --separate-stderr dlm-tokenize -q -j $j --split $split -t lacks.json -o out good second good nowhere first
            fails_with 1 "^dlm-tokenize: cannot open 'nowhere': No such file"
        done
        run --separate-stderr dlm-tokenize -q -j $j --train -V 300 --strict -o out good second nowhere
        fails_with 1 "^dlm-tokenize: 'second' is not UTF-8 at byte $n"
    done
    [ ! -e out ]
}

@test "an error ends a run whose input is silent but open" {
    mkfifo pipe
    for j in 1 2 3; do
        for to in /dev/full out; do
            # A batch and a half, so that the first is worked on while the reader waits for the rest of the second.
            cat "$SHARED/text" "$SHARED/text" "$SHARED/text" > third
            (cat third; printf '\377'; cat third; exec sleep 100) > pipe 3>&- &
            feeder=$!
            [ $to = out ] && strict=--strict || strict=
            run --separate-stderr timeout 60 dlm-tokenize -j $j $strict -t "$SHARED/v.json" --split blank --ids -o $to pipe
            case $to in
            out) fails_with 1 "^dlm-tokenize: 'pipe' is not UTF-8 at byte $(stat -c %s third)" ;;
            *) fails_with 1 "^dlm-tokenize: cannot write '/dev/full': No space left" ;;
            esac
            kill $feeder 2> /dev/null || true
            wait $feeder || true
        done
    done
    [ "$(ls | tr '\n' ' ')" = "pipe third " ]
}

@test "documents: where they end, and empty ones" {
    count() { dlm-tokenize -q -t "$SHARED/v.json" "$@" > d.tok.zst && dlm-tokenize --stats d.tok.zst | tail -1 | cut -f2,4; }
    [ "$(printf 'a\n\nb' | count --split line)" = $'3\t2' ]
    [ "$(printf 'a\n\nb\n' | count --split line)" = $'3\t2' ]
    [ "$(printf 'a\0\0b\n' | count --split nul)" = $'3\t3' ]
    [ "$(printf 'a\n\nb\n' | count)" = $'1\t5' ]
    [ "$(printf '' | count)" = $'1\t0' ]
    [ "$(printf '' | count --split line)" = $'0\t0' ]
    [ "$(printf '\n \n\na\nb\n \t\r\n\nc\n\n' | count --split blank)" = $'2\t16' ]
    printf 'a\n\nb' > f
    [ "$(count f f f)" = $'3\t12' ]
    [ "$(count --split blank f f)" = $'4\t8' ]
}

@test "--ids prints a document a line, and the stream has the same ids and the end id" {
    dlm-tokenize -t "$SHARED/v.json" --split blank --ids "$SHARED/text" > lines
    sed 's/$/ 1/' lines | tr ' ' '\n' | sed '/^$/d' > want
    ids_of "$SHARED/text.tok.zst" | cmp - want
    [ "$(printf '\n\n' | dlm-tokenize -t "$SHARED/v.json" --split line --ids)" = "" ]
    [ "$(printf '\n\n' | dlm-tokenize -t "$SHARED/v.json" --split line --ids | wc -l)" -eq 2 ]
}

@test "concatenated streams are one" {
    printf 'first ' | dlm-tokenize -t "$SHARED/v.json" -o a.tok.zst
    printf 'second' | dlm-tokenize -t "$SHARED/v.json" -o b.tok.zst
    cat a.tok.zst b.tok.zst > ab.tok.zst
    [ "$(dlm-tokenize -d ab.tok.zst)" = "first second" ]
    [ "$(dlm-tokenize -d a.tok.zst b.tok.zst)" = "first second" ]
    [ "$(cat a.tok.zst b.tok.zst | dlm-tokenize -d --split line)" = $'first \nsecond' ]
    [ "$(dlm-tokenize --stats ab.tok.zst | tail -1 | cut -f2,4)" = $'2\t12' ]
}

@test "--stats has its columns, a row a file" {
    dlm-tokenize --stats "$SHARED/text.tok.zst" "$SHARED/text.tok.zst" > stats
    [ "$(head -1 stats)" = $'file\tdocuments\ttokens\tbytes\tbytes_per_token\tvocab_size\tframes' ]
    [ "$(wc -l < stats)" -eq 3 ]
    [ "$(sed -n 2p stats | cut -f1,4,6)" = "$SHARED/text.tok.zst"$'\t'"$(wc -c < "$SHARED/text")"$'\t600' ]
    [ "$(sed -n 2p stats | cut -f3)" -eq "$(ids_of "$SHARED/text.tok.zst" | wc -l)" ]
    [ "$(sed -n 2p stats | cut -f2)" -eq "$(ids_of "$SHARED/text.tok.zst" | grep -c '^1$')" ]
    dlm-tokenize --stats < "$SHARED/text.tok.zst" | tail -1 | grep -q $'^-\t'
}

@test "JSON Lines: one field is the text" {
    printf '{"t":"a\\u00e9\\u0000b","x":1}\n\n{"x":[],"t":""}\n{"t":"last"}' > x.jsonl
    dlm-tokenize -t "$SHARED/v.json" --jsonl t x.jsonl > x.tok.zst
    dlm-tokenize -d --split line x.tok.zst > back
    printf 'a\303\251\0b\n\nlast\n' | cmp - back
    zstd -q x.jsonl
    dlm-tokenize -t "$SHARED/v.json" --jsonl t x.jsonl.zst | cmp - x.tok.zst
}

@test "JSON Lines that are none: file, line and reason" {
    printf '{"t":"a"}\n{"t":"b"\n' > cut.jsonl
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --jsonl t -o out cut.jsonl
    fails_with 1 "'cut.jsonl' line 2, column"
    [ ! -e out ]
    printf '{"t":"a"}\n\n{"u":"b"}\n' > without.jsonl
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --jsonl t -o out without.jsonl
    fails_with 1 "'without.jsonl' line 3 has no field 't'"
    printf '{"t":7}\n' > number.jsonl
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --jsonl t -o out number.jsonl
    fails_with 1 "'number.jsonl' line 1: field 't' is not a string"
    echo '["t"]' > array.jsonl
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --jsonl t -o out array.jsonl
    fails_with 1 "'array.jsonl' line 1 is not a JSON object"
    printf '{"t":"\xff"}\n' > bytes.jsonl
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --jsonl t -o out bytes.jsonl
    fails_with 1 "'bytes.jsonl' line 1"
    [ -z "$(ls | grep '^out')" ]
}

@test "zstd input that is truncated, corrupt or followed by something else" {
    zstd -q "$SHARED/text" -o text.zst
    n=$(wc -c < text.zst)
    for cut in 4 5 20 $((n / 2)) $((n - 1)); do
        head -c "$cut" text.zst > cut.zst
        run --separate-stderr dlm-tokenize -t "$SHARED/v.json" -o out cut.zst
        fails_with 1 "'cut.zst' is truncated: its zstd data ends at byte $cut "
    done
    (head -c $((n / 2)) text.zst; printf 'XXXXXXXXXXXXXXXX'; tail -c +$((n / 2 + 17)) text.zst) > bent.zst
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" -o out bent.zst
    fails_with 1 "'bent.zst' is corrupt: zstd near byte"
    (cat text.zst; echo 'something else') > more.zst
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" -o out more.zst
    fails_with 1 "'more.zst' is corrupt"
    [ ! -e out ]
    cat text.zst text.zst > twice.zst
    dlm-tokenize -t "$SHARED/v.json" twice.zst | dlm-tokenize -d > back
    cat "$SHARED/text" "$SHARED/text" | cmp - back
}

@test "a token stream is not taken for text" {
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" -o out "$SHARED/text.tok.zst"
    fails_with 1 "text.tok.zst' is a token stream, not text"
}

@test "--strict names the byte that is not UTF-8" {
    printf 'good\n\xc3\xa9 bad \xff here\n' > bad
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --strict -o out bad
    fails_with 1 "'bad' is not UTF-8 at byte 12"
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --strict --split line -o out bad
    fails_with 1 "'bad' is not UTF-8 at byte 12"
    run --separate-stderr dlm-tokenize --train -V 300 --strict -o out bad
    fails_with 1 "'bad' is not UTF-8 at byte 12"
    (cat "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text" "$SHARED/text"; printf '\x80') > long
    run --separate-stderr bash -c 'zstd -qc long | dlm-tokenize -t "$SHARED/v.json" --strict -o out'
    fails_with 1 "'standard input' is not UTF-8 at byte $((9 * $(wc -c < "$SHARED/text")))"
    [ ! -e out ]
    printf 'g\xc3\xb6\xc3\xb6d' | dlm-tokenize -t "$SHARED/v.json" --strict > /dev/null
}

@test "empty input, missing files and directories" {
    run --separate-stderr dlm-tokenize --train -V 300 -o out /dev/null
    fails_with 1 "no text to train on: the input is empty"
    run --separate-stderr dlm-tokenize --train -V 300 -o out missing
    fails_with 1 "cannot open 'missing': No such file"
    for mode in --train\ -V300 -t\ "$SHARED/v.json" -t\ "$SHARED/v.json"\ --ids -d; do
        run --separate-stderr dlm-tokenize $mode -o out "$BATS_TEST_TMPDIR"
        fails_with 1 "'$BATS_TEST_TMPDIR'.*directory"
    done
    run --separate-stderr dlm-tokenize -t "$BATS_TEST_TMPDIR" -o out "$SHARED/text"
    fails_with 1 "'$BATS_TEST_TMPDIR': Is a directory"
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" -o "$BATS_TEST_TMPDIR" "$SHARED/text"
    fails_with 1 "cannot write '$BATS_TEST_TMPDIR': Is a directory"
    run --separate-stderr dlm-tokenize -t "$SHARED/text" -o out "$SHARED/text"
    fails_with 1 "'$SHARED/text' is no tokenizer.json: line 1"
    run --separate-stderr dlm-tokenize -d -o out /dev/null
    fails_with 1 "'/dev/null'"
    [ ! -e out ]
}

@test "-d with another vocabulary is an error, with its own it is none" {
    dlm-tokenize --train -V 400 "$SHARED/text" > other.json
    run --separate-stderr dlm-tokenize -d -t other.json "$SHARED/text.tok.zst"
    fails_with 1 "text.tok.zst' was not made with the vocabulary 'other.json'"
    run --separate-stderr dlm-tokenize --stats -t other.json "$SHARED/text.tok.zst"
    [ "$status" -eq 1 ]
    dlm-tokenize -d -t "$SHARED/v.json" "$SHARED/text.tok.zst" | cmp - "$SHARED/text"
}

@test "a vocabulary without end, pad or mask gets them, and that is told" {
    sed -e '/"added_tokens": \[/,/^  \],/c\  "added_tokens": [],' -e '/"<|[a-z_]*|>": [0-3],/d' "$SHARED/v.json" > bare.json
    run --separate-stderr dlm-tokenize -t bare.json -o out.tok.zst "$SHARED/text"
    [ "$status" -eq 0 ]
    [ "$stderr" = "dlm-tokenize: added to the vocabulary of 'bare.json': <|end_of_text|> 600, <|pad|> 601, <|mask|> 602" ]
    [ "$(ids_of out.tok.zst | tail -1)" = 600 ]
    [ "$(dlm-tokenize --stats out.tok.zst | tail -1 | cut -f6)" = 603 ]
    dlm-tokenize -d out.tok.zst | cmp - "$SHARED/text"
    dlm-tokenize -d -t bare.json out.tok.zst | cmp - "$SHARED/text"
}

@test "special tokens in the text are text, unless --parse-special" {
    [ "$(printf '<|mask|>' | dlm-tokenize -t "$SHARED/v.json" --ids --parse-special)" = 3 ]
    [ "$(printf '<|mask|>' | dlm-tokenize -t "$SHARED/v.json" --ids | wc -w)" -gt 3 ]
    [ "$(printf '<|mask|>' | dlm-tokenize -t "$SHARED/v.json" | dlm-tokenize -d)" = '<|mask|>' ]
    # an end that is there already is not doubled
    printf 'a<|end_of_text|>' | dlm-tokenize -t "$SHARED/v.json" --parse-special -o e.tok.zst
    [ "$(ids_of e.tok.zst | grep -c '^1$')" -eq 1 ]
}

@test "the post-processor's ids come with every document" {
    sed 's/"post_processor": null/"post_processor": {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"B","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"E","type_id":0}}],"pair":[],"special_tokens":{"B":{"id":"B","ids":[0],"tokens":["x"]},"E":{"id":"E","ids":[1],"tokens":["y"]}}}/' "$SHARED/v.json" > post.json
    [ "$(printf '\n\n' | dlm-tokenize -t post.json --split line --ids)" = $'0 1\n0 1' ]
    printf 'a\n\n' | dlm-tokenize -t post.json --split line -o p.tok.zst
    [ "$(ids_of p.tok.zst | grep -c '^1$')" -eq 2 ]
    [ "$(dlm-tokenize -d --split line p.tok.zst)" = $'a' ]
}

@test "tiktoken rank files are read with --pattern" {
    for i in $(seq 0 255); do printf "\\x$(printf %02x "$i")" | base64 | sed "s/$/ $i/"; done > ranks
    printf 'ab' | base64 | sed 's/$/ 256/' >> ranks
    printf 'abc' | base64 | sed 's/$/ 257/' >> ranks
    [ "$(printf 'abcab c' | dlm-tokenize -q -t ranks --pattern gpt2 --ids)" = '257 256 32 99' ]
    head -c 50000 "$SHARED/text" > some
    dlm-tokenize -q -t ranks --pattern cl100k some | dlm-tokenize -d | cmp - some
    run --separate-stderr dlm-tokenize -t ranks -o out some
    fails_with 1 "'ranks' is no tokenizer.json"
    echo 'YWI= 300x' >> ranks
    run --separate-stderr dlm-tokenize -t ranks --pattern cl100k -o out some
    fails_with 1 "'ranks' is no tiktoken rank file: line 259"
    echo 'YQ== 99999999' > far
    run --separate-stderr dlm-tokenize -t far --pattern cl100k -o out some
    fails_with 1 "'far' is no tiktoken rank file: line 1"
}

@test "misuse: exit 2 and one line that names the option" {
    run --separate-stderr dlm-tokenize --nonsense
    fails_with 2 "'--nonsense'"
    run --separate-stderr dlm-tokenize -Z
    fails_with 2 "'-Z'"
    run --separate-stderr dlm-tokenize --train "$SHARED/text"
    fails_with 2 "-V SIZE"
    run --separate-stderr dlm-tokenize --train -V 259 "$SHARED/text"
    fails_with 2 "--vocab-size must be at least 260"
    run --separate-stderr dlm-tokenize --train -V 4x "$SHARED/text"
    fails_with 2 "--vocab-size takes a whole number, not '4x'"
    run --separate-stderr dlm-tokenize "$SHARED/text"
    fails_with 2 "-t FILE"
    run --separate-stderr dlm-tokenize --ids "$SHARED/text"
    fails_with 2 "-t FILE"
    run --separate-stderr dlm-tokenize --show-vocab
    fails_with 2 "-t FILE"
    run --separate-stderr dlm-tokenize --train --ids -V 300
    fails_with 2 "exclude each other"
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --split line --jsonl t
    fails_with 2 "--split and --jsonl"
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" --split word
    fails_with 2 "--split is one of"
    run --separate-stderr dlm-tokenize -t "$SHARED/v.json" -V 300
    fails_with 2 "--vocab-size has no meaning here"
    run --separate-stderr dlm-tokenize -d --strict
    fails_with 2 "--strict has no meaning here"
    run --separate-stderr dlm-tokenize --train -V 300 --pattern '(' "$SHARED/text"
    fails_with 2 "--pattern: bad pattern"
    run --separate-stderr dlm-tokenize --train -V 300 --special a,b,c "$SHARED/text"
    fails_with 2 "--special"
    run --separate-stderr dlm-tokenize --train -V 300 --special '<a>,<b>,<c>,<a>' "$SHARED/text"
    fails_with 2 "--special names '<a>' twice"
    run --separate-stderr dlm-tokenize --train -V 300 --special '</s>,<s>,<pad>,<mask>' "$SHARED/text"
    fails_with 2 "--special"
    [ -z "$(ls)" ]
}

@test "help and version" {
    run --separate-stderr dlm-tokenize --help
    [ "$status" -eq 0 ] && [ -z "$stderr" ]
    [[ $output == *--parse-special* ]]
    run --separate-stderr dlm-tokenize --version
    [ "$status" -eq 0 ] && [ -z "$stderr" ]
    [[ ${lines[0]} == "dlm-tokenize (dlm) "* ]]
}

@test "a full disk and a closed pipe" {
    for mode in -t\ "$SHARED/v.json" -t\ "$SHARED/v.json"\ --ids --train\ -V\ 300; do
        run --separate-stderr bash -c "dlm-tokenize $mode $SHARED/text > /dev/full"
        fails_with 1 "cannot write standard output: No space left"
        run --separate-stderr bash -c "dlm-tokenize $mode -o /dev/full $SHARED/text"
        fails_with 1 "cannot write '/dev/full': No space left"
    done
    run --separate-stderr bash -c "dlm-tokenize -d $SHARED/text.tok.zst > /dev/full"
    fails_with 1 "cannot write standard output"
    run --separate-stderr bash -c "set -o pipefail; yes 'some words' | head -c 4000000 | dlm-tokenize -t $SHARED/v.json --ids | head -c 1 > /dev/null"
    [ "$status" -eq 141 ] && [ -z "$stderr" ]
}

@test "a token stream is refused to a terminal" {
    command -v script > /dev/null || skip "script(1) is not here"
    run script -qec "dlm-tokenize -t $SHARED/v.json $SHARED/text" /dev/null
    [ "$status" -eq 2 ]
    [[ $output == *"terminal"* ]]
}

@test "an interrupted run leaves nothing behind" {
    mkfifo pipe
    dlm-tokenize -t "$SHARED/v.json" -o out.tok.zst pipe &
    pid=$!
    exec 7> pipe
    echo text >&7
    kill -TERM $pid
    status=0
    wait $pid || status=$?
    exec 7>&-
    [ "$status" -eq 143 ]
    [ "$(ls)" = pipe ]
}

@test "stopped by a signal while the pipe is silent, whatever the threads; nothing is left and an old file stays" {
    mkfifo pipe
    for j in 1 2 4; do
        for sig in INT TERM HUP; do
            cp "$SHARED/text.tok.zst" out
            (for ((i = 0; i < 40; i++)); do cat "$SHARED/text"; done; exec sleep 100) > pipe 3>&- &
            feeder=$!
            env --default-signal=INT,TERM,HUP timeout --foreground 60 dlm-tokenize -j $j -t "$SHARED/v.json" -o out pipe 2> said 3>&- &
            pid=$!
            for ((i = 0; i < 400; i++)); do
                compgen -G "out.tmp-*" > /dev/null && break
                sleep 0.02
            done
            sleep 0.1
            kill -s $sig $pid # timeout hands it on
            wait $pid && status=0 || status=$?
            kill $feeder 2> /dev/null || true
            wait $feeder || true
            [ "$status" -ne 0 ] && [ "$status" -ne 124 ] && [ ! -s said ]
            [ "$(ls | tr '\n' ' ')" = "out pipe said " ]
            cmp out "$SHARED/text.tok.zst"
        done
    done
}

@test "killed at any time: the old file, or the new one whole" {
    for ((i = 0; i < 40; i++)); do cat "$SHARED/text"; done > more
    dlm-tokenize -t "$SHARED/v.json" -o new more
    runs=0 news=0
    for ((ms = 2; ms < 600 && news < 2; ms += ms / 6 + 1)); do
        cp "$SHARED/text.tok.zst" out
        dlm-tokenize -j 2 -t "$SHARED/v.json" -o out more 3>&- &
        pid=$!
        sleep "$(printf '0.%03d' $ms)"
        kill -9 $pid 2> /dev/null || true
        wait $pid 2> /dev/null || true
        cmp -s out new && news=$((news + 1)) || cmp out "$SHARED/text.tok.zst"
        runs=$((runs + 1))
    done
    [ $runs -gt $news ]
}

@test "a disk that is full at any byte: the old file stays, and nothing else" {
    for ((i = 0; i < 10; i++)); do cat "$SHARED/text"; done > more
    dlm-tokenize -t "$SHARED/v.json" -o new more
    dlm-tokenize -t "$SHARED/v.json" --ids -o new.ids more
    size=$(stat -c %s new)
    for what in "" --ids; do
        for ((k = 0; ; k += k / 4 + 2)); do
            cp "$SHARED/text.tok.zst" out
            if (trap '' XFSZ; ulimit -f $k; dlm-tokenize -j 2 -t "$SHARED/v.json" $what -o out more 2> said); then
                cmp out new${what:+.ids}
                break
            fi
            [[ $(cat said) == "dlm-tokenize: cannot write 'out'"*": File too large" || ! -s said ]]
            cmp out "$SHARED/text.tok.zst"
            [ "$(ls | tr '\n' ' ')" = "more new new.ids out said " ]
        done
        [ $k -gt 10 ]
    done
}

@test "ids are those of Hugging Face's tokenizers" {
    python3 -c 'import tokenizers' 2> /dev/null || skip "python3 has no tokenizers"
    (head -c 30000 "$SHARED/text"; printf "It's  12345 d\303\251j\303\240 \342\200\250 \341\240\216x 'S\n\n  don't\r\n\tfoo_bar/baz...\n") > mixed
    for pattern in gpt2 cl100k o200k '\w+|\s+|[^\w\s]+'; do
        dlm-tokenize --train -V 500 --pattern "$pattern" "$SHARED/text" mixed > p.json
        dlm-tokenize -t p.json --ids mixed > ours
        python3 -c 'import sys, tokenizers
t = tokenizers.Tokenizer.from_file("p.json")
print(*t.encode(open("mixed", encoding="utf8", newline="").read()).ids)' > theirs
        cmp ours theirs
    done
}

@test "training is that of Hugging Face's tokenizers, byte for byte" {
    python3 -c 'import tokenizers' 2> /dev/null || skip "python3 has no tokenizers"
    dlm-tokenize --train -V 1000 --pattern gpt2 "$SHARED/text" > ours.json
    python3 - "$SHARED/text" <<'PY'
import sys
from tokenizers import Tokenizer, models, trainers, pre_tokenizers, decoders
t = Tokenizer(models.BPE())
t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
t.decoder = decoders.ByteLevel()
t.train_from_iterator([open(sys.argv[1], encoding="utf8", newline="").read()], trainers.BpeTrainer(
    vocab_size=1000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    special_tokens=["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"]))
t.save("theirs.json")
PY
    cmp ours.json theirs.json
}
