# Files that were written to be slow, large or wrong: one line that names file and place, status 1, and memory within a multiple of the file.
#
# Each is a few MB here and ten times that in make check-long, which also doubles them: twice the file takes less than three times the work.
load setup

setup_file() {
    load setup
    cd "$BATS_FILE_TMPDIR"
    cat >peak.c <<-'END'
	/* Run a command; peak resident KiB and milliseconds of processor time go into a file. */
	#include <stdio.h>
	#include <sys/resource.h>
	#include <sys/wait.h>
	#include <unistd.h>
	int main(int n, char **arg)
	{
	    struct rusage u;
	    int status;
	    pid_t child = n < 3 ? -1 : fork();
	    if (!child) {
	        execvp(arg[2], arg + 2);
	        _exit(127);
	    }
	    FILE *f = child > 0 && wait4(child, &status, 0, &u) == child ? fopen(arg[1], "w") : NULL;
	    if (!f)
	        return 126;
	    fprintf(f, "%ld %ld\n", u.ru_maxrss, (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000);
	    return fclose(f) ? 126 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	END
    ${CC:-gcc} -D_GNU_SOURCE -O1 -o peak peak.c
    awk 'BEGIN { for (i = 0; i < 4000; i++) printf "ab aab %d\n", i % 97 }' >text
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    part=$BATS_FILE_TMPDIR
    size=$((DLM_TEST_LONG ? 20000000 : 2000000)) # bytes of a file, about
    head='{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},'
    # A vocabulary that is whole but for what its line adds.
    specials='"added_tokens":[{"id":0,"content":"</s>","special":true},{"id":1,"content":"<pad>","special":true},{"id":2,"content":"<mask>","special":true}'
    letters=$(awk 'BEGIN { for (i = 0; i < 26; i++) printf "\"%c\":%d,", 97 + i, 3 + i; for (i = 0; i < 10; i++) printf "\"%d\":%d,", i, 29 + i; print "\"\304\240\":39,\"\304\212\":40" }')
}

# many TEXT COUNT: the text so many times.
many() { awk -v s="$1" -v n="$2" 'BEGIN { t = s; for (k = 1; k * 2 <= n && k * length(s) < 65536; k *= 2) t = t t; for (i = 0; i + k <= n; i += k) printf "%s", t; for (; i < n; i++) printf "%s", s }'; }

# measure COMMAND…: its status in $status, its line in ./said, memory within 64 times the file `hostile` and 96 MiB, unless there are sanitizers,
# which take memory of their own.
measure() {
    status=0
    "$part/peak" peak "$@" >out 2>said || status=$?
    local kib bytes
    read -r kib msec <peak
    bytes=$(stat -Lc %s hostile)
    [[ $(dlm-tokenize --version) == *sanitized* ]] || [ "$kib" -le $((98304 + bytes / 16)) ] ||
        { echo "$kib KiB for a file of $bytes bytes"; cat said; return 1; }
}

# refused PATTERN [ARGUMENT…]: the vocabulary `hostile` is refused in one line that names it and matches.
refused() {
    local pattern=$1
    shift
    measure dlm-tokenize -t hostile "$@" "$part/text"
    if [ "$status" -ne 1 ] || [ -s out ] || [ "$(wc -l <said)" -ne 1 ] || ! grep -qE "^dlm-tokenize: 'hostile'.*$pattern" said; then
        echo "status $status"
        cut -c 1-300 said
        return 1
    fi
}

# taken [ARGUMENT…]: `hostile` is read, and what it makes of the text is the text again.
taken() {
    measure dlm-tokenize -q -t hostile "$@" "$part/text"
    [ "$status" -eq 0 ] || { cut -c 1-300 said; return 1; }
    dlm-tokenize -d out | cmp - "$part/text"
}

# shown LINES [ARGUMENT…]: it is read, and its table has so many; a stream could not hold it, so much does it repeat itself.
shown() {
    measure dlm-tokenize --show-vocab -t hostile "${@:2}"
    [ "$status" -eq 0 ] && [ "$(wc -l <out)" -eq "$1" ] || { cut -c 1-300 said; wc -l out; return 1; }
}

# linear MAKER ARGUMENT…: twice the file, less than three times the work. Only in the long form, where the work is seconds.
linear() {
    [ -n "$DLM_TEST_LONG" ] || return 0
    local once
    $1 "$size" >hostile; measure dlm-tokenize -q -t hostile "${@:2}" "$part/text"; once=$msec
    $1 $((2 * size)) >hostile; measure dlm-tokenize -q -t hostile "${@:2}" "$part/text"
    [ "$msec" -lt $((3 * once + 200)) ] || { echo "$once ms, of twice the file $msec ms"; return 1; }
}

# --- tokenizer.json -----------------------------------------------------------------------------------------------------------

# words N MERGES?: all N² pairs of N words of two letters, each a token, each a merge.
pairs() {
    awk -v size="$1" -v head="$head$specials],\"model\":{\"vocab\":{$letters" 'BEGIN {
        n = int(sqrt(size / 22)); n = n > 676 ? 676 : n; L = "abcdefghijklmnopqrstuvwxyz"
        for (i = 0; i < n; i++) w[i] = substr(L, 1 + i % 26, 1) substr(L, 1 + int(i / 26), 1)
        printf "%s", head
        for (i = 0; i < n; i++) printf ",\"%s\":%d", w[i], 41 + i
        for (i = 0; i < n; i++) for (k = 0; k < n; k++) printf ",\"%s%s\":%d", w[i], w[k], 41 + n + i * n + k
        printf "},\"merges\":["
        for (i = 0; i < n; i++) printf "%s\"%s %s\"", i ? "," : "", substr(w[i], 1, 1), substr(w[i], 2)
        for (i = 0; i < n; i++) for (k = 0; k < n; k++) printf ",\"%s %s\"", w[i], w[k]
        print "]}}" }'
}

@test "as many merges as fit, each of all pairs of some words" {
    pairs "$size" >hostile
    taken
    linear pairs
}

@test "the same merge again and again" {
    same() { printf '%s%s],"model":{"vocab":{%s,"ab":41},"merges":[' "$head" "$specials" "$letters"; many '["a","b"],' $(($1 / 10)); echo '["a","b"]]}}'; }
    same "$size" >hostile
    shown 43
    linear same
}

@test "merges of tokens that are not there" {
    { printf '%s"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b",' "$head"; many '"x y",' $((size / 6)); echo '"x y"]}}'; } >hostile
    refused "merge 1, of 'xy', has a token that is not in the vocabulary"
    { printf '%s"model":{"vocab":{"a":0},"merges":[' "$head"; many '0,' $((size / 2)); echo '0]}}'; } >hostile
    refused "merge 0 is no pair of tokens"
    { printf '%s"model":{"vocab":{"a":0},"merges":[' "$head"; many '"",' $((size / 3)); echo '0]}}'; } >hostile
    refused "merge 0 is no pair of tokens"
}

@test "nesting, and lists and objects of nothing" {
    many '[' "$size" >hostile
    refused "too many lists or objects"
    { many '         [' 3000; many '         ]' 3000; } >hostile
    refused "line 1, column [0-9]+: maximum parsing depth reached"
    { printf '%s"model":{"vocab":{"a":0},"merges":[' "$head"; many '{},' $((size / 3)); echo '{}]}}'; } >hostile
    refused "too many lists or objects"
    # As many as pass: what they take is bounded.
    { printf '%s"model":{"vocab":{"a":0},"merges":[' "$head"; many '0,0,0,[],' $((size / 9)); echo '0]}}'; } >hostile
    refused "merge 0 is no pair of tokens"
    { printf '%s"model":{"vocab":{"a":0},"merges":[' "$head"; many '0,0,0,0,0,0,0,{},' $((size / 17)); echo '0]}}'; } >hostile
    refused "merge 0 is no pair of tokens"
    # Brackets within a string are none.
    { printf '%s%s],"x":"' "$head" "$specials"; many '[{\\"' $((size / 4)); echo "\",\"model\":{\"vocab\":{$letters},\"merges\":[]}}"; } >hostile
    shown 42
}

@test "a key again and again" {
    { printf '{'; many '"a":1,' $((size / 6)); echo '"b":1}'; } >hostile
    refused "line 1, column [0-9]+: duplicate object key"
    { printf '%s"model":{"merges":[],"vocab":{' "$head"; many '"a":1,' $((size / 6)); echo '"b":1}}}'; } >hostile
    refused "line 1, column [0-9]+: duplicate object key"
}

@test "a string and numbers of megabytes" {
    { printf '%s"model":{"merges":[],"vocab":{"' "$head"; many a "$size"; echo '":0}}}'; } >hostile
    measure dlm-tokenize -t hostile "$part/text"
    [ "$status" -eq 1 ]
    { printf '%s"model":{"merges":["a ' "$head"; many a "$size"; echo '"],"vocab":{"a":0}}}'; } >hostile
    refused "merge 0, of 'a{40}', has a token that is not in the vocabulary"
    { printf '{"a":"'; many a "$size"; } >hostile
    refused "line 1, column [0-9]+: premature end of input"
    { printf '%s"model":{"merges":[],"vocab":{"a":' "$head"; many 9 "$size"; echo '}}}'; } >hostile
    refused "line 1, column [0-9]+: too big integer"
    { printf '%s"model":{"merges":[],"vocab":{"a":0.' "$head"; many 9 "$size"; echo '}}}'; } >hostile
    refused "the id of token 'a' is not a number"
    { printf '%s"model":{"merges":[],"vocab":{"a":1' "$head"; many 0 "$size"; echo '.5}}}'; } >hostile
    refused "line 1, column [0-9]+: real number overflow"
}

@test "ids far apart" {
    for id in 4294967295 4294967296 9223372036854775807 -1 67108864; do
        echo "$head\"model\":{\"vocab\":{\"a\":$id},\"merges\":[]}}" >hostile
        refused "the id of token 'a' is not a number in \[0, 67108864\)"
    done
    echo "$head\"model\":{\"vocab\":{\"a\":67108863},\"merges\":[]}}" >hostile
    refused "its ids have too many holes"
    echo "$head\"added_tokens\":[{\"id\":67108863,\"content\":\"a\"}],\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}" >hostile
    refused "its ids have too many holes"
}

@test "added tokens that are many, overlap and begin alike" {
    alike() { printf '%s%s' "$head" "$specials"; awk -v n=$(($1 / 50)) 'BEGIN { for (i = 0; i < n; i++) printf ",{\"id\":%d,\"content\":\"ab aab %d\",\"normalized\":false}", 41 + i, i }'; printf '],"model":{"vocab":{%s},"merges":[]}}\n' "$letters"; }
    alike "$size" >hostile
    taken
    linear alike
    { printf '%s%s' "$head" "$specials"; awk 'BEGIN { for (i = 0; i < 1000; i++) { s = s "a"; printf ",{\"id\":%d,\"content\":\"a%sb\",\"normalized\":false}", 41 + i, s } }'; printf '],"model":{"vocab":{%s},"merges":[]}}\n' "$letters"; } >hostile
    taken
    { printf '%s%s' "$head" "$specials"; printf ',{"id":41,"content":"'; many a 2000; printf '","special":true}],"model":{"vocab":{%s},"merges":[]}}\n' "$letters"; } >hostile
    measure dlm-tokenize -t hostile --parse-special "$part/text"
    [ "$status" -eq 1 ] && grep -q "added token 'a*': more than 1024 bytes are not implemented" said
}

@test "a post-processor that repeats a list" {
    { printf '%s%s],"model":{"vocab":{%s},"merges":[]},"post_processor":{"type":"TemplateProcessing","special_tokens":{"s":{"ids":[0' "$head" "$specials" "$letters"
      many ',0' $((size / 4)); printf ']}},"single":['; many '{"SpecialToken":{"id":"s"}},' $((size / 60)); echo '{"Sequence":{"id":"A"}}]}}'; } >hostile
    refused "too many lists|puts too many tokens around a text"
    { printf '%s%s],"model":{"vocab":{%s},"merges":[]},"post_processor":{"type":"TemplateProcessing","special_tokens":{"s":{"ids":[0' "$head" "$specials" "$letters"
      many ',0' $((size / 2)); printf ']}},"single":['; many '{"SpecialToken":{"id":"s"}},' 900; echo '{"Sequence":{"id":"A"}}]}}'; } >hostile
    refused "puts too many tokens around a text"
}

# with_pattern REGEX: a vocabulary with it.
with_pattern() {
    echo "{$specials],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"$1\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},\"model\":{\"vocab\":{$letters},\"merges\":[]}}" >hostile
}

@test "patterns that backtrack without end" {
    many a 20000 >long
    for pattern in '(a+)+[bc]' '(a|aa)+[bc]' '(?:a*)*[bc]'; do
        with_pattern "$pattern"
        measure dlm-tokenize -t hostile long
        [ "$status" -eq 1 ]
        grep -qE "^dlm-tokenize: 'long': the pattern failed on a text of 20000 bytes at byte 0: match limit exceeded$" said
    done
    for pattern in '((a{1,200}){1,200}){1,200}' '(((((a{1,60}){1,60}){1,60}){1,60}){1,60})'; do
        with_pattern "$pattern"
        refused "bad pattern '.*': regular expression is too large"
    done
    with_pattern "$(many '(' 2000)a$(many ')' 2000)"
    refused "bad pattern '.*': .*nested"
    with_pattern "$(many a 70000)"
    refused "a pattern of 70000 bytes is too long"
}

# --- rank files ---------------------------------------------------------------------------------------------------------------

# beginnings BYTES: a, aa, aaa, …: each can be parted at every letter.
beginnings() {
    awk -v size="$1" 'BEGIN { for (k = 1; used < size; k++) { t = s; if (k % 3 == 0) { s = s "YWFh"; t = s } if (k % 3 == 1) t = t "YQ=="; if (k % 3 == 2) t = t "YWE="; print t, k - 1; used += length(t) + 6 } }'
}

@test "ranks: every token the beginning of the next" {
    beginnings "$size" >hostile
    refused "tokens up to rank [0-9]+ can be parted in too many ways" --pattern gpt2
    linear beginnings --pattern gpt2
}

@test "ranks: one token of megabytes" {
    long() { echo 'YQ== 0'; many YWFh $(($1 / 4)); echo ' 1'; }
    long "$size" >hostile
    shown 6 --pattern gpt2 # with three special ones
    linear long --pattern gpt2
}

@test "ranks: all strings of two letters" {
    awk -v size="$size" 'BEGIN {
        B = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        for (len = 1; used < size; len++)
            for (x = 0; x < 2 ^ len; x++) {
                s = ""; v = k = 0; y = x
                for (i = 0; i < len; i++) { v = v * 256 + 97 + y % 2; y = int(y / 2); if (++k == 3) { s = s substr(B, 1 + int(v / 262144), 1) substr(B, 1 + int(v / 4096) % 64, 1) substr(B, 1 + int(v / 64) % 64, 1) substr(B, 1 + v % 64, 1); v = k = 0 } }
                if (k == 1) s = s substr(B, 1 + int(v / 4), 1) substr(B, 1 + v % 4 * 16, 1) "=="
                if (k == 2) s = s substr(B, 1 + int(v / 1024), 1) substr(B, 1 + int(v / 16) % 64, 1) substr(B, 1 + v % 16 * 4, 1) "="
                print s, n++; used += length(s) + 7
            } }' >hostile
    refused "tokens up to rank [0-9]+ can be parted in too many ways" --pattern gpt2
}

@test "ranks: repeats, garbage and ranks far away" {
    { echo 'YQ== 0'; many $'YQ== 1\n' $((size / 7)); } >hostile
    refused "line 2 repeats a token or a rank" --pattern gpt2
    { echo 'YQ== 0'; many $'Yg== 0\n' $((size / 7)); } >hostile
    refused "line 2 repeats a token or a rank" --pattern gpt2
    for line in 'Y*== 1' 'Y=== 1' 'YQ=a 1' 'YQ 1' '==== 1' ' 1' 'Yg==' 'Yg== ' 'Yg== -1' 'Yg== 1x' 'Yg== 1 2' 'Yg==	1' 'Yg== 0x1' 'Yg== 18446744073709551616'; do
        { echo 'YQ== 0'; echo "$line"; } >hostile
        refused "line 2 is not a token in base64 and a rank" --pattern gpt2
    done
    for rank in 70000 4294967 99999999; do
        { echo 'YQ== 0'; echo "Yg== $rank"; } >hostile
        refused "line 2 has a rank far beyond the number of tokens" --pattern gpt2
    done
    { echo 'YQ== 0'; many '*' "$size"; } >hostile
    refused "line 2 is not a token in base64 and a rank" --pattern gpt2
    { echo 'YQ== 0'; many $'\n' "$size"; } >hostile
    measure dlm-tokenize -t hostile --pattern gpt2 "$part/text"
    [ "$status" -eq 1 ]
}

# --- streams, sets, checkpoints ------------------------------------------------------------------------------------------------

# flip FILE AT: a bit of a byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf "\\x$(printf %x $((byte ^ 1 << $2 % 8)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "a vocabulary that is packed to next to nothing begins no stream" {
    { echo "$head$specials],\"model\":{\"vocab\":{$letters},\"merges\":[]}"; many ' ' 20000000; echo '}'; } >hostile
    measure dlm-tokenize -q -t hostile "$part/text"
    [ "$status" -eq 1 ] && grep -qE "^dlm-tokenize: .*the vocabulary's 20000[0-9]+ bytes are little else than repetition" said
    echo "$head$specials],\"model\":{\"vocab\":{$letters},\"merges\":[]}}" >hostile
    dlm-tokenize -q -t hostile -o s.tok.zst "$part/text"
    printf '\x00\x00\x00\x0f' | dd of=s.tok.zst bs=1 seek=56 conv=notrunc status=none # 240 MiB, of some hundred
    measure dlm-tokenize -d s.tok.zst
    [ "$status" -eq 1 ] && grep -qE "^dlm-tokenize: 's.tok.zst' .*offset 0.*the sizes in its head contradict each other" said || { cat said; return 1; }
}

@test "damaged shard sets: dlm-shard --verify, dlm-train and dlm-eval name the file" {
    corpus 20000 >c
    dlm-tokenize --train -V 300 --split blank -o v.json c 2>/dev/null
    dlm-tokenize -t v.json --split blank c 2>/dev/null | dlm-shard -q -n 32 --val 0.2 -o whole
    dlm-train -q -d whole -o ck --width 16 --layers 1 --heads 2 --batch 8 --steps 2 --noise masked --warmup 0 --epochs 100 -j 1 --dtype f32 >/dev/null
    for f in train-00000.tok.zst val-00000.tok.zst manifest.tsv; do
        n=$(stat -c %s whole/$f)
        for at in 5 $((n / 2)) $((n - 1)); do
            for way in flip cut; do
                rm -rf set && cp -r whole set
                if [ $way = flip ]; then flip set/$f "$at"; else truncate -s "$at" set/$f; fi
                run --separate-stderr dlm-shard --verify set
                fails_with 1 "'set/$f'|set.*$f|manifest"
                # What is read, is checked; the rest may pass.
                run --separate-stderr dlm-eval -c ck -d set --tokens 100000000 -j 1
                [ "$status" -eq 0 ] || fails_with 1 "set.*$f|manifest"
                [ $way = flip ] || [ "$status" -eq 1 ]
                run --separate-stderr dlm-train -q -d set -o new --width 16 --layers 1 --heads 2 --batch 8 --steps 1 --noise masked --warmup 0 --epochs 100 -j 1 --dtype f32
                [ "$status" -eq 0 ] || { [ "$status" -eq 1 ] && [ "${#stderr_lines[@]}" -eq 1 ] && [[ $stderr =~ set.*$f|manifest ]]; }
                [ $way = flip ] || [ "$status" -eq 1 ]
            done
        done
    done
}

@test "config.json that claims a giant: the tensors are asked before memory is taken" {
    corpus 20000 >c
    dlm-tokenize --train -V 300 --split blank -o v.json c 2>/dev/null
    dlm-tokenize -t v.json --split blank c 2>/dev/null | dlm-shard -q -n 32 --val 0.2 -o set
    dlm-train -q -d set -o ck --width 16 --layers 1 --heads 2 --batch 8 --steps 2 --noise masked --warmup 0 --epochs 100 -j 1 --dtype f32 >/dev/null
    sed -i 's/"num_hidden_layers": 1\b/"num_hidden_layers": 900/; s/"hidden_size": 16\b/"hidden_size": 16384/; s/"head_dim": 8\b/"head_dim": 8192/' ck/config.json
    ln -s ck/config.json hostile
    for command in "dlm-eval -c ck -d set" "dlm-train --resume ck --steps 4" "dlm-train -d set -o new --init ck --noise masked --steps 4 --warmup 0 --epochs 100" "dlm-sample -c ck -n 1"; do
        measure $command -q
        [ "$status" -eq 1 ] || { echo "$command"; cat said; return 1; }
        [ "$(wc -l <said)" -eq 1 ] && grep -qE "ck/model.safetensors: '[a-z_.0-9]+' has shape|ck/model.safetensors" said || { cat said; return 1; }
        [ ! -e new ]
    done
}
