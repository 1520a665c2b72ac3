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
