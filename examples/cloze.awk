# Cloze items from held-out documents: a word of each is left out, and is the answer.
#
#   dlm-shard --cat data --split val | dlm-tokenize -d --split nul | tr '\n\0' '\001\n' | LC_ALL=C awk -v items=1000 -v bytes=200 -f cloze.awk > cloze.jsonl
#
# With -v choices=4 the items are multiple choice: the word among the answers of other items, so that how common a word is tells nothing.
#
# A line of input is a document, with \001 for its line ends. Where there are dictionary entries ("Word \Word\, n." and below it the definition), the
# documents are those and the word is one of the definition. Which word goes by the golden ratio and the document's number, so that all places occur.

function quoted(s) {
    gsub(/\\/, "\\\\&", s)
    gsub(/"/, "\\\\&", s)
    gsub(/\t/, "\\t", s)
    gsub(/\001/, "\\n", s)
    return "\"" s "\""
}

# Take a word out of `text` behind byte `from`: prefix, answer and suffix of item n. False where there is none.
function cut(text, from, n,    at, found, k, turn, start, len) {
    text = substr(text, 1, bytes)
    for (at = from; match(substr(text, at), /[a-z,] [a-z]+[ ,;.\001]/); at += RSTART + RLENGTH - 3) {
        start[++found] = at + RSTART
        len[found] = RLENGTH - 2
    }
    if (!found)
        return 0
    turn = NR * 0.6180339887498949
    k = 1 + int((turn - int(turn)) * found)
    prefix[n] = substr(text, 1, start[k] - 1)
    answer[n] = substr(text, start[k], len[k])
    suffix[n] = substr(text, start[k] + len[k])
    return 1
}

# Item i with its answer and those of `choices` - 1 items behind it, all different; the right one is in each place in turn.
function put_choice(i, first, last,    k, n, j, listed, list, right, tried) {
    right = i % choices
    k = i
    for (n = 0; n < choices; n++) {
        if (n == right)
            j = i
        else {
            for (tried = first; tried <= last; tried++) {
                k = k < last ? k + 1 : first
                if (answer[k] != answer[i] && !(answer[k] in listed))
                    break
            }
            if (tried > last)
                return
            j = k
            listed[answer[k]] = 1
        }
        list = list (n ? "," : "") quoted(answer[j])
    }
    print "{\"context\":" quoted(prefix[i]) ",\"choices\":[" list "],\"answer\":" right ",\"suffix\":" quoted(suffix[i]) "}"
}

/[^\t -~\001]/ || length($0) < 20 { next }
{
    head = match($0, /[].)]\001/) # the head, with the word's origin, may run over several lines
    entry = head && $0 ~ /^[A-Z][^\001\\]* \\[^\001]*\\/
    # Entries from 1 on, others from `items` + 1 on.
    if (entry && entries < items)
        entries += cut($0, head, entries + 1)
    else if (!entry && others < items)
        others += cut($0, 1, items + others + 1)
}
END {
    first = entries >= 20 ? 1 : items + 1
    last = entries >= 20 ? entries : items + others
    for (i = first; i <= last; i++)
        if (choices)
            put_choice(i, first, last)
        else
            print "{\"prefix\":" quoted(prefix[i]) ",\"answer\":" quoted(answer[i]) ",\"suffix\":" quoted(suffix[i]) "}"
}
