# Checkpoints exchanged with other software: written here and read there, published there and read here. The other software is tests/interchange.py, plain
# Python that shares nothing with dlm, and the safetensors package where pip can fetch it into a throw-away virtual environment.
load setup

setup_file() {
    command -v python3 >/dev/null || return 0
    load setup
    cd "$BATS_FILE_TMPDIR"
    corpus 60000 >corpus.txt
    dlm-tokenize --train -V 280 --split blank -o vocab.json corpus.txt 2>/dev/null
    dlm-tokenize -t vocab.json --split blank corpus.txt 2>/dev/null | dlm-shard -q -n 16 --val 0.1 -o data
    dlm-train -d data -o model --noise low-uniform --width 16 --layers 2 --heads 2 --batch 8 --warmup 4 --lr 0.5 --steps 40 --dtype f32 -j 2 -q >/dev/null
    printf '%s\n' '{"ids": [4, 3, 200, 7, 8, 3, 3, 11], "clean": 3}' '{"ids": [279, 0, 1]}' '{"ids": [9, 3, 3, 3, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 3]}' >ids
    printf '%s\n' '{"x": [4, 5, 200, 7], "z": [4, 3, 9, 7], "log_snr": [0, -1, 2, 5], "noisy": [0, 1, 1, 1]}' >tokens
    # The package, for those tests that want it; why it is missing, for their skips.
    { python3 -m venv venv && PIP_NO_CACHE_DIR=1 timeout 60 venv/bin/pip --disable-pip-version-check install -q --retries 0 --timeout 10 safetensors==0.5.3; } >pip.log 2>&1 ||
        { rm -rf venv; tail -n 1 pip.log >missing; }
}

setup() {
    command -v python3 >/dev/null || skip "no python3"
    cd "$BATS_FILE_TMPDIR"
}

other() { python3 -I "$BATS_TEST_DIRNAME/interchange.py" "$@"; }
package() {
    [ ! -e missing ] || skip "no safetensors package: $(<missing)"
    venv/bin/python -I "$BATS_TEST_DIRNAME/interchange.py" "$@"
}

@test "a checkpoint written here has the names, shapes, types and keys that other readers expect" {
    other list model | cut -f 1-3 >got
    other expect model >want
    [ -s want ]
    diff want got
    # The optimizer's moments are tensors of the same names and shapes.
    mkdir moments && cp model/optimizer.safetensors moments/model.safetensors
    diff <(sed -E 's/^([^\t]*)/\1.mu/p; s/^([^\t]*)\.mu/\1.nu/' want | sort) <(other list moments | cut -f 1-3 | sort)
}

@test "the safetensors package finds the same tensors in it, to the byte" {
    package package model >got
    other list model >want
    [ -s want ]
    diff want got
}

@test "logits printed here are those of another implementation that reads the same files" {
    dlm-eval -c model --logits ids >answers
    other forward model <answers
    # The bytes matter: one changed weight is seen.
    rm -rf spoilt && cp -r model spoilt
    printf '\x00\x00\x80\x3f' | dd of=spoilt/model.safetensors bs=1 seek=$(($(stat -c %s spoilt/model.safetensors) - 4)) conv=notrunc status=none
    run other forward spoilt <answers
    [ "$status" -ne 0 ]
}

# published HOW: what is published in bf16 and two shards gives the bits of the same weights in one float32 file.
published() {
    rm -rf "$1" one
    "$2" publish model "$1" "$1"
    other round model one
    [ "$(ls "$1" | tr '\n' ' ')" = "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json tokenizer.json " ]
    diff <(other expect "$1") <(other list "$1" | cut -f 1-3)
    cmp <(dlm-eval -c "$1" --logits ids) <(dlm-eval -c one --logits ids)
    cmp <(dlm-eval -c "$1" --loss tokens) <(dlm-eval -c one --loss tokens)
    [ "$(dlm-eval -c "$1" --logits ids | cksum)" != "$(dlm-eval -c model --logits ids | cksum)" ]
    dlm-eval -c "$1" --logits ids | other forward "$1"
    # Its vocabulary comes with it: it scores the shard set that the vocabulary made, and samples text.
    diff <(dlm-eval -c "$1" -d data | cut -f 2-) <(dlm-eval -c one -d data | cut -f 2-)
    [ -n "$(dlm-sample -c "$1" --steps 2 -q)" ]
    # And it is fine-tuned from.
    dlm-train -d data -o tuned --init "$1" --noise masked --width 16 --layers 2 --heads 2 --batch 8 --warmup 2 --steps 4 --dtype f32 -q >/dev/null
    rm -rf tuned
}

@test "a published checkpoint, bf16 in shards with an index, loads to the bit" {
    published plain other
}

@test "so does one that the safetensors package wrote" {
    published package package
}
