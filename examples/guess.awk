# What cloze.awk's items get from guesses: any word of the training text, or the most frequent one. Rows as dlm-eval writes them, with their header.
#
#   dlm-shard --cat data --split train | dlm-tokenize -d | LC_ALL=C awk -v OFS='\t' -f guess.awk - cloze.jsonl choice.jsonl

function put(who, task, metric, p, n) {
    print who, task, metric, sprintf("%.6g", p), (who == "chance" ? 0 : n > 1 ? sprintf("%.6g", sqrt(p * (1 - p) / n)) : "NA"), n, "NA", "NA"
}

FILENAME == "-" || FILENAME == "" { # the training text
    line = $0
    while (match(line, /[a-z,] [a-z]+/)) {
        word = substr(line, RSTART + 2, RLENGTH - 2)
        if (!(word in count))
            words++
        if (++count[word] > count[likeliest])
            likeliest = word
        line = substr(line, RSTART + RLENGTH - 1)
    }
    next
}
match($0, /"choices":\[[^]]*\],"answer":[0-9]+/) {
    found = substr($0, RSTART + 11, RLENGTH - 11)
    right = substr(found, index(found, "]") + 11) + 0
    n = split(substr(found, 1, index(found, "]") - 1), choice, ",")
    best = 1
    for (i = 1; i <= n; i++) {
        gsub(/[" ]/, "", choice[i])
        if (count[choice[i]] + 0 > count[choice[best]] + 0)
            best = i
    }
    items["choice"]++
    good["choice"] += best == right + 1
    blind += 1 / n
    next
}
match($0, /"answer":" [a-z]+"/) {
    items["cloze"]++
    good["cloze"] += substr($0, RSTART + 11, RLENGTH - 12) == likeliest
}
END {
    print "checkpoint", "task", "metric", "value", "se", "n", "levels", "seed"
    if (items["cloze"]) {
        put("chance", "cloze", "exact_match", 1 / words, items["cloze"])
        put("unigram", "cloze", "exact_match", good["cloze"] / items["cloze"], items["cloze"])
    }
    if (items["choice"]) {
        put("chance", "choice", "accuracy_per_token", blind / items["choice"], items["choice"])
        put("unigram", "choice", "accuracy_per_token", good["choice"] / items["choice"], items["choice"])
    }
}
