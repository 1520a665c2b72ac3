# Training at large: the same vocabulary however the text arrives and whoever counts it, samples, peers.
load setup

setup_file() {
    # 1.9 MB in lines that often begin with a letter, so that a part may end at many places; some repeated, none the last of the text
    awk 'BEGIN {
        srand(5)
        for (i = 0; i < 90000; i++) {
            n = 3 + int(rand() * 9)
            for (k = 0; k < n; k++) {
                w = int(exp(rand() * 9)); s = ""
                do { s = s substr("etaoinshrdlucmfwypvbgkqjxz", 1 + w % 26, 1); w = int(w / 26) } while (w)
                printf "%s%s", k ? " " : (i % 7 ? "" : "  "), s
            }
            printf i % 5 ? "\n" : ".\n\n"
        }
    }' > "$BATS_FILE_TMPDIR/text"
    export TEXT=$BATS_FILE_TMPDIR/text
}

# slowly FILE: through a pipe, in bits of odd sizes.
slowly() { dd if="$1" bs=4999 status=none; }

@test "training does not depend on threads, nor on how text arrives" {
    cd "$BATS_TEST_TMPDIR"
    for pattern in gpt2 cl100k o200k; do
        dlm-tokenize --train -V 2000 --pattern $pattern -j 1 "$TEXT" > one
        for j in 2 3 7; do
            dlm-tokenize --train -V 2000 --pattern $pattern -j $j "$TEXT" | cmp - one
        done
        slowly "$TEXT" | dlm-tokenize --train -V 2000 --pattern $pattern -j 2 | cmp - one
        dlm-tokenize --train -V 2000 --pattern $pattern --split nul <(zstd -qc "$TEXT") | cmp - one
    done
}

@test "a sample does not depend on threads, nor on how text arrives" {
    cd "$BATS_TEST_TMPDIR"
    tac "$TEXT" > back
    for split in file blank line; do
        dlm-tokenize --train -V 1000 --sample 0.5 --split $split -j 1 "$TEXT" back > one 2> told
        cat told
        for j in 2 3 7; do
            dlm-tokenize --train -V 1000 --sample 0.5 --split $split -j $j -q back "$TEXT" | cmp - one
        done
        dlm-tokenize --train -V 1000 --sample 0.5 --split $split <(slowly "$TEXT") <(zstd -qc back) 2> told2 | cmp - one
        cmp told told2
        # parts of 256 KB are few: between one and all but one of them
        awk -v by=$split '$2 == "sample:" { n++; bad = by == "file" ? $3 < 1 || $3 >= $5 : $3 / $5 < 0.4 || $3 / $5 > 0.6 }
            END { exit n != 1 || bad }' told
    done
    dlm-tokenize --train -V 1000 --sample 0.5 --split line -s 1 -q "$TEXT" > other
    dlm-tokenize --train -V 1000 --sample 0.5 --split line -q "$TEXT" > one
    ! cmp -s one other
    dlm-tokenize --train -V 1000 --sample 1 --split line -q "$TEXT" > all
    dlm-tokenize --train -V 1000 --split line -q "$TEXT" | cmp - all
}

@test "what is refused of a sample" {
    cd "$BATS_TEST_TMPDIR"
    for share in 0 1.5 x; do
        run -2 --separate-stderr dlm-tokenize --train -V 1000 --sample $share "$TEXT"
        [[ $stderr == *--sample* ]]
    done
    dlm-tokenize --train -V 300 "$TEXT" > v.json
    run -2 --separate-stderr dlm-tokenize -t v.json --sample 0.5 "$TEXT"
    [[ $stderr == *--sample* ]]
    echo one | run -1 --separate-stderr dlm-tokenize --train -V 300 --sample 1e-9
    [[ $stderr == *sample* ]]
}

@test "names and patterns are refused before the text is read" {
    cd "$BATS_TEST_TMPDIR"
    run -2 --separate-stderr dlm-tokenize --train -V 300 --special '<|pad|>,<|end_of_text|>,xx,yy' missing
    [[ $stderr == *--special* ]]
    run -2 --separate-stderr dlm-tokenize --train -V 300 --pattern '(' missing
    [[ $stderr == *--pattern* ]]
}

@test "progress is shown of counting and of merging" {
    cd "$BATS_TEST_TMPDIR"
    dlm-tokenize --train -V 3000 --progress always "$TEXT" > v.json 2> told
    tr '\r' '\n' < told > lines
    grep -q bytes lines
    grep -q ids lines
}

@test "the merges are those of Hugging Face's BpeTrainer, until no pair is left" {
    python=${PYTHON:-python3}
    "$python" -c 'import tokenizers' 2> /dev/null || skip "$python has no tokenizers"
    cd "$BATS_TEST_TMPDIR"
    # their ByteLevel replaces what is not UTF-8; runs of letters are where occurrences overlap
    (head -c 200000 "$TEXT"; printf "It's  12345 d\303\251j\303\240 DON'T don'T 'S\n\n\ta=[b];\r\n"
        awk 'BEGIN { srand(2); for (i = 0; i < 2000; i++) {
        n = 1 + int(rand() * 30); s = ""; while (n--) s = s (rand() < 0.8 ? "a" : "b"); printf "%s ", s } }') > mixed
    for pattern in gpt2 cl100k o200k; do
        for size in 1000 1000000; do
            dlm-tokenize --train -q -V $size --pattern $pattern mixed > ours.json
            "$python" - mixed ours.json $size <<'PY'
import json, sys
from tokenizers import Tokenizer, models, trainers
text, ours, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
t = Tokenizer(models.BPE())
t.pre_tokenizer = Tokenizer.from_file(ours).pre_tokenizer
alphabet = [chr(b) for r in (range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100), range(0x100, 0x144)) for b in r]
t.train_from_iterator([open(text, encoding="utf8", newline="").read()], trainers.BpeTrainer(
    vocab_size=size, show_progress=False, initial_alphabet=alphabet,
    special_tokens=["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"]))
theirs, ours = json.loads(t.to_str())["model"], json.load(open(ours))["model"]
assert ours["merges"] == theirs["merges"], "merges"
assert ours["vocab"] == theirs["vocab"], "vocab"
assert len(ours["merges"]) > 700
PY
        done
    done
}

# measured ARGUMENT…: train quietly; KiB of memory and ms of processor time in $kib and $msec.
measured() {
    cat >"$BATS_TEST_TMPDIR/peak.c" <<-'END'
	#include <stdio.h>
	#include <sys/resource.h>
	#include <sys/wait.h>
	#include <unistd.h>
	int main(int n, char **arg)
	{
	    struct rusage u;
	    int status;
	    pid_t child = n < 2 ? -1 : fork();
	    if (!child)
	        return execvp(arg[1], arg + 1);
	    if (child < 0 || wait4(child, &status, 0, &u) != child || status)
	        return 1;
	    printf("%ld %ld\n", u.ru_maxrss, (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000);
	}
	END
    [ -x peak ] || ${CC:-gcc} -D_GNU_SOURCE -O1 -o peak "$BATS_TEST_TMPDIR/peak.c"
    read -r kib msec < <(./peak dlm-tokenize --train -q -o /dev/null "$@")
    [ -n "$msec" ]
}

@test "memory goes with the distinct words, not with the text" {
    [[ $(dlm-tokenize --version) != *sanitized* ]] || skip "sanitizers take memory of their own"
    cd "$BATS_TEST_TMPDIR"
    # with 2 lanes that count all of them, so that the longer text brings no more words to a lane
    measured -V 5000 -j 2 "$TEXT" "$TEXT" "$TEXT" "$TEXT"
    least=$kib
    measured -V 5000 -j 2 $(printf "$TEXT %.0s" {1..60})
    [ "$kib" -le $((least + 8192)) ] || { echo "$kib KiB for 60 times the text, $least for four times"; return 1; }
}

@test "no text makes training slow, or large beyond 90 bytes for each of its own" {
    cd "$BATS_TEST_TMPDIR"
    size=$((DLM_TEST_LONG ? 20000000 : 2000000))
    for text in letter fibonacci letters words; do
        for n in $size $((2 * size)); do
            awk -v text=$text -v n=$n 'BEGIN {
                srand(3); s = "a"; t = "ab"
                if (text ~ /^letter$|^fib/) {
                    while (length(t) < n) { u = text == "letter" ? t t : t s; s = t; t = u }
                    if (text == "letter") gsub("b", "a", t)
                    printf "%s", substr(t, 1, n)
                } else
                    for (i = 0; i < n / 10; i++) {
                        for (k = 0; k < 9; k++) printf "%c", 97 + int(rand() * 26)
                        printf text == "words" ? " " : "x"
                    }
            }' >hostile
            before=$msec
            measured -V 131072 hostile
            echo "$text of $n bytes: $kib KiB, $msec ms"
            [[ $(dlm-tokenize --version) == *sanitized* ]] || [ "$kib" -le $((49152 + 90 * n / 1024)) ]
            [ "$n" -eq "$size" ] || [ -z "$DLM_TEST_LONG" ] || [ "$msec" -le $((3 * before)) ]
        done
    done
}
