# Token streams at the shell: plain zstd files, joined by cat, and nothing damaged, foreign or cut passes for a stream.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    corpus 40000 >a.txt
    corpus 30000 2 >b.txt
    dlm-tokenize --train -V 600 -o v.json a.txt
    dlm-tokenize --train -V 500 -o w.json a.txt
    dlm-tokenize -t v.json --split blank -o a.tok.zst a.txt
    dlm-tokenize -t v.json --split blank -o b.tok.zst b.txt
    dlm-tokenize -t w.json --split blank -o w.tok.zst b.txt
    printf 'a few words' | dlm-tokenize -t v.json -o small.tok.zst
}

setup() {
    cd "$BATS_FILE_TMPDIR"
    T=$BATS_TEST_TMPDIR/t # bats keeps files of its own in $BATS_TEST_TMPDIR
    mkdir "$T"
}

@test "zstd reads a stream, and what it prints is the ids" {
    zstd -qt a.tok.zst
    zstd -dc a.tok.zst | od -An -v -tu2 -w2 | tr -d ' ' >"$T/od"
    dlm-tokenize -t v.json --split blank --ids a.txt | awk '{ for (i = 1; i <= NF; i++) print $i; print 1 }' >"$T/ids"
    cmp "$T/od" "$T/ids"
}

@test "joined streams are read as one" {
    cat a.tok.zst b.tok.zst | dlm-tokenize -d | cmp - <(cat a.txt b.txt)
    cat a.tok.zst b.tok.zst >"$T/both"
    dlm-shard -q -o "$T/one" -n 64 --val 0.1 "$T/both"
    dlm-shard -q -o "$T/two" -n 64 --val 0.1 a.tok.zst b.tok.zst
    cat a.tok.zst b.tok.zst | dlm-shard -q -o "$T/three" -n 64 --val 0.1
    diff -r "$T/one" "$T/two"
    diff -r "$T/one" "$T/three"
}

@test "the bytes of a stream do not depend on threads" {
    dlm-tokenize -j1 -t v.json --split blank -o "$T/1" a.txt
    dlm-tokenize -j2 -t v.json --split blank -o "$T/2" a.txt
    cmp "$T/1" "$T/2"
    cmp "$T/1" a.tok.zst
}

@test "streams of different vocabularies are not joined" {
    cat a.tok.zst w.tok.zst >"$T/both"
    for way in "dlm-tokenize -d $T/both" "dlm-shard -n 64 -o $T/set $T/both"; do
        run --separate-stderr bash -c "$way >/dev/null"
        fails_with 1 "'$T/both' joins streams of two vocabularies: fingerprint [0-9a-f]{16}, from offset $(stat -c %s a.tok.zst) on [0-9a-f]{16}"
    done
    run --separate-stderr dlm-shard -n 64 -o "$T/set" a.tok.zst w.tok.zst
    fails_with 1 "'a.tok.zst' and 'w.tok.zst' have different vocabularies: fingerprints"
    [ ! -e "$T/set" ]
}

@test "every kind of damage is one line with file and offset" {
    n=$(stat -c %s a.tok.zst)
    for at in 0 5 17 40 $((n / 3)) $((n / 2)) $((n - 300)) $((n - 60)) $((n - 20)) $((n - 1)); do
        cp a.tok.zst "$T/bad"
        byte=$(od -An -tu1 -j "$at" -N 1 a.tok.zst)
        printf "\\x$(printf %x $((byte ^ 16)))" | dd of="$T/bad" bs=1 seek="$at" conv=notrunc status=none
        run --separate-stderr dlm-shard -n 64 -o "$T/set" "$T/bad"
        fails_with 1 "^dlm-shard: '$T/bad' is (corrupt at|truncated: it ends at|not a token stream \()[ ]?offset [0-9]+"
        run --separate-stderr bash -c "dlm-tokenize -d '$T/bad' >/dev/null"
        [ "$status" -eq 1 ]
        run --separate-stderr bash -c "dlm-shard -n 64 -o '$T/set' <'$T/bad'"
        fails_with 1 "^dlm-shard: standard input is "
    done
    for len in 1 3 20 63 200 $((n / 2)) $((n - 200)) $((n - 30)) $((n - 1)); do
        head -c "$len" a.tok.zst >"$T/bad"
        run --separate-stderr dlm-shard -n 64 -o "$T/set" "$T/bad"
        fails_with 1 "^dlm-shard: '$T/bad' is truncated: it ends at offset $len"
    done
    [ "$(ls "$T")" = bad ]
}

@test "any byte of a small stream, flipped, is noticed" {
    n=$(stat -c %s small.tok.zst)
    for ((at = 0; at < n; at += n > 1200 ? 31 : 11)); do
        cp small.tok.zst "$T/bad"
        byte=$(od -An -tu1 -j "$at" -N 1 small.tok.zst)
        printf "\\x$(printf %x $((byte ^ 1 << at % 8)))" | dd of="$T/bad" bs=1 seek="$at" conv=notrunc status=none
        run -1 --separate-stderr dlm-shard -n 2 --val 0 -o "$T/set" "$T/bad"
        [[ $stderr == *"'$T/bad'"* ]]
    done
}

@test "what is no stream is called so" {
    : >"$T/empty"
    run --separate-stderr dlm-shard -o "$T/set" "$T/empty"
    fails_with 1 "'$T/empty' is empty: it holds no token stream"
    run --separate-stderr bash -c "dlm-shard -o '$T/set' </dev/null"
    fails_with 1 "standard input is empty"
    run --separate-stderr dlm-shard -o "$T/set" a.txt
    fails_with 1 "'a.txt' is not a token stream"
    zstd -q -o "$T/text.zst" a.txt
    run --separate-stderr dlm-shard -o "$T/set" "$T/text.zst"
    fails_with 1 "is not a token stream"
    run --separate-stderr dlm-shard -o "$T/set" "$T"
    fails_with 1 "cannot read '$T': Is a directory"
    run --separate-stderr dlm-shard -o "$T/set" "$T/nowhere"
    fails_with 1 "cannot open '$T/nowhere': No such file or directory"
    (cat a.tok.zst; echo) >"$T/more"
    run --separate-stderr dlm-shard -o "$T/set" "$T/more"
    fails_with 1 "'$T/more' is corrupt at offset $(stat -c %s a.tok.zst)"
    [ ! -e "$T/set" ]
}
