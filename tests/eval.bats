# dlm-eval: logits and losses of given ids, and every bad input of a line, a request and a checkpoint. (What the figures are: tests/unit/inspect.c; scores
# of a shard set: train.bats.)
load setup

setup_file() {
    load setup
    cd "$BATS_FILE_TMPDIR"
    corpus 60000 >corpus.txt
    dlm-tokenize --train -V 280 --split blank -o vocab.json corpus.txt 2>/dev/null
    dlm-tokenize -t vocab.json --split blank corpus.txt 2>/dev/null | dlm-shard -q -n 16 --val 0.1 -o data
    shape="--width 16 --layers 2 --heads 2 --batch 8 --warmup 4 --lr 0.2 -j 2 --dtype f32"
    dlm-train -d data -o model $shape --noise balanced --steps 20 -q >/dev/null
    dlm-train -d data -o causal $shape --objective ar --steps 20 -q >/dev/null
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    data=$BATS_FILE_TMPDIR/data model=$BATS_FILE_TMPDIR/model causal=$BATS_FILE_TMPDIR/causal
    good='{"x": [4, 5, 6], "z": [4, 3, 9], "log_snr": [1, -2.5, 9], "noisy": [0, 1, 1]}'
}

# near A B TOLERANCE
near() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; if (!(d <= t)) { print a, b, "differ by more than", t; exit 1 } }'; }

@test "an answer is the line itself with its fields added" {
    printf '%s\n' '{"why": 1.50e0, "ids": [4, 5,6], "é": "\u00e9\"}", "big": 9007199254740993}' >in
    dlm-eval -c "$model" --logits in >out
    head='{"why": 1.50e0, "ids": [4, 5,6], "é": "\u00e9\"}", "big": 9007199254740993, "logits": [['
    [ "$(head -c ${#head} out)" = "$head" ] || [ "$(cut -b 1-$(printf %s "$head" | wc -c) out)" = "$head" ]
    [ "$(wc -l <out)" -eq 1 ]
    [ "$(sed 's/.*"logits": \[//; s/\]}$//' out | tr -cd '[' | wc -c)" -eq 3 ]
    [ "$(sed 's/.*"logits": //' out | tr -cd , | wc -c)" -eq $((3 * 280 - 1)) ]
    grep -qE '"logits": \[\[-?[0-9.]+(e-[0-9]+)?, ' out
    # Nine digits: what is printed has come back from float32 exactly.
    sed 's/.*"logits": \[\[//; s/[],].*//' out | grep -qE '^-?[0-9]?\.?[0-9]{8,}|^-?0\.[0-9]{9,}'
    printf '%s\n' "$good" | dlm-eval -c "$model" --loss >out
    [[ $(<out) == "${good%\}}, \"loss\": [0, "*", \"elbo\": [0, "*", \"kl\": [0, "*", \"is\": [0, "* ]]
}

@test "an answer asked again is answered again, not twice" {
    printf '%s\n' "$good" | dlm-eval -c "$model" --loss | tee one | dlm-eval -c "$model" --loss >two
    [ "$(grep -o '"loss"' two | wc -l)" -eq 1 ]
    [ "$(sed 's/.*"loss"//' one)" = "$(sed 's/.*"loss"//' two)" ]
    echo '{"logits": 7, "ids": [4, 5], "t": [1.5, null, true]}' | dlm-eval -c "$model" --logits >two
    [[ $(<two) == '{"ids":[4,5],"t":[1.5,null,true], "logits": [['* ]]
}

@test "a file, standard input, an output, blank lines, a last line without end, and lines of any length are read alike" {
    printf '%s\n\n \t\r\n%s\r\n%s' "$good" "$good" "$good" >in
    printf '%s\n' "$good" "$good" "$good" >plain
    dlm-eval -c "$model" --loss plain >want
    [ "$(wc -l <want)" -eq 3 ]
    dlm-eval -c "$model" --loss in >out; cmp want out
    dlm-eval -c "$model" --loss - <in >out; cmp want out
    dlm-eval -c "$model" --loss <in >out; cmp want out
    dlm-eval -c "$model" --loss in -o named; cmp want named
    { printf '{"pad": "'; head -c 3000000 /dev/zero | tr '\0' x; printf '", "ids": [4]}\n{"ids": [4]}\n'; } >long
    dlm-eval -c "$model" --logits long >out
    [ "$(wc -l <out)" -eq 2 ]
    [ "$(head -n 1 out | sed 's/.*"logits"//')" = "$(tail -n 1 out | sed 's/.*"logits"//')" ]
    : >none
    [ -z "$(dlm-eval -c "$model" --logits none)" ]
}

@test "each answer is there before the next line is" {
    coproc E { dlm-eval -c "$model" --loss; }
    for i in 1 2 3; do
        printf '%s\n' "$good" >&"${E[1]}"
        read -r -t 60 line <&"${E[0]}"
        [[ $line == *'"is": [0, '* ]]
    done
    pid=$E_PID
    kill -TERM $pid # while it waits for a line
    code=0; wait $pid || code=$?
    [ $code -eq 143 ]
}

@test "seed, threads and --batch change no answer, and neither needs a tokenizer" {
    cp -r "$model" bare && rm bare/tokenizer.json bare/optimizer.safetensors bare/state.json bare/metrics.tsv
    echo '{"ids": [4, 3, 200, 7, 8, 9, 10], "clean": 1}' >ids
    dlm-eval -c bare --logits -j 1 ids >want
    dlm-eval -c bare --logits -j 1 -s 5 --batch 3 ids >out; cmp want out
    dlm-eval -c bare --logits -j 2 ids >out # threads may divide a sum otherwise
    paste -d '\n' <(sed 's/.*"logits": //' want | tr -cs '0-9.e-' '\n') <(sed 's/.*"logits": //' out | tr -cs '0-9.e-' '\n') |
        awk 'NR % 2 { a = $1; next } { d = a - $1; if (d < 0) d = -d; if (!(d <= 1e-5)) bad = 1; n++ } END { exit bad || n < 7 * 280 }'
    dlm-eval -c bare --loss - <<<"$good" >out
    [ -s out ]
    run --separate-stderr dlm-eval -c bare -d "$data"
    fails_with 1 "tokenizer.json"
}

@test "autoregressive: the logits of the ids as given; the loss from the ids alone" {
    printf '%s\n' '{"x": [4, 5, 6]}' '{"x": [4, 5, 6], "noisy": [0, 1, 1], "z": [0], "log_snr": null, "noise": 3}' >in
    dlm-eval -c "$causal" --loss in >out
    [[ $(tail -n 1 out) == *'"loss": [0, '*', "elbo": [0, '*', "kl": null, "is": null}' ]]
    whole=$(head -n 1 out | sed 's/.*"elbo": \[//; s/\].*//') part=$(tail -n 1 out | sed 's/.*"elbo": \[//; s/\].*//')
    [ "${whole#*, }" = "${part#*, }" ]
    # A causal network does not see what follows.
    printf '%s\n' '{"ids": [0, 4, 5, 6]}' '{"ids": [0, 4, 5, 99]}' | dlm-eval -c "$causal" --logits -j 1 | sed 's/.*"logits": //' >rows
    [ "$(head -n 1 rows | awk -F'], ' '{ print $1, $2, $3 }')" = "$(tail -n 1 rows | awk -F'], ' '{ print $1, $2, $3 }')" ]
    [ "$(head -n 1 rows)" != "$(tail -n 1 rows)" ]
    run --separate-stderr dlm-eval -c "$causal" --loss --noise uniform in
    fails_with 2 "^dlm-eval: --noise does not apply"
}

@test "a bad line is an error with file and line, and what came before it is answered" {
    bad() { # MODE PATTERN LINE
        printf '\n%s\n' "$3" >in
        run --separate-stderr dlm-eval -c "$model" "$1" in
        fails_with 1 "^dlm-eval: in:2:$2" || { echo "line: $3"; return 1; }
    }
    bad --logits '6: not JSON: ' '{"ids"'
    bad --logits '.*not JSON: ' '{"ids": [4]} x'
    bad --logits '.*not JSON: duplicate' '{"ids": [4], "ids": [5]}'
    bad --logits '.*not JSON: ' '{"ids": [99999999999999999999]}'
    bad --logits '.*not JSON: ' "$(printf '{"ids": [4], "a": "\377"}')"
    bad --logits ' not a JSON object' '[4]'
    bad --logits " the object has no field 'ids'" '{}'
    bad --logits " 'ids' is not an array" '{"ids": 4}'
    bad --logits " 'ids' is empty" '{"ids": []}'
    bad --logits " 'ids'.1. is not a token id" '{"ids": [4, 4.0]}'
    bad --logits " 'ids'.1. is -1, and the vocabulary has ids 0 to 279" '{"ids": [4, -1]}'
    bad --logits " 'ids'.0. is 280, and" '{"ids": [280]}'
    bad --logits " 'ids' has length 17, more than the model's context of 16" '{"ids": [4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4]}'
    bad --logits " 'clean' is 3, and 'ids' has length 2" '{"ids": [4, 5], "clean": 3}'
    bad --logits " 'clean' is not" '{"ids": [4, 5], "clean": -1}'
    bad --logits " 'clean' is not" '{"ids": [4, 5], "clean": "1"}'
    bad --loss " the object has no field 'x'" '{}'
    bad --loss " the object has no field 'z'" '{"x": [4]}'
    bad --loss " the object has no field 'noisy'" '{"x": [4], "z": [4], "log_snr": [1]}'
    bad --loss " the object has no field 'log_snr'" '{"x": [4], "z": [4], "noisy": [1]}'
    bad --loss " 'z' has length 2, and 'x' 1" '{"x": [4], "z": [4, 5], "log_snr": [1], "noisy": [1]}'
    bad --loss " 'log_snr' has length 0, and 'x' 1" '{"x": [4], "z": [4], "log_snr": [], "noisy": [1]}'
    bad --loss " 'noisy' has length 2, and 'x' 1" '{"x": [4], "z": [4], "log_snr": [1], "noisy": [1, 1]}'
    bad --loss " 'noisy'.0. is neither 0 nor 1" '{"x": [4], "z": [4], "log_snr": [1], "noisy": [2]}'
    bad --loss " 'log_snr'.0. is 9.01, outside -9 to 9" '{"x": [4], "z": [4], "log_snr": [9.01], "noisy": [1]}'
    bad --loss " 'log_snr'.0. is -1e.300, outside" '{"x": [4], "z": [4], "log_snr": [-1e300], "noisy": [1]}'
    bad --loss " 'log_snr'.0. is not a number" '{"x": [4], "z": [4], "log_snr": [null], "noisy": [1]}'
    bad --loss " 'x'.0. is the mask, 3" '{"x": [3], "z": [3], "log_snr": [1], "noisy": [1]}'
    bad --loss " 'z'.0. is 280, and" '{"x": [4], "z": [280], "log_snr": [1], "noisy": [1]}'
    bad --loss " unknown noise 'masqued'" '{"x": [4], "z": [4], "log_snr": [1], "noisy": [1], "noise": "masqued"}'
    bad --loss " 'noise' is not the name" '{"x": [4], "z": [4], "log_snr": [1], "noisy": [1], "noise": 0}'
    printf '%s\n' '{"ids": [4]}' '{"ids": [4' '{"ids": [4]}' >in
    run --separate-stderr dlm-eval -c "$model" --logits <in
    [ "$status" -eq 1 ] && [ "${#lines[@]}" -eq 1 ] && [[ $stderr == "dlm-eval: standard input:2:"*": not JSON: "* ]]
    run --separate-stderr dlm-eval -c "$model" --logits -o named in
    [ "$status" -eq 1 ] && [ ! -e named ]
    run --separate-stderr dlm-eval -c "$model" --logits nowhere
    fails_with 1 "^dlm-eval: cannot open 'nowhere': No such file"
    run --separate-stderr dlm-eval -c "$model" --logits .
    fails_with 1 "^dlm-eval: cannot read '.': Is a directory"
    yes '{"ids": [4, 5, 6, 7]}' | head -n 100 >in
    run --separate-stderr bash -c "dlm-eval -c '$model' --logits in >/dev/full"
    fails_with 1 "^dlm-eval: cannot write standard output: No space left"
    run --separate-stderr bash -c "yes '{\"ids\": [4]}' | dlm-eval -c '$model' --logits | head -n 2 >/dev/null; exit \${PIPESTATUS[1]}"
    [ "$status" -eq 141 ] && [ -z "$stderr" ]
}

@test "what does not belong together is misuse, told by name" {
    check() { local want=$1; shift; run --separate-stderr dlm-eval "$@"; fails_with 2 "^dlm-eval: .*$want"; }
    check "-c CKPT is missing" --logits x
    check "--logits and --loss exclude" -c "$model" --logits --loss x
    check "-d DIR is missing, or --task, --score, --logits or --loss" -c "$model"
    check "operand 'x': files are read with" -c "$model" -d "$data" x
    check "operand 'y': --loss reads one file" -c "$model" --loss x y
    check "--data does not apply to --logits" -c "$model" --logits -d "$data"
    check "--split does not apply" -c "$model" --logits --split val
    check "--tokens does not apply to --loss" -c "$model" --loss --tokens 5
    check "--levels does not apply" -c "$model" --loss --levels 4
    check "--noise does not apply to --logits" -c "$model" --logits --noise uniform
    check "unknown noise 'masqued'" -c "$model" --loss --noise masqued
}

@test "a score has the same bits whatever --batch is, and is the same within rounding on any number of threads" {
    dlm-eval -c "$model" -d "$data" -j 1 >want
    for n in 1 3 64; do
        dlm-eval -c "$model" -d "$data" -j 1 --batch $n >out; cmp want out
    done
    for j in 2 3; do
        dlm-eval -c "$model" -d "$data" -j $j >out
        e=$(tail -n 1 want | cut -f 6)
        near "$e" "$(tail -n 1 out | cut -f 6)" "$(awk -v e="$e" 'BEGIN { print 1e-6 * e }')"
        [ "$(cut -f 1-5,10,11 want)" = "$(cut -f 1-5,10,11 out)" ]
    done
}

# damage NAME: a copy of the model to spoil.
damage() { rm -rf "$1" && cp -r "$model" "$1" && rm -f "$1"/{optimizer.safetensors,state.json,metrics.tsv}; }
# refused NAME PATTERN: it cannot be opened, and one line says why.
refused() {
    run --separate-stderr dlm-eval -c "$1" --logits <<<'{"ids": [4]}'
    fails_with 1 "^dlm-eval: $1/$2"
}
# word N: eight bytes, little-endian.
word() { local n=$1 i s=; for i in 1 2 3 4 5 6 7 8; do s+=$(printf '\\x%02x' $((n & 255))); n=$((n >> 8)); done; printf "$s"; }
# tensors FILE HEADER BYTES [CLAIMED]: a file with this header, so many zeros of data, and perhaps a lie about the header's length.
tensors() { { word "${4:-${#2}}"; printf %s "$2"; head -c "$3" /dev/zero; } >"$1"; }

@test "a config that lacks a key, or asks for another model, is refused with its file and key" {
    config() { damage bad; sed -i "$1" bad/config.json; refused bad "config.json: $2"; }
    for key in hidden_size intermediate_size num_hidden_layers num_attention_heads vocab_size max_position_embeddings rope_theta rms_norm_eps attn_soft_cap \
        resid_scale head_scaling model_type noise_type; do
        config "/\"$key\"/d" "key '$key' is missing"
    done
    config 's/^{/{ "hidden_act": "gelu",/' "'hidden_act' is 'gelu'"
    config 's/^{/{ "activation": 7,/' "'activation' is 'not a name'"
    config 's/"num_attention_heads": 2/"num_attention_heads": 3/' "3 heads of 'head_dim' 8 do not make 'hidden_size' 16"
    config 's/"num_attention_heads": 2/"num_attention_heads": 3/; /head_dim/d' "3 heads of"
    config 's/"num_attention_heads": 2/"num_attention_heads": 0/' "'num_attention_heads' is not a whole number above 0"
    config 's/"num_attention_heads": 2/"num_attention_heads": 16/; s/"head_dim": 8/"head_dim": 1/' ".*heads of odd size"
    config 's/"hidden_size": 16/"hidden_size": 16.5/' "'hidden_size' is not a whole number"
    config 's/"hidden_size": 16/"hidden_size": -16/' "'hidden_size' is not a whole number"
    config 's/"tie_word_embeddings": false/"tie_word_embeddings": true/' "'tie_word_embeddings' is true"
    config 's/"use_qk_norm": true/"use_qk_norm": false/' "'use_qk_norm' is false"
    config 's/"max_log_snr": 9.0/"max_log_snr": 12/' "'max_log_snr' is 12"
    config 's/"model_type": "gidd"/"model_type": "llama"/' "'model_type' is 'llama'"
    config 's/"rope_theta": 10000.0/"rope_theta": "x"/' "'rope_theta' is not a number"
    config 's/"rms_norm_eps": 1e-06/"rms_norm_eps": 0/' ".*norm epsilon"
    config 's/^{/{ "rope_scaling": {"rope_type": "linear", "factor": 2},/' "'rope_scaling' scales"
    config 's/^{/[/' "line [0-9]*: not JSON"
    # Sizes that only config.json claims take no memory.
    damage bad; sed -i 's/"hidden_size": 16/"hidden_size": 1048576/; s/"head_dim": 8/"head_dim": 524288/; s/"intermediate_size": 64/"intermediate_size": 4194304/; s/"num_hidden_layers": 2/"num_hidden_layers": 5000/' bad/config.json
    refused bad "model.safetensors: tensor 'model[^']*' has shape \([0-9, ]*\), and config.json asks for \([0-9, ]*\)"
}

@test "a header that lies is refused before anything is taken for it" {
    header() { damage bad; tensors bad/model.safetensors "$1" "$2" ${4:-}; refused bad "model.safetensors: $3"; }
    a='"dtype":"F32","shape":[2],"data_offsets":'
    header '{}' 0 "a header of 1152921504606846976 bytes is claimed in a file of 10" $((1 << 60))
    header '{}' 0 "a header of 18446744073709551615 bytes" -1
    header '{}' 0 "a header of 3 bytes" 3
    header "{\"a\":{$a[0,8]},\"b\":{$a[4,12]}}" 12 "'b' begins at byte 4 of the data, inside the tensor that ends at byte 8"
    header "{\"a\":{$a[0,8]},\"b\":{$a[16,24]}}" 24 "'b' begins at byte 16 of the data, leaving a gap after byte 8"
    header "{\"a\":{$a[0,8]}}" 12 "tensors end at byte 8, the data at byte 12"
    header "{\"a\":{$a[0,8]}}" 4 "'a' is said to lie at bytes 0 to 8 of 4"
    header "{\"a\":{$a[0,8]},\"a\":{$a[8,16]}}" 16 "header, byte [0-9]*: duplicate object key"
    header '{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}' 8 "a dimension of 'a' is not a whole number"
    header '{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}' 0 "the shape of 'a' is too large"
    header '{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}}' 8 "'a' has 4611686018427387904 elements"
    header '{"a":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}}' 8 "'a' has the unknown dtype 'F7'"
    header '{}' 0 "tensor 'model.layers.0.self_attn.q_proj.weight' is missing"
    damage bad; truncate -s 5 bad/model.safetensors; refused bad "model.safetensors: 5 bytes are too few"
    damage bad; truncate -s -1 bad/model.safetensors; refused bad "model.safetensors: '[a-z_.0-9]*' is said to lie at bytes"
}

@test "weights that are no numbers are refused with the tensor's name" {
    for bits in '\x00\x00\xc0\x7f' '\x00\x00\x80\x7f' '\x00\x00\x80\xff'; do
        damage bad
        printf "$bits" | dd of=bad/model.safetensors bs=1 seek=$(($(stat -c %s bad/model.safetensors) - 4)) conv=notrunc status=none
        refused bad "model.safetensors: element [0-9]* of tensor '[a-z_.0-9]+' is -?(nan|inf)"
    done
}

@test "an index is held to its shards, and leads nowhere else" {
    q=model.layers.0.self_attn.q_proj.weight
    index() { damage bad; mv bad/model.safetensors bad/model-00001-of-00001.safetensors; printf '%s' "$1" >bad/model.safetensors.index.json; refused bad "$2"; }
    mkdir -p elsewhere && cp "$model/model.safetensors" outside.safetensors
    index '{"weight_map": {"'$q'": "../outside.safetensors"}}' "model.safetensors.index.json: '../outside.safetensors' is not the name of a shard"
    index '{"weight_map": {"'$q'": "/etc/passwd"}}' "model.safetensors.index.json: '/etc/passwd' is not the name"
    index '{"weight_map": {"'$q'": "config.json"}}' "model.safetensors.index.json: 'config.json' is not the name"
    index '{"weight_map": {"'$q'": 7}}' "model.safetensors.index.json: '$q' has no file name"
    index '{"weight_map": {"nothing": "model-00001-of-00001.safetensors"}}' "model-00001-of-00001.safetensors: tensor 'nothing', which .* is missing"
    index '{"weight_map": {"'$q'": "model-00001-of-00001.safetensors"}}' "model-00001-of-00001.safetensors: tensor '[a-z_.0-9]+' is not placed there"
    index '{"weight_map": []}' "model.safetensors.index.json: 'weight_map' is missing"
    index '{' "model.safetensors.index.json: line 1: "
    damage bad; rm bad/model.safetensors; echo '{"weight_map": {"a": "model-00001-of-00001.safetensors"}}' >bad/model.safetensors.index.json
    run --separate-stderr dlm-eval -c bad --logits <<<'{"ids": [4]}'
    fails_with 1 "cannot open 'bad/model-00001-of-00001.safetensors': No such file"
}
