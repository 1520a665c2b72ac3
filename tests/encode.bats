# The ids of a text against those of Hugging Face's tokenizers and of tiktoken, where python3 has them: long, hostile and in every script.

setup_file() {
    load setup
    export SHARED=$BATS_FILE_TMPDIR
    cd "$SHARED"
    command -v python3 >/dev/null || return 0
    python3 - >nasty <<'PY'
import random, sys, unicodedata
r = random.Random(7)
units = ["'", "'s", "'S", "'ll", "'Re", "'VE", "'\u017f", "'d", "a", "z", "B", "Hello", "WORLD", "camelCase", "longlowercaseletterrun", "7", "12345", " ", "  ",
         "\t", "\n", "\r\n", "\r", "\xa0", "\u3000", "\x85", "\u2028", "/", "!", "...", "-", "_", "\u0301", "\u0301\u0301", "\xe9", "\xc9", "\u01c5", "\u02b0",
         "\u4e00", "\xb2", "\u0663", "\U0001f600", "\U0001d400", "\x00", "\x7f", "\ufeff", "\u200b", "\u200d", "\ufffd", "\U0010ffff"]
ascii = "    \n\n\r\t''''sSdlLrReEvVxXyZaab019//!.-"
known = [chr(c) for c in range(0x20000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
out = []
for turn in range(3000):
    few = r.sample(units, 4) if turn % 3 == 0 else units
    out.append("".join(r.choice(few) for _ in range(r.randrange(1, 40))))
    out.append("".join(r.choice(ascii) for _ in range(r.randrange(1, 150))))
    out.append("".join(r.choice(known) for _ in range(r.randrange(1, 12))))
    out.append(" ".join("".join(r.choice("etaoinshrdlu") for _ in range(r.randrange(1, 40))) for _ in range(3)))
for unit in ("a", "ab", " ", "\n", " \n", "\u0301", "7", "=", "A", "\u4e00", "Aa", "'s", "\r\n\t"):
    out.append(unit * 3000)
out.append("".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(30000)))
sys.stdout.buffer.write("".join(out).encode("utf8"))
PY
    (head -c 150000 nasty | iconv -c -f UTF-8 -t UTF-8; corpus 100000) >learn
    for pattern in gpt2 cl100k o200k; do
        dlm-tokenize -q --train -V 3000 --pattern $pattern -o $pattern.json learn
        dlm-tokenize -t $pattern.json --ids -o $pattern.ids nasty
        dlm-tokenize -t $pattern.json nasty | dlm-tokenize -d | cmp - nasty
    done
}

setup() {
    load setup
    command -v python3 >/dev/null || skip "no python3"
    cd "$SHARED"
}

@test "a long and hostile text has the ids of Hugging Face's tokenizers" {
    python3 -c 'import tokenizers' 2>/dev/null || skip "python3 has no tokenizers"
    for pattern in gpt2 cl100k o200k; do
        python3 -c 'import sys, tokenizers
print(*tokenizers.Tokenizer.from_file(sys.argv[1]).encode(open("nasty", encoding="utf8", newline="").read()).ids)' $pattern.json | cmp - $pattern.ids
    done
}

@test "and those of tiktoken, from a tokenizer.json and from its rank file" {
    python3 -c 'import tiktoken' 2>/dev/null || skip "python3 has no tiktoken"
    for pattern in gpt2 cl100k o200k; do
        python3 - $pattern.json <<'PY' | cmp - $pattern.ids
import base64, json, sys, tiktoken
file = json.load(open(sys.argv[1]))
pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
if file["pre_tokenizer"]["type"] == "Sequence":
    pattern = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
printable = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
points = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)}
special = {t["content"] for t in file["added_tokens"]}
ranks = {bytes(points[c] for c in k): v for k, v in file["model"]["vocab"].items() if k not in special}
with open("ranks", "wb") as to:
    for piece, rank in sorted(ranks.items(), key=lambda item: item[1]):
        to.write(base64.b64encode(piece) + b" %d\n" % (rank - len(special)))
text = open("nasty", encoding="utf8", newline="").read()
print(*tiktoken.Encoding("dlm", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}).encode_ordinary(text))
PY
        dlm-tokenize -q -t ranks --pattern $pattern --ids nasty | tr ' ' '\n' >of_ranks
        tr ' ' '\n' <$pattern.ids | awk '{ print $1 - 4 }' | cmp - of_ranks
    done
}
